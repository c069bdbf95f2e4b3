"""Fixtures of the tests of conditioning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from field_scans import Outcome, read_file, read_stream
from raw_builders import Readout, write_mrd


@pytest.fixture(params=["file", "stream"])
def read(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Outcome]:
    """Reconstructs readouts from a file, or while they are measured."""

    def read_(header: str, readouts: Sequence[Readout], *, pocs: bool = False) -> Outcome:
        if request.param == "stream":
            return read_stream(header, readouts, pocs=pocs)
        return read_file(write_mrd(tmp_path / "scan.h5", header, readouts), pocs=pocs)

    return read_
