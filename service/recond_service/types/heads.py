"""What heads are asked for, and what they found."""

from __future__ import annotations

from dataclasses import dataclass

from recond_models.heads.contract import Code, HeadInfo, HeadTask


@dataclass(frozen=True, slots=True)
class HeadRequest:
    """A head that is to run on the images of a request.

    Parameters
    ----------
    info
        Which one, and what it takes.
    wanted
        The client asked for it; else it only guards the others, and its result stays here.
    field
        Where it was asked for, for errors.
    """

    info: HeadInfo
    wanted: bool = True
    field: str = "spec.heads"


@dataclass(frozen=True, slots=True)
class LabelDescription:
    """What a value of a label map stands for.

    Parameters
    ----------
    value
        The value, 1 or more; 0 is the background.
    name
        Such as ``"white matter"``, or ``"lesion 2"``.
    code
        Its coded term, None where there is none.
    """

    value: int
    name: str
    code: Code | None = None


@dataclass(frozen=True, slots=True)
class Instance:
    """A lesion, or whatever else was found and numbered.

    Parameters
    ----------
    label
        Its value in the label map.
    first, last
        (slice, row, column) of the corners of the box around it, both included.
    confidence
        How sure the head is that it is one, 0 to 1.
    centre_mm
        Its centre in patient coordinates (LPS), mm; empty where position and orientation are not known.
    structure
        The structure of another head's label map that it lies in; empty where that was not asked for.
    """

    label: int
    first: tuple[int, int, int]
    last: tuple[int, int, int]
    confidence: float
    centre_mm: tuple[float, ...] = ()
    structure: str = ""


@dataclass(frozen=True, slots=True)
class Score:
    """The probability of a class of a whole slice or series.

    Parameters
    ----------
    group, name
        What is asked, and the class, as in `HeadContract.groups`.
    probability
        0 to 1.
    """

    group: str
    name: str
    probability: float


@dataclass(frozen=True, slots=True)
class Attention:
    """What an attention map is about.

    Parameters
    ----------
    group, name
        What was asked, and the class whose score the map explains, as in `HeadContract.groups`.
    """

    group: str
    name: str


@dataclass(frozen=True, slots=True)
class Measurement:
    """A measured quantity.

    Parameters
    ----------
    name
        Such as ``"volume"``.
    value
        In that unit.
    unit
        UCUM code, such as ``"mL"`` or ``"mm"``.
    label
        The label that it belongs to; 0 for all of them together.
    deviation
        Standard deviation as the probabilities of the head have it; None where that is not known.
    code
        Coded term of the quantity, None where there is none.
    """

    name: str
    value: float
    unit: str
    label: int = 0
    deviation: float | None = None
    code: Code | None = None


@dataclass(frozen=True, slots=True)
class HeadResult:
    """What a head says of a slice or of a volume.

    Parameters
    ----------
    head, version, weights_sha256, task
        Which head.
    stack
        Name of the stack; empty for a result of one slice that came before the stacks were known.
    volume
        Number of the volume in its stack.
    images
        Numbers of the images that it is about, in the order of the slices of the label map.
    rows, columns
        Of the label map, or of the attention maps; 0 where there are none.
    label_bytes
        1 or 2, bytes of a value of the label map; 0 where there is none.
    has_confidence
        A map of uint8 follows the label map: the probability of the label of each pixel times 255.
    labels
        What its values stand for.
    instances
        What was found, in the order of the labels.
    scores
        Probabilities of classes of whole slices.
    answers
        (group, class) for each group of a classification; the class is ``"unknown"`` where none is probable enough.
    attention
        What the attention maps are about, in their order: float32 (slices, rows, columns) each, one for each group.
    measurements
        What was measured.
    refusal
        Reason why the head did not run, such as ``"WRONG_CONTRAST"``; empty if it did.
    problem
        The same in a sentence.
    """

    head: str
    version: str
    weights_sha256: str
    task: HeadTask
    stack: str = ""
    volume: int = 0
    images: tuple[int, ...] = ()
    rows: int = 0
    columns: int = 0
    label_bytes: int = 0
    has_confidence: bool = False
    labels: tuple[LabelDescription, ...] = ()
    instances: tuple[Instance, ...] = ()
    scores: tuple[Score, ...] = ()
    answers: tuple[tuple[str, str], ...] = ()
    attention: tuple[Attention, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    refusal: str = ""
    problem: str = ""

    @property
    def map_bytes(self) -> int:
        """Bytes of the label map and of the confidence behind it, or of the attention maps."""
        pixels = len(self.images) * self.rows * self.columns
        return pixels * (self.label_bytes + self.has_confidence + 4 * len(self.attention))
