"""Profiles: what becomes of every place of a raw-data file that may tell who was scanned.

Actions are those of DICOM PS3.15, table E.1-1a, by their letters. What a profile does not name is removed.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from recond_client.privacy.values import Values


class Action(enum.Enum):
    """What becomes of a value: the letter of DICOM, and a word for people."""

    REMOVE = ("X", "removed")
    UID = ("U", "another UID")
    DUMMY = ("D", "another name")
    ZERO = ("Z", "set to zero")
    CLEAN = ("C", "cleaned")
    KEEP = ("K", "kept")

    @property
    def letter(self) -> str:
        """The letter of DICOM."""
        return self.value[0]

    @property
    def said(self) -> str:
        """A word for people."""
        return self.value[1]


class Area(enum.Enum):
    """Where in a scan a place is."""

    HEADER = "XML header"
    ACQUISITION = "header of a readout"
    IMAGE = "header of an image"
    META = "attributes of an image"
    FILE = "HDF5 file"
    FASTMRI = "fastMRI file"
    STREAM = "MRD stream"


@dataclass(frozen=True)
class Rule:
    """What becomes of one place.

    Parameters
    ----------
    area, place
        Where: names of elements, joined by dots.
    action
        What is done.
    values
        For `CLEAN` and `KEEP`: what a value must be to stay. Anything else is removed, or for `DUMMY` with values, replaced.
    names
        For parameters with a name and a value: the names that stay; a name that ends in ``*`` stands for all with a number there.
    dicom
        The DICOM attribute that this corresponds to, if there is one.
    why
        Why it stays, or what else is to be known.
    """

    area: Area
    place: str
    action: Action
    values: Values | None = None
    names: frozenset[str] | None = None
    dicom: str = ""
    why: str = ""

    def keep(self, text: str) -> str | None:
        """Return what stays of a value as it is or cleaned, None if nothing does."""
        return None if self.values is None else self.values.keep(text)

    def lists(self, name: str) -> bool:
        """Whether a parameter of this name may stay."""
        names = self.names or frozenset()
        return name in names or (name.rstrip("0123456789") + "*" in names and name[-1:].isdecimal())


@dataclass(frozen=True)
class Profile:
    """A versioned profile.

    Parameters
    ----------
    name
        Name with version; what it does never changes without a new one.
    rules
        All places, in the order of the schema.
    """

    name: str
    rules: tuple[Rule, ...]

    @cached_property
    def _by_area(self) -> Mapping[Area, Mapping[str, Rule]]:
        found: dict[Area, dict[str, Rule]] = {area: {} for area in Area}
        for rule in self.rules:
            found[rule.area][rule.place] = rule
        return found

    @cached_property
    def _containers(self) -> frozenset[str]:
        places = list(self._by_area[Area.HEADER])
        return frozenset(
            ".".join(place.split(".")[:depth]) for place in places for depth in range(place.count(".") + 1)
        )

    def rule(self, area: Area, place: str) -> Rule | None:
        """Return what becomes of a place; None if it is not named."""
        return self._by_area[area].get(place)

    def is_container(self, place: str) -> bool:
        """Whether an element of the XML header has elements that are named."""
        return place in self._containers


REMOVED_UNKNOWN: Final = "(anything else)"
"""Stands for what a profile does not name: names that are not known might tell something themselves."""
