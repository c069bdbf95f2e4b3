"""Visits of one patient: their images to the heads, and what changed between them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date as Date  # noqa: N812 - a field is called date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recond_models.follow_up import (
    ClinicalRow,
    FollowUpError,
    HeadResult,
    RegistrationUnavailableError,
    Timeline,
    Visit,
    picture,
    plot,
    read_clinical,
    timeline,
)
from recond_models.heads.measurements import Grid, MeasurementError
from recond_service.ingest.images import read_images, read_label_map
from recond_service.scan.heads import ReadyHead
from recond_service.series import Series, Stack, StackNumbers, affine_of, make_series
from recond_service.types import (
    FindingList,
    HeadTask,
    InvalidInputError,
    PartRole,
    ScanRequest,
    StackSummary,
    UnsupportedDataError,
)

COMPARISON, TIMELINE = "comparison", "timeline"
"""Pictures of a comparison."""

_EARLIEST, _LATEST = 1900, 2200  # as in clinical rows

_KINDS: Mapping[HeadTask, str] = {"segmentation": "structures", "lesions": "lesions"}


@dataclass(slots=True, eq=False)
class _Visit:
    """A visit, as far as it is known.

    Parameters
    ----------
    name, date
        As in the request.
    stack
        Its images: the first volume of the first stack.
    grid
        Where its voxels lie.
    heads
        Label maps that came along, or that heads have made.
    """

    name: str
    date: Date | None
    stack: Stack
    grid: Grid
    heads: dict[str, HeadResult] = field(default_factory=dict)


class FollowUp:
    """Visits of one patient.

    Parameters
    ----------
    request
        With visits, and the parts of each.
    findings
        Gets what is odd.

    Raises
    ------
    InvalidInputError
        Images, label maps or the clinical rows cannot be read, or do not fit each other.
    LimitExceededError
        They claim more than the limits allow.
    """

    def __init__(self, request: ScanRequest, findings: FindingList) -> None:
        self._findings = findings
        self._patient = request.patient
        self._visits = [self._read(number, request) for number in range(len(request.visits))]
        self._rows = self._clinical_rows(request)

    @property
    def stacks(self) -> tuple[StackSummary, ...]:
        """The images of the visits."""
        return tuple(
            StackSummary(visit.name, tuple(image.number for image in visit.stack.images), visit.stack.shape)
            for visit in self._visits
        )

    def series(self) -> Iterator[tuple[Series, frozenset[str]]]:
        """Yield the images of each visit, and the heads that need not run on them."""
        for visit in self._visits:
            yield Series((visit.stack,)), frozenset(visit.heads)

    def take(self, ready: ReadyHead) -> None:
        """Take what a head found in the images of a visit."""
        result = ready.result
        if not ready.maps or result.task not in _KINDS:
            return
        visit = next(visit for visit in self._visits if visit.name == result.stack)
        labels, confidence = ready.maps
        kind = _KINDS[result.task]
        visit.heads[result.head] = HeadResult(
            kind,  # type: ignore[arg-type]
            labels,
            {label.name: label.value for label in result.labels} if kind == "structures" else {},
            {"lesion": confidence.astype(np.float32) / 255} if kind == "lesions" else {},
        )

    def compare(self) -> tuple[str, str, dict[str, bytes]]:
        """Return what changed.

        Returns
        -------
        report
            A JSON object, see docs/follow-up.md.
        table
            CSV.
        pictures
            PNG files by `COMPARISON` and `TIMELINE`.

        Raises
        ------
        InvalidInputError
            The visits cannot be compared.
        UnsupportedDataError
            This service has no library that registers images.
        """
        visits = [
            Visit(visit.name, visit.stack.pixels(), visit.grid, visit.heads, visit.date, self._patient, _brain(visit))
            for visit in self._visits
        ]
        try:
            found = timeline(visits, self._rows)
            table, pictures = found.to_csv(), self._pictures(found)
        except RegistrationUnavailableError as error:
            raise UnsupportedDataError(str(error), reason=error.reason) from error
        except (FollowUpError, MeasurementError) as error:
            raise InvalidInputError(str(error), reason=error.reason, field="spec.visits") from error
        for comparison in found.comparisons:
            for note in comparison.notes:
                self._findings.warn(note.code, note.message)
        return json.dumps(found.to_json(), ensure_ascii=False), table, pictures

    def _pictures(self, found: Timeline) -> dict[str, bytes]:
        pictures = {COMPARISON: picture(found.comparisons[-1])}
        if len(found.visits) > 1 and any(each.lesions or each.structures for each in found.comparisons):
            pictures[TIMELINE] = plot(found)
        return pictures

    def _read(self, number: int, request: ScanRequest) -> _Visit:
        asked = request.visits[number]
        parts = [part for part in request.parts if part.visit == number and part.role is PartRole.IMAGES]
        place = f"spec.visits[{number}]"
        if not parts:
            raise InvalidInputError("the visit has no images: send some", reason="NO_IMAGES", field=f"{place}.parts")
        volume = read_images(parts, asked.spacing, request.limits, self._findings)
        stack = self._first_volume(volume.images, asked.name)
        if any(image.geometry is None for image in stack.images):
            raise InvalidInputError(
                "the images do not say how large their voxels are: give the spacing with them",
                reason="SPACING_UNKNOWN",
                field=f"{place}.spacing",
            )
        affine = affine_of(stack.images, self._findings)
        try:
            grid = Grid.from_nifti(affine)
        except MeasurementError as error:
            raise InvalidInputError(str(error), reason=error.reason, field=f"{place}.parts") from error
        date = _date(asked.date, f"{place}.date")
        heads = {}
        for part in request.parts:
            if part.visit == number and part.role is PartRole.LABELS:
                labels, names = read_label_map(part, volume.voxel_order, stack.shape, affine, request.limits)
                heads[part.head] = _given(labels, names or asked.structures.get(part.head, {}))
        return _Visit(asked.name, date, stack, grid, heads)

    def _first_volume(self, images: tuple[Any, ...], name: str) -> Stack:
        """Return the first volume of the first stack, under the name of the visit."""
        numbers = StackNumbers()
        placed = [
            replace(image, stack=numbers.of(image.index, image.geometry, image.pixels.shape, None)) for image in images
        ]
        stack = make_series(placed, numbers, None, self._findings).stacks[0]
        slices = stack.slices or len(stack.images)
        if len(images) > slices:
            self._findings.warn(
                "first-volume", f"{name} holds {len(images)} images: its first volume of {slices} is compared."
            )
        return replace(stack, name=name, images=stack.images[:slices])

    def _clinical_rows(self, request: ScanRequest) -> tuple[ClinicalRow, ...]:
        part = next((part for part in request.parts if part.role is PartRole.CLINICAL_ROWS), None)
        if part is None:
            return ()
        try:
            table = read_clinical(Path(part.path).read_bytes())
        except FollowUpError as error:
            raise InvalidInputError(str(error), reason=error.reason, field=part.name) from error
        for note in table.notes:
            self._findings.warn(note.code, note.message)
        if table.rows and self._patient and all(row.patient != self._patient for row in table.rows):
            self._findings.warn(
                "clinical-rows-of-others",
                f"No clinical row is about {self._patient}: check the pseudonym, rows of others are left out.",
            )
        return tuple(table.rows)


def _date(text: str, field: str) -> Date | None:
    """Return the date of a visit, None if it has none."""
    try:
        date = Date.fromisoformat(text) if text else None
    except ValueError:
        date = Date.min
    if date is not None and not _EARLIEST <= date.year <= _LATEST:
        raise InvalidInputError(
            f"the date {text!r} is none: write YYYY-MM-DD, {_EARLIEST} to {_LATEST}", reason="DATE", field=field
        )
    return date


def _given(labels: NDArray[Any], names: Mapping[str, int]) -> HeadResult:
    """Return a label map that came along: of lesions, unless its names are those of structures."""
    structures = bool(names) and not all(name.startswith("lesion") for name in names)
    return HeadResult("structures" if structures else "lesions", labels, dict(names) if structures else {})


def _brain(visit: _Visit) -> NDArray[np.bool_] | None:
    """Return where any structure is, None if no head has labelled some."""
    found = next((head for head in visit.heads.values() if head.kind == "structures"), None)
    return None if found is None else np.asarray(found.labels > 0)
