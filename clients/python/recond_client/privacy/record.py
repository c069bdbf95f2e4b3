"""What was taken out, without what it was."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from recond_client.privacy.patient_map import PatientMap
from recond_client.privacy.profile import Action, Area, Profile
from recond_client.privacy.pseudonyms import Pseudonyms


@dataclass(frozen=True)
class Removed:
    """One place where something went or changed.

    Parameters
    ----------
    area, place
        Where, by names that the profile knows.
    action
        What was done.
    count
        How many values.
    """

    area: Area
    place: str
    action: Action
    count: int = 1


class Treatment:
    """Collects what is taken out of a scan.

    Parameters
    ----------
    profile
        What is done.
    key
        Of the site, 32 bytes.
    """

    def __init__(self, profile: Profile, key: bytes) -> None:
        self.profile = profile
        self.pseudonyms = Pseudonyms(key)
        self._counts: Counter[tuple[Area, str, Action]] = Counter()
        self._values: dict[str, list[str]] = {}
        self._replaced: dict[str, str] = {}

    @property
    def removed(self) -> tuple[Removed, ...]:
        """What was done so far, in the order in which it was first done."""
        return tuple(Removed(*where, count) for where, count in self._counts.items())

    @property
    def map(self) -> PatientMap:
        """What was taken out so far."""
        values = {place: tuple(texts) for place, texts in self._values.items()}
        return PatientMap(values, self._replaced, self.profile.name)

    def note(self, area: Area, place: str, action: Action, original: str | None = None, count: int = 1) -> None:
        """Note that something was done at a place, and keep the original for the map."""
        self._counts[area, place, action] += count
        if original is not None:
            self.note_value(area, place, original)

    def note_value(self, area: Area, place: str, original: str) -> None:
        """Keep an original for the map."""
        prefix = "" if area is Area.HEADER else f"{area.name.lower()}."
        self._values.setdefault(prefix + place, []).append(original)

    def replaced(self, action: Action, original: str, prefix: str = "id") -> str:
        """Return the replacement of an identifier."""
        new = self.pseudonyms.uid(original) if action is Action.UID else f"{prefix}-{self.pseudonyms.token(original)}"
        self._replaced[new] = original
        return new

    def replaced_number(self, original: int) -> int:
        """Return the replacement of a number of 32 bits."""
        new = self.pseudonyms.number(original)
        self._replaced[f"measurement_uid:{new}"] = str(original)
        return new
