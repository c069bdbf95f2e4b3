"""Requests on their way to the process that serves them."""

from __future__ import annotations

import json

import pytest

from recond_service.scanprocess.codec import request_from_json, request_to_json
from recond_service.types import (
    ConditioningOptions,
    Limits,
    OutputFormat,
    Part,
    PartFormat,
    PartRole,
    ScanRequest,
    Undersampling,
    UndersamplingKind,
)


def test_a_request_arrives_as_it_was_sent() -> None:
    request = ScanRequest(
        parts=(Part(PartRole.KSPACE, PartFormat.ARRAY, "scan", 64, (1, 2, 4), "/proc/self/fd/7"),),
        outputs=(OutputFormat.NIFTI, OutputFormat.PNG),
        undersampling=Undersampling(UndersamplingKind.RANDOM, 4.0, 0.08),
        limits=Limits(max_images=3),
        conditioning=ConditioningOptions("pocs", 8, 0.99),
    )
    assert request_from_json(json.loads(json.dumps(request_to_json(request))), ["/proc/self/fd/7"]) == request
    assert request_from_json(json.loads(json.dumps(request_to_json(ScanRequest()))), []) == ScanRequest()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"partial_fourier": "homodyne"}, "zero-fill or pocs"),
        ({"virtual_coils": -1}, "virtual_coils is -1"),
        ({"coil_energy": 1.5}, "coil_energy is 1.5"),
        ({"coil_energy": float("nan")}, "coil_energy is nan"),
    ],
)
def test_options_that_cannot_be(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConditioningOptions(**options)  # type: ignore[arg-type]
