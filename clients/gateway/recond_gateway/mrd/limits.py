"""How large messages may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LARGEST_BATCH: Final = 3_900_000
"""Bytes of acquisitions that one message to the service holds with room for its framing; also the largest acquisition."""


@dataclass(frozen=True, slots=True)
class WireLimits:
    """What is taken from a stream; a message that announces more is refused before memory is taken for it.

    Parameters
    ----------
    batch_bytes
        Most bytes of acquisitions in one message of the parser, at most `LARGEST_BATCH`. A larger acquisition comes alone.
    text_bytes
        Largest header, configuration, text, answer or set of image attributes.
    query_bytes
        Largest query.
    data_bytes
        Most bytes of pixels in an image, of items in an array, and of samples in a waveform.

    Raises
    ------
    ValueError
        A limit is not positive, or `batch_bytes` is over `LARGEST_BATCH`.
    """

    batch_bytes: int = 1 << 20
    text_bytes: int = 16 << 20
    query_bytes: int = 4096
    data_bytes: int = 64 << 20

    def __post_init__(self) -> None:
        for name in ("batch_bytes", "text_bytes", "query_bytes", "data_bytes"):
            if getattr(self, name) < 1:
                msg = f"{name} is {getattr(self, name)}; it must be positive"
                raise ValueError(msg)
        if self.batch_bytes > LARGEST_BATCH:
            msg = f"batch_bytes is {self.batch_bytes}; the service takes at most {LARGEST_BATCH}"
            raise ValueError(msg)

    @property
    def largest_message(self) -> int:
        """Bytes of the largest message that is taken: an image with attributes, or an acquisition."""
        framing = 1024
        return framing + max(self.text_bytes + self.data_bytes, LARGEST_BATCH, self.query_bytes)
