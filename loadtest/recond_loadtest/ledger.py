"""What became of every request: each is written down once when it is due, and ends in exactly one way."""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from recond_loadtest.planned import Fault, PlannedRequest
from recond_loadtest.wires import Call, End

Outcome = Literal["ok", "error", "cancelled", "lost"]
#: Faults after which no image can be right.
BAD_DATA: Final = frozenset({"poison", "truncate"})

_DIGITS: Final = 6

Images = tuple[NDArray[np.float32], ...]


@dataclass(slots=True)
class RequestRecord:
    """One request from its intended time to its end. Times are seconds after the start of the run.

    Parameters
    ----------
    number
        Place in the schedule, from 0.
    kind
        Name of its class.
    fault
        What was wrong with it on purpose.
    frames
        Images that it asks for, 0 if that is not known.
    intended
        When it was due.
    measured
        It came after the warm-up.
    deadline
        Seconds from `intended`, None for none.
    sent
        When it was handed to the network.
    first_image
        When the first image came, None if none did.
    end
        When the last answer or the error came.
    outcome
        ``"cancelled"`` only if the scenario cancelled it; ``"lost"`` if it had no end within the bound.
    status, reason, message
        As the server said.
    retry_after
        Seconds, if the server said when to come back.
    wrong
        Whether its images differ from those that the same input gave before; None if there was nothing to compare.
    """

    number: int
    kind: str
    fault: Fault
    frames: int
    intended: float
    measured: bool
    deadline: float | None = None
    sent: float | None = None
    first_image: float | None = None
    end: float | None = None
    outcome: Outcome = "lost"
    status: str = ""
    reason: str = ""
    message: str = ""
    retry_after: float | None = None
    wrong: bool | None = None

    @property
    def latency(self) -> float | None:
        """Seconds from the intended time to the end, None if it was lost."""
        return None if self.end is None or self.outcome == "lost" else self.end - self.intended

    def rounded(self) -> RequestRecord:
        """Return the record with its times in whole microseconds, as they are stored."""
        times = {name: getattr(self, name) for name in ("intended", "sent", "first_image", "end", "retry_after")}
        return dataclasses.replace(
            self, **{name: round(value, _DIGITS) for name, value in times.items() if value is not None}
        )

    @property
    def good(self) -> bool:
        """It succeeded, with good data and the right images, within its deadline."""
        late = self.deadline is not None and self.end is not None and self.end - self.intended > self.deadline
        return self.outcome == "ok" and self.fault not in BAD_DATA and not self.wrong and not late


class Ledger:
    """Keeps the records of a run, and compares images in a thread of its own, off the path of the requests.

    Parameters
    ----------
    expected
        Images by (class, input).
    tolerance
        Largest relative error of an image.
    """

    def __init__(self, expected: Mapping[tuple[str, int], Images], tolerance: float) -> None:
        self.records: list[RequestRecord] = []
        self.double_ends = 0
        self._expected = expected
        self._tolerance = tolerance
        self._open: dict[int, tuple[RequestRecord, PlannedRequest]] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._images: queue.SimpleQueue[tuple[RequestRecord, Images, Images] | None] = queue.SimpleQueue()
        self._judge = threading.Thread(target=self._compare, name="compare-images", daemon=True)
        self._judge.start()

    @property
    def outstanding(self) -> int:
        """Number of requests without an end."""
        return len(self._open)

    def due(self, record: RequestRecord, planned: PlannedRequest) -> None:
        """Write down a request that is due; its number is its place among the records."""
        with self._changed:
            self.records.append(record)
            self._open[record.number] = (record, planned)

    def ended(self, call: Call, end: End) -> None:
        """Write down the end of a request."""
        with self._changed:
            entry = self._open.pop(call.number, None)
            if entry is None:
                # Given up as lost, and it came after all: lost it stays. Otherwise the same request ended twice.
                self.double_ends += 0 if self._closed else 1
                return
            record, planned = entry
            record.end = end.at
            record.first_image = call.first_image_at
            record.status, record.reason, record.message = end.status, end.reason, end.message
            record.retry_after = end.retry_after
            if end.status == "OK":
                record.outcome = "ok"
            elif call.abandoned:
                record.outcome = "lost"
            elif end.status == "CANCELLED" and call.withdrawn:
                record.outcome = "cancelled"
            else:
                record.outcome = "error"
            self._changed.notify_all()
        expected = self._expected.get((planned.kind, planned.input))
        if record.outcome == "ok" and expected is not None and planned.fault not in BAD_DATA:
            self._images.put((record, end.images, expected))

    def wait_below(self, outstanding: int, timeout: float | None = None) -> bool:
        """Wait until fewer than `outstanding` requests have no end; False if that took longer than `timeout`."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._open) < outstanding, timeout)

    def close(self) -> None:
        """Give up what has no end yet, and wait for the comparisons."""
        with self._changed:
            self._closed = True
            self._open.clear()
        self._images.put(None)
        self._judge.join()

    def _compare(self) -> None:
        while (item := self._images.get()) is not None:
            record, images, expected = item
            record.wrong = differ(images, expected, self._tolerance)


def differ(images: Images, expected: Images, tolerance: float) -> bool:
    """Tell whether images differ in number, shape or content.

    Parameters
    ----------
    images, expected
        float32 (rows, columns) each.
    tolerance
        Largest ratio of the norm of the difference to the norm of what was expected, image by image.
    """
    if len(images) != len(expected):
        return True
    for image, wanted in zip(images, expected, strict=True):
        if image.shape != wanted.shape:
            return True
        error = float(np.linalg.norm(image - wanted))
        if not error <= tolerance * float(np.linalg.norm(wanted)):  # so that what is no number is wrong
            return True
    return False
