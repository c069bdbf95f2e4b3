"""What came back from a gateway."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recond_client.errors import RecondError
from recond_gateway.mrd.layouts import DataType

_LONG: Final = re.compile(r"(DEBUG   |INFO    |WARNING |ERROR   |CRITICAL)")
_SHORT: Final = re.compile(r"(DBG|WRN|ERR)\b[:\s]*")
_SHORT_NAMES: Final = {"DBG": "DEBUG", "WRN": "WARNING", "ERR": "ERROR"}


@dataclass(frozen=True, slots=True)
class Line:
    """A TEXT of the gateway's.

    Parameters
    ----------
    seconds
        When it came, from the beginning of the connection.
    severity
        ``DEBUG``, ``INFO``, ``WARNING``, ``ERROR`` or ``CRITICAL``; empty for a text that does not say.
    text
        The text without its severity.
    """

    seconds: float
    severity: str
    text: str

    @classmethod
    def parse(cls, seconds: float, text: str) -> Line:
        """Read a text with either convention: severities padded to 8 characters, or the 3 letters of scanners."""
        if match := _LONG.match(text):
            return cls(seconds, match[1].strip(), text[match.end() :].strip())
        if match := _SHORT.match(text):
            return cls(seconds, _SHORT_NAMES[match[1]], text[match.end() :].strip())
        return cls(seconds, "", text.strip())

    @property
    def failed(self) -> bool:
        """Whether it tells of an error."""
        return self.severity in {"ERROR", "CRITICAL"}


@dataclass(frozen=True, slots=True, eq=False)
class ReceivedImage:
    """An image.

    Parameters
    ----------
    seconds
        When its last byte came, from the beginning of the connection.
    sent
        When the last acquisition of its slice, contrast, phase, repetition and set that was sent until then had been sent;
        None if there was none with these counters.
    header
        One item of `IMAGE_HEADER`.
    attributes
        XML of its meta attributes.
    pixels
        The pixels as bytes; empty if they were not kept.
    """

    seconds: float
    sent: float | None
    header: np.void
    attributes: str
    pixels: bytes

    @property
    def series(self) -> int:
        """Its series."""
        return int(self.header["image_series_index"])

    @property
    def latency(self) -> float | None:
        """Seconds from its last acquisition to its arrival."""
        return None if self.sent is None else self.seconds - self.sent

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Channels, slices, rows and columns: the matrix has x, the columns, first."""
        x, y, z = (int(side) for side in self.header["matrix_size"])
        return int(self.header["channels"]), z, y, x

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The type of its pixels."""
        return DataType(int(self.header["data_type"])).dtype

    @property
    def array(self) -> NDArray[np.generic]:
        """The pixels as an array of `shape`."""
        return np.frombuffer(self.pixels, self.dtype).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Sent:
    """What a scanner sent.

    Parameters
    ----------
    acquisitions, waveforms, size
        Numbers of each, and bytes.
    seconds
        From the beginning of the connection to the end of sending.
    behind
        The most seconds that an acquisition went out later than it was due.
    complete
        Whether all of the file went out; not, if the gateway ended the session first.
    """

    acquisitions: int
    waveforms: int
    size: int
    seconds: float
    behind: float
    complete: bool


@dataclass(frozen=True, slots=True)
class Replay:
    """A scan that was played.

    Parameters
    ----------
    timing
        Where the times came from.
    sent
        What went out.
    images, lines
        What came back, in its order.
    closed
        Whether the gateway ended the session with CLOSE, as the protocol has it.
    seconds
        The whole session.
    failure
        Why the session did not end as it should, None if it did.
    """

    timing: str
    sent: Sent
    images: Sequence[ReceivedImage]
    lines: Sequence[Line]
    closed: bool
    seconds: float
    failure: RecondError | None

    @property
    def verdict(self) -> Line | None:
        """The last line of the gateway's that tells of success or an error; None if there was none."""
        return next((line for line in reversed(self.lines) if line.failed or line.severity == "INFO"), None)
