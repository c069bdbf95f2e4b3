"""Requests and frames on their way between the pipeline and the sandbox of a scan."""

from __future__ import annotations

import msgspec
import pytest

from recond_models.sampling import Sampling
from recond_service.processes import FrameLayout
from recond_service.scan.messages import FramePrepared, FromScan, OpenScan, ToScan
from recond_service.types import (
    ConditioningOptions,
    FrameIndex,
    Geometry,
    ImagePlace,
    Limits,
    OutputFormat,
    Part,
    PartFormat,
    PartRole,
    ScanRequest,
    Undersampling,
    UndersamplingKind,
    Window,
)


@pytest.mark.parametrize(
    "request_",
    [
        ScanRequest(),
        ScanRequest(
            parts=(Part(PartRole.KSPACE, PartFormat.ARRAY, "scan", 64, (1, 2, 4), "/proc/self/fd/7"),),
            outputs=(OutputFormat.NIFTI, OutputFormat.PNG),
            undersampling=Undersampling(UndersamplingKind.RANDOM, 4.0, 0.08),
            limits=Limits(max_images=3),
            conditioning=ConditioningOptions("pocs", 8, 0.99),
            complex_images=True,
        ),
    ],
)
def test_a_request_arrives_as_it_was_sent(request_: ScanRequest) -> None:
    opening = OpenScan(request_, 4, 1 << 30, 2 << 30, 120, 1 << 30)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(opening), type=ToScan) == opening


def prepared() -> FramePrepared:
    layout = FrameLayout(4, 32, 24, 8, 6, image_rows=16, image_columns=24, window=Window(8, 0, 16, 24), exponent=-40)
    unit = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    geometry = Geometry((1.0, 2.0, 3.0), *unit, (1.0, 1.0, 5.0))
    sampling = Sampling(4, 32, 24, 2.0, "uniform", 2, (8, 6))
    return FramePrepared(3, layout, sampling, 5, ImagePlace(3, FrameIndex(slice=2), geometry, 0))


def test_a_frame_arrives_as_it_was_sent() -> None:
    frame = prepared()
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(frame), type=FromScan) == frame


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("layout", "coils"), 0),
        (("layout", "rows"), -1),
        (("layout", "calibration_rows"), 33),
        (("layout", "image_rows"), -2),
        (("layout", "exponent"), 1 << 40),
        (("layout", "window", "first_row"), 20),
        (("sampling", "pattern"), "zigzag"),
        (("sampling", "calibration"), [1]),
        (("place", "geometry", "position"), [1.0, 2.0]),
        (("number",), "three"),
    ],
)
def test_a_frame_that_cannot_be_is_refused_where_it_arrives(path: tuple[str, ...], value: object) -> None:
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(prepared()))
    inner = fields
    for name in path[:-1]:
        inner = inner[name]
    assert path[-1] in inner
    inner[path[-1]] = value
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(fields), type=FromScan)


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
