"""What heads, networks that run on images, say about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recond.v1 import heads_pb2 as pb

_GRADES = ("none", "mild", "severe")
"""Of artefacts, from the least to the worst."""


@dataclass(frozen=True, slots=True)
class Code:
    """A coded term, as DICOM has it: value, designator of its scheme (``"SCT"``, ``"DCM"``, ``"UCUM"``), and the words."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Measurement:
    """A measured quantity.

    Parameters
    ----------
    name
        Such as ``"volume"`` or ``"diameter"``.
    value
        In that unit.
    unit
        UCUM code, such as ``"mL"`` or ``"mm"``.
    label
        The label that it belongs to; 0 for all of them together.
    deviation
        Standard deviation as the probabilities of the head have it; None where that is not known.
    code
        Coded term of the quantity; None where there is none.
    """

    name: str
    value: float
    unit: str
    label: int = 0
    deviation: float | None = None
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
        The structure that it lies in; empty unless the head `tissue` ran beside.
    """

    label: int
    first: tuple[int, ...]
    last: tuple[int, ...]
    confidence: float
    centre_mm: tuple[float, ...] = ()
    structure: str = ""


@dataclass(frozen=True, slots=True)
class HeadResult:
    """What a head says of a slice or of a volume.

    Parameters
    ----------
    head, version, weights_sha256
        Which head.
    task
        ``"segmentation"``, ``"lesions"`` or ``"classification"``.
    stack
        Name of the stack; empty for a result of one slice.
    volume
        Number of the volume in its stack.
    images
        Numbers (`ImageIndex.image`) of the images that it is about, in the order of the slices of the label map.
    labels
        Names of the labels and their values in the label map; 0 is the background.
    codes
        Coded terms of the labels by name, where they have one.
    label_map
        uint8 or uint16 (slices, rows, columns); None where there is none.
    confidence
        float32 (slices, rows, columns): the probability of the label, or, of the search for lesions, of any lesion.
    instances
        What was found, in the order of the labels.
    scores
        Probabilities of the classes of each group of a classification.
    answers
        The class of each group; ``"unknown"`` where none is probable enough.
    measurements
        What was measured.
    attention
        Of a classification with ``attention=True``: for each group float32 (slices, rows, columns) in the order of `images`, what
        each place contributes to the score (logit) of the class in `attention_classes`. What is positive speaks for it.
    attention_classes
        The class of each group that the map is about: the one in `answers`, or the most probable where that is ``"unknown"``.
    refusal
        Why the head did not run, such as ``"WRONG_CONTRAST"``; empty if it did.
    problem
        The same in a sentence that says what to do.
    """

    head: str
    version: str
    weights_sha256: str
    task: str
    stack: str = ""
    volume: int = 0
    images: tuple[int, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)
    codes: Mapping[str, Code] = field(default_factory=dict)
    label_map: NDArray[np.unsignedinteger[Any]] | None = None
    confidence: NDArray[np.float32] | None = None
    instances: tuple[Instance, ...] = ()
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    answers: Mapping[str, str] = field(default_factory=dict)
    measurements: tuple[Measurement, ...] = ()
    attention: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    attention_classes: Mapping[str, str] = field(default_factory=dict)
    refusal: str = ""
    problem: str = ""

    def measured(self, name: str, label: int = 0) -> float | None:
        """Return a measured value by its name and label, None where that was not measured."""
        return next((each.value for each in self.measurements if (each.name, each.label) == (name, label)), None)

    def to_json(self) -> dict[str, Any]:
        """Return what ``--json`` prints of it: plain values, without maps."""
        about: dict[str, Any] = {"version": self.version, "task": self.task, "stack": self.stack}
        if self.refusal:
            return about | {"refusal": self.refusal, "problem": self.problem}
        if self.task == "classification":
            told = {**self.answers, **({"artefact": self._artefact()} if self._grades() else {})}
            return about | told | {"probabilities": {group: dict(of) for group, of in self.scores.items()}}
        if self.task == "lesions":
            return about | self._lesions_json()
        volumes = {name: self.measured("volume", value) for name, value in self.labels.items()}
        deviations = {
            name: each.deviation
            for name, value in self.labels.items()
            for each in self.measurements
            if (each.name, each.label) == ("volume", value) and each.deviation is not None
        }
        found = {"labels": dict(self.labels), "volumes_ml": volumes, "deviations_ml": deviations}
        return about | found | {"total_ml": self.measured("volume")}

    def _grades(self) -> dict[str, str]:
        """Return the answers of groups that grade an artefact."""
        return {
            group: answer for group, answer in self.answers.items() if set(self.scores.get(group, ())) == set(_GRADES)
        }

    def _artefact(self) -> str:
        """Return the worst artefact by name, ``"none"`` if there is none."""
        grades = {group: _GRADES.index(answer) for group, answer in self._grades().items() if answer in _GRADES}
        worst = max(grades, key=lambda group: grades[group], default="")
        return worst if grades.get(worst, 0) else _GRADES[0]

    def _lesions_json(self) -> dict[str, Any]:
        lesions = []
        for each in self.instances:
            measured = {f"{m.name}_{m.unit.lower()}": m.value for m in self.measurements if m.label == each.label}
            lesions.append(
                {
                    "label": each.label,
                    **measured,
                    "centre_mm": list(each.centre_mm),
                    "confidence": each.confidence,
                    "structure": each.structure or None,
                }
            )
        loads = {
            each.name.removeprefix("lesion volume in "): each.value
            for each in self.measurements
            if each.name.startswith("lesion volume in ")
        }
        return {
            "count": len(lesions),
            "total_ml": self.measured("volume"),
            "lesions": lesions,
            "load_ml": loads,
        }


class HeadReceiver:
    """Puts the messages of heads together.

    Attributes
    ----------
    results
        Whole results, in the order in which they came.
    """

    def __init__(self) -> None:
        self.results: list[HeadResult] = []
        self._message: pb.HeadResult | None = None
        self._map = bytearray()

    @property
    def whole(self) -> bool:
        """No label map or attention map is on its way."""
        return self._message is None

    def take_result(self, message: pb.HeadResult) -> HeadResult | None:
        """Take a result; return it if it has no map.

        Raises
        ------
        ValueError
            The map of the one before is not whole, or its sizes do not belong together.
        """
        if self._message is not None:
            raise ValueError(f"the map of {self._message.head!r} ended after {len(self._map)} bytes")
        if _map_bytes(message) == 0:
            return self._add(message, b"")
        self._message = message
        return None

    def take_map(self, piece: pb.HeadMap) -> HeadResult | None:
        """Take a piece of a map; return the result if it is whole.

        Raises
        ------
        ValueError
            It is not the next piece of one.
        """
        message = self._message
        if message is None or piece.offset != len(self._map):
            raise ValueError(f"a piece of a map at {piece.offset} where none is due")
        self._map += piece.data
        expected = _map_bytes(message)
        if len(self._map) < expected:
            return None
        if len(self._map) > expected:
            raise ValueError(f"the map of {message.head!r} has more bytes than it should")
        content, self._map, self._message = bytes(self._map), bytearray(), None
        return self._add(message, content)

    def _add(self, message: pb.HeadResult, content: bytes) -> HeadResult:
        self.results.append(_result_of(message, content))
        return self.results[-1]


def results_by_name(results: Sequence[HeadResult]) -> dict[str, HeadResult]:
    """Return the result of each head on the first volume; that of one slice where nothing else came."""
    found: dict[str, HeadResult] = {}
    for result in results:
        known = found.get(result.head)
        if known is None or (not known.stack and result.stack):
            found[result.head] = result
    return found


def heads_json(results: Sequence[HeadResult]) -> dict[str, Any]:
    """Return what ``--json`` prints of heads: by name, and a list `volumes` where there are several volumes."""
    printed: dict[str, Any] = {}
    for name, first in results_by_name(results).items():
        printed[name] = first.to_json()
        volumes = [each for each in results if each.head == name and each.stack]
        if len(volumes) > 1:
            printed[name]["volumes"] = [{**each.to_json(), "volume": each.volume} for each in volumes]
    return printed


def _map_bytes(message: pb.HeadResult) -> int:
    """Return how many bytes of maps follow a result.

    Raises
    ------
    ValueError
        Its sizes do not belong together.
    """
    if not message.HasField("label_map"):
        attention = message.attention
        sizes = attention.slices * attention.rows * attention.columns * len(attention.maps) * 4
        if attention.size_bytes != sizes or (sizes and attention.slices != len(message.images)):
            raise ValueError(f"the attention maps of {message.head!r} have sizes that do not belong together")
        return sizes
    label_map = message.label_map
    expected = (
        label_map.slices * label_map.rows * label_map.columns * (label_map.label_bytes + label_map.has_confidence)
    )
    if (
        label_map.label_bytes not in {1, 2}
        or label_map.size_bytes != expected
        or label_map.slices != len(message.images)
        or message.HasField("attention")
    ):
        raise ValueError(f"the label map of {message.head!r} has sizes that do not belong together")
    return expected


def _result_of(message: pb.HeadResult, content: bytes) -> HeadResult:
    labelled = content and message.HasField("label_map")
    label_map, confidence = _maps_of(message.label_map, content) if labelled else (None, None)
    attention = _attention_of(message.attention, content) if content and not labelled else {}
    scores: dict[str, dict[str, float]] = {}
    for score in message.scores:
        scores.setdefault(score.group, {})[score.name] = score.probability
    return HeadResult(
        head=message.head,
        version=message.version,
        weights_sha256=message.weights_sha256,
        task=message.task,
        stack=message.stack,
        volume=message.volume,
        images=tuple(message.images),
        labels={label.name: label.value for label in message.label_map.labels},
        codes={label.name: _code_of(label.code) for label in message.label_map.labels if label.HasField("code")},
        label_map=label_map,
        confidence=confidence,
        instances=tuple(
            Instance(
                each.label, tuple(each.first), tuple(each.last), each.confidence, tuple(each.centre_mm), each.structure
            )
            for each in message.instances
        ),
        scores=scores,
        answers=dict(message.answers),
        measurements=tuple(
            Measurement(
                each.name,
                each.value,
                each.unit,
                each.label,
                each.deviation if each.HasField("deviation") else None,
                _code_of(each.code) if each.HasField("code") else None,
            )
            for each in message.measurements
        ),
        attention=attention,
        attention_classes={each.group: each.name for each in message.attention.maps},
        refusal=message.refusal,
        problem=message.problem,
    )


def _attention_of(sizes: pb.AttentionMaps, content: bytes) -> dict[str, NDArray[np.float32]]:
    """Return the attention maps by group."""
    shape = (len(sizes.maps), sizes.slices, sizes.rows, sizes.columns)
    values = np.frombuffer(content, "<f4").reshape(shape)
    return {each.group: part for each, part in zip(sizes.maps, values, strict=True)}


def _maps_of(sizes: pb.LabelMap, content: bytes) -> tuple[NDArray[np.unsignedinteger[Any]], NDArray[np.float32] | None]:
    shape = (sizes.slices, sizes.rows, sizes.columns)
    pixels = sizes.slices * sizes.rows * sizes.columns
    labels = np.frombuffer(content, "<u2" if sizes.label_bytes == 2 else "u1", pixels).reshape(shape)
    if not sizes.has_confidence:
        return labels, None
    shares = np.frombuffer(content, np.uint8, pixels, sizes.label_bytes * pixels).reshape(shape)
    return labels, shares.astype(np.float32) / np.float32(255)


def _code_of(code: pb.Code) -> Code:
    return Code(code.value, code.scheme, code.meaning)
