"""What the reader of an image should know."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Note:
    """Something that was noticed on a frame and that the reader of its image should know.

    Parameters
    ----------
    code
        Short name for programs, lower case with hyphens, such as ``"zero-coil"``.
    message
        A sentence for people: what it is, and what it means for the image.
    """

    code: str
    message: str
