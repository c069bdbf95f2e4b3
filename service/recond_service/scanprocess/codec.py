"""The shared types as JSON, for the channel between the front end and a scan process."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from recond_service.types import (
    ConditioningOptions,
    Figures,
    Finding,
    FrameIndex,
    Geometry,
    Limits,
    OutputFormat,
    Part,
    PartFormat,
    PartRole,
    ScanRequest,
    Severity,
    Undersampling,
    UndersamplingKind,
)

Json = dict[str, Any]


def request_to_json(request: ScanRequest) -> Json:
    """Return a request without the places of its parts."""
    return asdict(request)


def request_from_json(data: Json, paths: Iterable[str]) -> ScanRequest:
    """Return the request of `request_to_json`, its parts being at `paths`."""
    undersampling = data["undersampling"]
    return ScanRequest(
        parts=tuple(
            Part(
                PartRole(part["role"]),
                PartFormat(part["format"]),
                part["name"],
                part["size_bytes"],
                tuple(part["shape"]),
                path,
            )
            for part, path in zip(data["parts"], paths, strict=True)
        ),
        outputs=tuple(OutputFormat(output) for output in data["outputs"]),
        undersampling=undersampling
        and Undersampling(
            UndersamplingKind(undersampling["kind"]), undersampling["acceleration"], undersampling["center_fraction"]
        ),
        limits=Limits(**data["limits"]),
        conditioning=ConditioningOptions(**data["conditioning"]),
        stack=data["stack"],
    )


def index_from_json(data: Json) -> FrameIndex:
    """Return the index whose `asdict` this is."""
    return FrameIndex(**{name: int(value) for name, value in data.items()})


def geometry_from_json(data: Json | None) -> Geometry | None:
    """Return the geometry whose `asdict` this is.

    Raises
    ------
    ValueError
        If a vector has not three finite numbers.
    """
    if data is None:
        return None
    vectors = {}
    for name in ("position", "row_direction", "column_direction", "slice_direction", "spacing"):
        x, y, z = (float(value) for value in data[name])
        if not all(math.isfinite(value) for value in (x, y, z)):
            raise ValueError(f"{name} is not finite")
        vectors[name] = (x, y, z)
    return Geometry(**vectors)


def figures_from_json(data: Json) -> Figures:
    """Return the figures whose `asdict` this is."""
    return Figures(**{name: None if value is None else float(value) for name, value in data.items()})


def finding_from_json(data: Json) -> Finding:
    """Return the finding whose `asdict` this is."""
    return Finding(str(data["code"]), Severity(data["severity"]), str(data["message"]), int(data["count"]))
