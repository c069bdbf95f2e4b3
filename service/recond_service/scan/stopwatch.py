"""Where the time of a scan process goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from recond_service.types import AcquisitionSource, KspaceScan, RawScan

Item = TypeVar("Item")


class Stopwatch:
    """Adds up seconds per stage. A stage that runs inside another is taken off the outer one."""

    def __init__(self) -> None:
        self.seconds = {"ingest": 0.0, "conditioning": 0.0, "encode": 0.0}
        self._inner = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to stage `name`."""
        outer, self._inner = self._inner, 0.0
        start = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            self.seconds[name] += elapsed - self._inner
            self._inner = outer + elapsed

    def timing_reads(self, scan: RawScan | KspaceScan) -> RawScan | KspaceScan:
        """Return the scan such that reading its samples counts as ingest, although it happens while frames are made."""
        if isinstance(scan, KspaceScan):
            return replace(scan, planes=self._timed(scan.planes))
        noise = None if scan.noise is None else self._timed_source(scan.noise)
        return replace(scan, source=self._timed_source(scan.source), noise=noise)

    def _timed_source(self, source: AcquisitionSource) -> AcquisitionSource:
        return replace(source, blocks=self._timed(source.blocks))

    def _timed(self, opened: Callable[[], Iterator[Item]]) -> Callable[[], Iterator[Item]]:
        def read() -> Iterator[Item]:
            items = opened()
            while True:
                with self.stage("ingest"):
                    item = next(items, None)
                if item is None:
                    return
                yield item

        return read
