"""A head on one volume: its blocks of slices on their way out, its answers put together, and what is measured in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from recond_models.heads.contract import HeadContract
from recond_models.heads.framing import Framing
from recond_models.heads.islands import without_islands
from recond_models.heads.lesions import DetectionRules, detect
from recond_models.heads.measurements import (
    MEASUREMENTS,
    Grid,
    Lesion,
    LesionTable,
    SpacingUnknownError,
    measure_lesions,
    measure_structures,
)
from recond_models.heads.measurements.uncertainty import CORRELATION_MM
from recond_service.processes import SliceLayout
from recond_service.series import plane_of
from recond_service.types import (
    FinishedImage,
    HeadRequest,
    HeadResult,
    Instance,
    LabelDescription,
    Measurement,
    Score,
)

BLOCK_SLICES = 16
"""Slices of a block: a second or less of one processor."""

UNKNOWN = "unknown"

_ANATOMY, _PLANE = "anatomy", "plane"
_OF_ANATOMY = frozenset({"contrast", _PLANE})
_LITTLE = 1e-6
_FLUID = "cerebrospinal fluid"

_MOST_LABELS = 65535
_FIELDS = ("volume_ml", "diameter_mm", "in_plane_diameter_mm", "perpendicular_diameter_mm")


@dataclass(slots=True, eq=False)
class Volume:
    """Slices of one volume that heads run on.

    Parameters
    ----------
    stack
        Name of the stack.
    number
        Of the volume in its stack.
    images
        In the order of their position.
    grid
        Where the voxels lie; None where the images have no geometry.
    """

    stack: str
    number: int
    images: Sequence[FinishedImage]
    grid: Grid | None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, rows, columns)."""
        rows, columns = self.images[0].pixels.shape
        return len(self.images), rows, columns

    @property
    def plane(self) -> str:
        """``"axial"``, ``"coronal"`` or ``"sagittal"``, whichever the geometry is nearest to; empty without geometry."""
        geometry = self.images[0].geometry
        return "" if geometry is None else plane_of(geometry)

    def pixels(self) -> NDArray[np.float32]:
        """Return a new array, float32 (slices, rows, columns)."""
        return np.stack([image.pixels for image in self.images])


@dataclass(frozen=True, slots=True)
class Block:
    """Slices that are to be sent to a model server.

    Parameters
    ----------
    run
        What they belong to.
    first
        Number of the first slice that is answered.
    layout
        Sizes.
    """

    run: HeadRun
    first: int
    layout: SliceLayout

    def pixels(self) -> NDArray[np.float32]:
        """Return float32 (slices, rows, columns); beyond the ends of the volume its last slice repeats."""
        images = self.run.volume.images
        numbers = np.arange(self.layout.slices) + self.first - self.layout.halo
        return np.stack([images[number].pixels for number in np.clip(numbers, 0, len(images) - 1)])


@dataclass(slots=True, eq=False)
class HeadRun:
    """A head on one volume, or on some of its slices.

    Parameters
    ----------
    request
        The head.
    volume
        What it runs on.
    framing
        What it sees of the slices.
    slices
        Numbers of the slices that it runs on: all of them for a head that labels pixels.
    attention
        Rows and columns of the attention maps that are wanted of each slice; (0, 0) for none.
    """

    request: HeadRequest
    volume: Volume
    framing: Framing
    slices: Sequence[int]
    attention: tuple[int, int] = (0, 0)
    labels: NDArray[np.uint8] = field(init=False)
    confidence: NDArray[np.uint8] = field(init=False)
    sums: NDArray[np.float64] = field(init=False)
    rows: list[NDArray[np.float32]] = field(default_factory=list)
    cells: dict[int, NDArray[np.float32]] = field(default_factory=dict)  # attention maps by the number of the slice
    missing: int = field(init=False)
    problem: str = ""
    refusal: str = ""  # the same as a stable name

    def __post_init__(self) -> None:
        pixels = self.volume.shape if self.contract.whole_volumes else (0, 0, 0)
        self.labels = np.zeros(pixels, np.uint8)
        self.confidence = np.zeros(pixels, np.uint8)
        self.sums = np.zeros((self.contract.outputs, 2))
        self.missing = len(self.slices)

    @property
    def contract(self) -> HeadContract:
        """What the head takes and returns."""
        return self.request.info.contract

    def blocks(self) -> Iterator[Block]:
        """Yield what has to be sent."""
        contract = self.contract
        if contract.whole_volumes:
            for first in range(0, len(self.slices), BLOCK_SLICES):
                count = min(BLOCK_SLICES, len(self.slices) - first)
                layout = SliceLayout(count + 2 * contract.halo, contract.halo, self.framing, contract.outputs, "pixels")
                yield Block(self, first, layout)
            return
        for number in self.slices:
            layout = SliceLayout(
                contract.slices, contract.halo, self.framing, contract.outputs, "slices", self.attention
            )
            yield Block(self, number, layout)

    def take_pixels(
        self, first: int, sums: NDArray[np.float32], labels: NDArray[np.uint8], confidence: NDArray[np.uint8]
    ) -> None:
        """Take the answer about a block of slices."""
        last = first + len(labels)
        self.labels[first:last], self.confidence[first:last] = labels, confidence
        self.sums += sums.sum(axis=0, dtype=np.float64)
        self.missing -= len(labels)

    def take_slices(
        self, first: int, probabilities: NDArray[np.float32], cells: NDArray[np.float32] | None = None
    ) -> None:
        """Take the answer about whole slices: float32 (slices, outputs), and (slices, outputs, rows, columns) if it has maps."""
        self.rows.append(probabilities.copy())
        if cells is not None:
            self.cells |= dict(enumerate(cells.copy(), first))
        self.missing -= len(probabilities)


def classified(run: HeadRun, *, stack: str | None = None) -> HeadResult:
    """Return what a head that classifies says of its slices together: the mean of their probabilities.

    Where the head tells the anatomy, slices count for its other groups as far as they show the first class of that: a slice of air
    says nothing about the contrast of a head.

    Parameters
    ----------
    run
        Complete.
    stack
        Name of the stack in the result; None for that of the volume.
    """
    contract = run.contract
    rows = np.concatenate(run.rows).astype(np.float64)
    groups = np.split(rows, np.cumsum([len(group.classes) for group in contract.groups])[:-1], axis=1)
    shown = next(
        (part[:, 0] for group, part in zip(contract.groups, groups, strict=True) if group.name == _ANATOMY),
        np.ones(len(rows)),
    )
    scores, answers = [], []
    for group, part in zip(contract.groups, groups, strict=True):
        weights = np.ones(len(rows)) if group.name not in _OF_ANATOMY else shown + _LITTLE
        probabilities = np.average(part, axis=0, weights=weights)
        scores += [
            Score(group.name, name, round(float(p), 4)) for name, p in zip(group.names, probabilities, strict=True)
        ]
        best = int(np.argmax(probabilities))
        sure = float(probabilities[best]) >= group.least_probability
        answer = group.names[best] if sure else UNKNOWN
        if group.name == _PLANE and (told := run.volume.plane) in group.names:
            answer = told  # the geometry knows better
        answers.append((group.name, answer))
    images = tuple(run.volume.images[number].number for number in run.slices)
    return _result(run, images, scores=tuple(scores), answers=tuple(answers), stack=stack)


def segmented(run: HeadRun) -> HeadResult:
    """Return the volumes of the structures that a head has labelled."""
    contract, grid = run.contract, run.volume.grid
    classes = contract.groups[0].classes
    if grid is not None and contract.anatomy == "head":
        fluid = next((value for value, each in enumerate(classes) if each.name == _FLUID), None)
        run.labels = without_islands(run.labels, grid.spacing, fluid)
    labels = tuple(LabelDescription(value, each.name, each.code) for value, each in enumerate(classes) if value)
    measurements: list[Measurement] = []
    if grid is not None:
        code = MEASUREMENTS["volume_ml"].concept
        volumes = measure_structures(run.labels, {each.name: each.value for each in labels}, grid)
        for found, label in zip(volumes.structures, labels, strict=True):
            # As `measurements.estimate`, from sums that the model server made: neighbours err together.
            block_ml = max(grid.voxel_ml, CORRELATION_MM**3 / 1000)
            deviation = float(np.sqrt(run.sums[label.value, 1] * grid.voxel_ml * block_ml))
            measurements.append(Measurement("volume", found.volume_ml, "mL", label.value, deviation, code))
        if contract.anatomy == "head" and len(labels) > 1:
            total = sum(found.volume_ml for found in volumes.structures)
            measurements.append(Measurement("volume", total, "mL", 0, None, code))
    return _mapped(run, labels=labels, measurements=tuple(measurements))


def lesions(run: HeadRun, tissue: HeadRun | None) -> HeadResult:
    """Return the lesions that a head has found, numbered and measured; `run.labels` holds their numbers afterwards.

    Parameters
    ----------
    run
        Complete.
    tissue
        A head that has labelled the structures of the same volume, to say where they lie; None if there is none.
    """
    contract, grid = run.contract, run.volume.grid
    rules = DetectionRules.from_json(contract.detection)
    if grid is None:
        raise SpacingUnknownError("the images do not say how large their voxels are: give the spacing with them")
    found = detect(run.confidence, grid.spacing, rules, run.labels)
    # Doubled, because a map of zeros and ones would be split into its connected parts again.
    numbers = found.labels.astype(np.int32) * 2
    structures, names = None, None
    if tissue is not None and not tissue.problem and not tissue.missing:
        structures = tissue.labels
        names = {each.name: value for value, each in enumerate(tissue.contract.groups[0].classes) if value}
    table = measure_lesions(
        numbers,
        grid,
        probabilities=run.confidence.astype(np.float32) / 255,
        structures=structures,
        structure_names=names,
    )
    confidences = [candidate.confidence for candidate in found.lesions]
    return _found(run, table, {2 * place: confidence for place, confidence in enumerate(confidences, 1)})


def _found(run: HeadRun, table: LesionTable, confidences: Mapping[int, float]) -> HeadResult:
    """Return the result of a table of lesions, numbered from 1 in its order; `confidences` go by their numbers in the table."""
    code = next((each.code for each in run.contract.groups[0].classes[1:] if each.code is not None), None)
    numbers = np.zeros(int(table.labels.max()) + 1 if table.labels.size else 1, np.uint16)
    labels: list[LabelDescription] = []
    instances: list[Instance] = []
    measurements: list[Measurement] = []
    boxes = ndimage.find_objects(table.labels)
    for number, lesion in enumerate(table.lesions[:_MOST_LABELS], 1):
        numbers[lesion.number] = number
        labels.append(LabelDescription(number, f"lesion {number}", code))
        measurements += _measured(number, lesion)
        box = boxes[lesion.number - 1]
        x, y, z = lesion.centre_mm
        instances.append(
            Instance(
                number,
                (int(box[0].start), int(box[1].start), int(box[2].start)),
                (int(box[0].stop) - 1, int(box[1].stop) - 1, int(box[2].stop) - 1),
                confidences.get(lesion.number, 1.0),
                (-x, -y, z),  # LPS, as every geometry on the wire
                lesion.location or "",
            )
        )
    measurements.append(Measurement("volume", table.total_ml, "mL", 0, None, MEASUREMENTS["volume_ml"].concept))
    measurements += [
        Measurement(f"lesion volume in {one.name}", one.lesion_ml, "mL") for one in table.load if one.lesion_ml > 0
    ]
    run.labels = numbers[table.labels].astype(np.uint8 if len(labels) < 256 else np.uint16)
    return _mapped(run, labels=tuple(labels), instances=tuple(instances), measurements=tuple(measurements))


def _measured(number: int, lesion: Lesion) -> Iterator[Measurement]:
    """Yield what was measured of a lesion."""
    measured = lesion.to_json()
    for name in _FIELDS:
        deviation = lesion.estimate.deviation_ml if name == "volume_ml" and lesion.estimate is not None else None
        coded = MEASUREMENTS[name]
        plain = name.rpartition("_")[0]
        yield Measurement(plain, float(measured[name]), coded.unit.value, number, deviation, coded.concept)


def refused(request: HeadRequest, volume: Volume, reason: str, problem: str) -> HeadResult:
    """Return that a head does not run on a volume, and why."""
    info = request.info
    return HeadResult(
        info.name,
        info.version,
        info.weights_sha256,
        info.contract.task,
        volume.stack,
        volume.number,
        tuple(image.number for image in volume.images),
        refusal=reason,
        problem=problem,
    )


def _mapped(
    run: HeadRun,
    *,
    labels: tuple[LabelDescription, ...],
    measurements: tuple[Measurement, ...],
    instances: tuple[Instance, ...] = (),
) -> HeadResult:
    _, rows, columns = run.volume.shape
    return _result(
        run,
        tuple(image.number for image in run.volume.images),
        rows=rows,
        columns=columns,
        label_bytes=run.labels.dtype.itemsize,
        has_confidence=True,
        labels=labels,
        instances=instances,
        measurements=measurements,
    )


def _result(run: HeadRun, images: tuple[int, ...], *, stack: str | None = None, **found: object) -> HeadResult:
    info = run.request.info
    return HeadResult(
        info.name,
        info.version,
        info.weights_sha256,
        info.contract.task,
        run.volume.stack if stack is None else stack,
        run.volume.number,
        images,
        **found,  # type: ignore[arg-type]
    )
