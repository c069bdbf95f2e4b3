"""What a reconstruction tells, in this order: `Admitted`, `Planned`, an `ImageReady` for each image, `FileReady`, `Finished`.

`HeadReady` comes as heads are done: those of single slices between the images, those of volumes after the last one. An analysis of
images tells `Admitted`, `HeadReady`, `FileReady`, `Analysed`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from recond_models.model import ModelInfo
from recond_models.note import Note
from recond_service.pipeline.evidence import Evidence
from recond_service.processes import SharedBlock
from recond_service.types import Figures, Finding, HeadResult, ImagePlace, OutputFormat, StackSummary


@dataclass(frozen=True, slots=True)
class Admitted:
    """The request was let in: its source is going to be read."""


@dataclass(frozen=True, slots=True)
class Planned:
    """It is decided which model runs.

    Parameters
    ----------
    model
        The model.
    reason
        Why, in a sentence.
    images
        How many images are going to come, 0 while that is not known.
    """

    model: ModelInfo
    reason: str
    images: int


@dataclass(frozen=True, slots=True)
class ImageReady:
    """An image is finished.

    Parameters
    ----------
    place
        Number, counters, geometry and stack.
    shape
        (rows, columns).
    is_complex
        Pixels are complex64; else float32, magnitudes.
    uncertainty
        The standard deviations of the magnitudes follow the pixels, float32.
    pixels
        The image in the units of the measured data, C order. Valid until the sink returns.
    residual
        ``||A x - y|| / ||y||`` over its samples; None where that is not known.
    notes
        What the model noticed on it.
    """

    place: ImagePlace
    shape: tuple[int, int]
    is_complex: bool
    uncertainty: bool
    pixels: SharedBlock
    residual: float | None = None
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class FileReady:
    """An output file is written.

    Parameters
    ----------
    format
        Its format.
    content
        The file. Valid until the sink returns.
    stack
        Name of the stack that the file holds alone; empty where one file of this format holds all.
    part
        ``"phase"`` where it holds the phase of complex images alone, ``"uncertainty"`` for that, the name of a head for its
        label map, ``"series_attention-contrast"`` for an attention map, else empty.
    """

    format: OutputFormat
    content: SharedBlock
    stack: str
    part: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a reconstruction that went well.

    Parameters
    ----------
    model
        What made the images.
    images
        How many there were.
    shape
        (images, rows, columns).
    order
        Numbers of the images in the order of the output volume.
    stacks
        What the output consists of.
    figures
        Quality figures.
    reference
        Where the reference came from, empty without one.
    findings
        What was noticed.
    seconds
        Time by stage.
    evidence
        What `auto` decided by; None where a rule or the user chose the model.
    """

    model: ModelInfo
    images: int
    shape: tuple[int, ...]
    order: tuple[int, ...]
    stacks: tuple[StackSummary, ...]
    figures: Figures
    reference: str
    findings: tuple[Finding, ...]
    seconds: dict[str, float]
    evidence: Evidence | None = None


@dataclass(frozen=True, slots=True)
class HeadReady:
    """A head has a result.

    Parameters
    ----------
    result
        What it found.
    maps
        Its label map and the confidence behind it, or its attention maps, `HeadResult.map_bytes`; None where it has none. Valid
        until the sink returns.
    """

    result: HeadResult
    maps: SharedBlock | None


@dataclass(frozen=True, slots=True)
class Compared:
    """Visits were compared.

    Parameters
    ----------
    report
        A JSON object, UTF-8.
    table
        CSV, UTF-8.
    """

    report: bytes
    table: bytes


@dataclass(frozen=True, slots=True)
class Analysed:
    """The end of an analysis of images that went well; fields as in `Finished`."""

    shape: tuple[int, ...]
    stacks: tuple[StackSummary, ...]
    findings: tuple[Finding, ...]
    seconds: dict[str, float]


Event = Admitted | Planned | ImageReady | HeadReady | FileReady | Finished | Compared | Analysed

Sink = Callable[[Event], Awaitable[None]]
"""Takes events one after another. While it does not return the reconstruction waits, and with it, through `Source`, the sender."""
