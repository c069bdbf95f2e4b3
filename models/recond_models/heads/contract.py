"""What a head takes and what it returns: written beside its weights, read by everything that offers, runs or measures it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

HeadTask = Literal["segmentation", "lesions", "classification"]
"""A label for every pixel; instances of one kind, found and numbered; classes of whole slices."""

_MOST_CLASSES: Final = 255
_MOST_GROUPS: Final = 16
_MOST_SLICES: Final = 31


@dataclass(frozen=True, slots=True)
class Code:
    """A coded term, as DICOM has it: PS3.3, table 8.8-1.

    Parameters
    ----------
    value, scheme, meaning
        Code value, designator of its scheme such as ``"SCT"`` (SNOMED CT), ``"DCM"`` or ``"UCUM"``, and the words.
    """

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True)
class HeadClass:
    """A class that a head tells apart.

    Parameters
    ----------
    name
        As in results, such as ``"white matter"``.
    code
        Its coded term, None where there is none.
    """

    name: str
    code: Code | None = None


@dataclass(frozen=True, slots=True)
class HeadGroup:
    """Classes that exclude one another: their probabilities add up to 1.

    Parameters
    ----------
    name
        What they answer, such as ``"contrast"``.
    classes
        In the order of the outputs of the network. Of a segmentation the first is the background, and the others have the labels
        1, 2, ... in this order.
    least_probability
        A class that is less probable than this is not named: the answer is ``"unknown"``.
    """

    name: str
    classes: tuple[HeadClass, ...]
    least_probability: float = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(each.name for each in self.classes)


@dataclass(frozen=True, slots=True)
class HeadContract:
    """What a head takes and what it returns.

    Parameters
    ----------
    task
        What kind of head it is.
    groups
        What it tells. A segmentation and the search for lesions have one group.
    slices
        Slices that the network sees at once, an odd number: the one it is about, and its neighbours on both sides.
    pixel_mm
        Pixel size that images are brought to, mm; 0 for heads that take images as they are.
    fewest_slices
        Of a volume; with fewer it refuses.
    coarsest_mm
        Largest pixel and largest distance of slices, mm; beyond these it refuses.
    anatomy
        Part of the body, such as ``"head"``; empty for any.
    contrasts
        Contrasts that it was made for, in the words of the head `series`; empty for any.
    detection
        Of a head that searches for lesions: what counts as one, as `recond_models.heads.lesions.DetectionRules.to_json` has it.

    Raises
    ------
    ValueError
        A field cannot be.
    """

    task: HeadTask
    groups: tuple[HeadGroup, ...]
    slices: int = 1
    pixel_mm: float = 1.0
    fewest_slices: int = 1
    coarsest_mm: tuple[float, float] = (3.0, 10.0)
    anatomy: str = ""
    contrasts: tuple[str, ...] = ()
    detection: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.task not in get_args(HeadTask):
            raise ValueError(f"task is {self.task!r}; it can be {', '.join(get_args(HeadTask))}")
        if not 1 <= len(self.groups) <= (_MOST_GROUPS if self.task == "classification" else 1):
            raise ValueError(f"a head for {self.task} cannot have {len(self.groups)} groups of classes")
        for group in self.groups:
            if not 2 <= len(group.classes) <= _MOST_CLASSES or len(set(group.names)) < len(group.classes):
                raise ValueError(f"the group {group.name!r} needs 2 to {_MOST_CLASSES} classes of different names")
            if not 0 <= group.least_probability <= 1:
                raise ValueError(f"least_probability of {group.name!r} is {group.least_probability}; it is a part of 1")
        if not (1 <= self.slices <= _MOST_SLICES and self.slices % 2):
            raise ValueError(f"slices is {self.slices}; it must be an odd number up to {_MOST_SLICES}")
        if self.fewest_slices < 1:
            raise ValueError(f"fewest_slices is {self.fewest_slices}; it must be 1 or more")
        sizes = (self.pixel_mm, *self.coarsest_mm)
        if len(self.coarsest_mm) != 2 or not all(math.isfinite(size) and size >= 0 for size in sizes):
            raise ValueError(f"pixel_mm and coarsest_mm are {sizes}; they must be finite and not negative")

    @property
    def halo(self) -> int:
        """Neighbours on each side of a slice that the network sees."""
        return self.slices // 2

    @property
    def outputs(self) -> int:
        """Channels that the network returns: one for each class of each group."""
        return sum(len(group.classes) for group in self.groups)

    @property
    def whole_volumes(self) -> bool:
        """It needs a complete series; else every slice by itself will do."""
        return self.task != "classification"

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary of plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: object) -> HeadContract:
        """Return what `to_json` described.

        Raises
        ------
        ValueError
            Fields are missing, unknown or of another type, or the contract cannot be.
        """
        names = {entry.name for entry in dataclasses.fields(cls)}
        if not isinstance(data, dict) or not {"task", "groups"} <= set(data) <= names:
            raise ValueError(f"the contract of a head has the fields {', '.join(sorted(names))}, got {data!r}")
        values = dict(data)
        try:
            values["groups"] = tuple(_group(group) for group in data["groups"])
            if "coarsest_mm" in values:
                values["coarsest_mm"] = tuple(float(size) for size in values["coarsest_mm"])
            if "contrasts" in values:
                values["contrasts"] = tuple(str(name) for name in values["contrasts"])
            for name in ("slices", "fewest_slices"):
                if name in values and (not isinstance(values[name], int) or isinstance(values[name], bool)):
                    raise TypeError(f"{name} is {values[name]!r}, no whole number")
            if not isinstance(values.get("detection", {}), dict):
                raise TypeError(f"detection is {values['detection']!r}, no object")
            if "pixel_mm" in values:
                values["pixel_mm"] = float(values["pixel_mm"])
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise ValueError(f"a field of the contract of a head cannot be read: {error!r}") from error


def _group(data: dict[str, Any]) -> HeadGroup:
    classes = tuple(
        HeadClass(str(each["name"]), None if each.get("code") is None else Code(**each["code"]))
        for each in data["classes"]
    )
    return HeadGroup(str(data["name"]), classes, float(data.get("least_probability", 0.0)))


@dataclass(frozen=True, slots=True)
class HeadInfo:
    """A head as a request names it and a model server runs it.

    Parameters
    ----------
    name, version, weights_sha256
        Which one.
    contract
        What it takes and returns.
    attention
        Rows and columns of the attention map that it can make of a slice, see `recond_models.heads.attention`; (0, 0) for none.
    """

    name: str
    version: str
    weights_sha256: str
    contract: HeadContract = field(repr=False)
    attention: tuple[int, int] = (0, 0)
