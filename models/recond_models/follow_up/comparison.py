"""Two visits of a patient: what changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from recond_models.follow_up.change import Change, Noise, Trend, months_between
from recond_models.follow_up.errors import RegistrationFailedError, VisitOrderError
from recond_models.follow_up.lesion_changes import LESION_NOISE, LesionComparison, compare_lesions
from recond_models.follow_up.registration import Registration, register
from recond_models.follow_up.visit import HeadResult, Visit
from recond_models.heads.measurements import LesionTable, StructureVolumes, measure_lesions, measure_structures
from recond_models.note import Note

STRUCTURE_NOISE: Final = Noise(volume_ml=1.0, percent=3.0)
"""A structure that changes by less is called stable."""


@dataclass(frozen=True, slots=True)
class StructureChange:
    """A structure at two times.

    Parameters
    ----------
    name
        Of the structure.
    volume
        mL; a volume is None where the head did not run or does not know the structure.
    trend
        Of the volume; None if it was not measured twice.
    """

    name: str
    volume: Change
    trend: Trend | None

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return {**self.volume.to_json("ml"), "trend": self.trend}


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """What changed between two visits.

    Parameters
    ----------
    prior
        None if the patient has no prior scan.
    current
        The later visit.
    months
        Between them, months of 30.4375 days; None if a date is unknown or there is no prior scan.
    registration
        How the current scan lies on the prior one; None if there is no prior scan or they could not be registered.
    lesions
        By the name of the head.
    structures
        By the name of the head.
    noise
        Below which a lesion, and a structure, is called stable.
    notes
        What the reader should know; ``"registration-failed"`` if lesions could not be matched.
    """

    prior: Visit | None
    current: Visit
    months: float | None
    registration: Registration | None
    lesions: Mapping[str, LesionComparison]
    structures: Mapping[str, tuple[StructureChange, ...]]
    noise: tuple[Noise, Noise]
    notes: tuple[Note, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain dictionaries and lists, as docs/follow-up.md shows them."""
        return {
            "prior": None if self.prior is None else _about(self.prior),
            "current": _about(self.current),
            "months": self.months,
            "coordinates": "RAS",
            "registration": None if self.registration is None else self.registration.to_json(),
            "noise": {"lesions": self.noise[0].to_json(), "structures": self.noise[1].to_json()},
            "lesions": {name: one.to_json() for name, one in self.lesions.items()},
            "structures": {
                name: {one.name: one.to_json() for one in changes} for name, changes in self.structures.items()
            },
            "findings": [{"code": one.code, "message": one.message} for one in self.notes],
        }


def compare(
    prior: Visit | None,
    current: Visit,
    *,
    registration: Registration | None = None,
    minimum_ml: float = 0.0,
    lesion_noise: Noise = LESION_NOISE,
    structure_noise: Noise = STRUCTURE_NOISE,
    threads: int = 1,
) -> Comparison:
    """Compare a visit with the one before.

    Volumes and diameters are measured in the own grid of each scan, for resampling changes them; the registration serves to tell
    which lesion is which. If it fails, totals and structures are compared all the same, lesions are not, and a note says so.

    Parameters
    ----------
    prior
        The earlier visit; None if there is none: all changes are then None.
    current
        The later visit.
    registration
        Of the current onto the prior scan; found here if None.
    minimum_ml
        Lesions that are smaller are left out, mL.
    lesion_noise, structure_noise
        Changes below are called stable.
    threads
        Of the registration.

    Raises
    ------
    VisitOrderError
        The current visit is older than the prior one, or they have different pseudonyms.
    VisitError
        An image cannot be registered: too few slices, empty, or not finite.
    RegistrationUnavailableError
        SimpleITK is not installed.
    MeasurementError
        A label map cannot be measured.
    """
    if prior is not None and prior.patient and current.patient and prior.patient != current.patient:
        raise VisitOrderError(f"the visits are of two patients: {prior.patient!r} and {current.patient!r}")
    months = None if prior is None else months_between(prior.date, current.date)
    befores = {} if prior is None else _tables(prior, minimum_ml)
    afters = _tables(current, minimum_ml)
    notes: list[Note] = []
    if prior is not None and registration is None and any(name in befores for name in afters):
        registration, failure = _registered(prior, current, threads)
        notes += failure
    if registration is not None:
        notes += registration.notes
    lesions = {}
    matrix = None if registration is None else registration.matrix
    for name, table in afters.items():
        lesions[name], more = compare_lesions(befores.get(name), table, (prior, current), matrix, months, lesion_noise)
        notes += more
    structures = _structures(prior, current, months, structure_noise)
    notes += _unmatched(prior, current)
    noise = (lesion_noise, structure_noise)
    return Comparison(prior, current, months, registration, lesions, structures, noise, tuple(notes))


def _registered(prior: Visit, current: Visit, threads: int) -> tuple[Registration | None, list[Note]]:
    """Return the registration, or None and why there is none."""
    try:
        found = register(
            prior.image,
            prior.grid,
            current.image,
            current.grid,
            prior_brain=prior.brain,
            current_brain=current.brain,
            threads=threads,
        )
    except RegistrationFailedError as error:
        message = f"The scans could not be registered, so lesions are not matched: {error}"
        return None, [Note("registration-failed", message)]
    return found, []


def _tables(visit: Visit, minimum_ml: float) -> dict[str, LesionTable]:
    """Return the lesions of all heads that find some, located by the first head with structures."""
    structures = visit.structures
    return {
        name: measure_lesions(
            head.labels,
            visit.grid,
            probabilities=head.probabilities.get("lesion"),
            structures=None if structures is None else structures.labels,
            structure_names=None if structures is None else structures.names,
            minimum_ml=minimum_ml,
        )
        for name, head in visit.heads.items()
        if head.kind == "lesions"
    }


def _structures(
    prior: Visit | None, current: Visit, months: float | None, noise: Noise
) -> dict[str, tuple[StructureChange, ...]]:
    """Return the change of each structure of the current scan, by the name of the head."""
    found = {}
    for name, head in current.heads.items():
        if head.kind != "structures":
            continue
        other = None if prior is None else prior.heads.get(name)
        before = None if prior is None or other is None else _volumes(prior, other)
        changes = []
        for one in _volumes(current, head).structures:
            volume = Change(None if before is None else before.volume_ml(one.name), one.volume_ml, months)
            changes.append(StructureChange(one.name, volume, noise.trend(volume)))
        found[name] = tuple(changes)
    return found


def _volumes(visit: Visit, head: HeadResult) -> StructureVolumes:
    """Return the volumes of the structures of a head."""
    return measure_structures(head.labels, head.names, visit.grid, head.probabilities)


def _unmatched(prior: Visit | None, current: Visit) -> list[Note]:
    """Return a note on heads that ran on one of the two scans only."""
    alone = [] if prior is None else sorted(set(prior.heads) ^ set(current.heads))
    if not alone:
        return []
    return [
        Note(
            "head-not-compared", f"Heads ran on one of the two scans only, so nothing is compared: {', '.join(alone)}."
        )
    ]


def _about(visit: Visit) -> dict[str, Any]:
    """Return what identifies a visit."""
    return {
        "name": visit.name,
        "patient": visit.patient or None,
        "date": None if visit.date is None else visit.date.isoformat(),
        "spacing_mm": list(visit.grid.spacing),
    }
