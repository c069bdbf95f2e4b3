"""The label maps of heads, by image, on their way into output files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recond_models.heads.contract import HeadTask
from recond_service.series import Series, Stack
from recond_service.types import HeadResult, LabelDescription


@dataclass(slots=True, eq=False)
class _Map:
    """The label map of a head.

    Parameters
    ----------
    task
        What the head does.
    labels
        What the values stand for; where lesions are numbered anew in every volume, those of the volume that has most.
    slices
        Labels and confidence, (rows, columns), by the number of the image.
    """

    task: HeadTask
    labels: tuple[LabelDescription, ...] = ()
    slices: dict[int, tuple[NDArray[Any], NDArray[np.uint8]]] = field(default_factory=dict)


class HeadMaps:
    """Label maps of the images of a request."""

    def __init__(self) -> None:
        self._maps: dict[str, _Map] = {}

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the heads that have labelled pixels, in the order in which they came."""
        return tuple(self._maps)

    def add(self, result: HeadResult, maps: Sequence[NDArray[Any]]) -> None:
        """Take a result; see `ResultWriter.add_head`."""
        if not maps:
            return
        labels, confidence = maps
        known = self._maps.setdefault(result.head, _Map(result.task))
        known.labels = max(known.labels, result.labels, key=len)
        known.slices |= dict(zip(result.images, zip(labels, confidence, strict=True), strict=True))

    def on(self, stack: str, series: Series) -> tuple[str, ...]:
        """Return the heads that have labelled every image of a stack; with an empty name, of the only one."""
        chosen = series.named(stack) if stack else series
        images = [] if chosen is None else [image.number for image in chosen.images]
        return tuple(name for name, known in self._maps.items() if all(number in known.slices for number in images))

    def of(self, head: str, stack: Stack) -> NDArray[Any]:
        """Return the labels of all images of a stack in their order, uint8 or uint16 (images, rows, columns)."""
        return np.stack([self._maps[head].slices[image.number][0] for image in stack.images])

    def confidence(self, head: str, stack: Stack) -> NDArray[np.uint8]:
        """Return the confidence of all images of a stack, uint8 (images, rows, columns), in 1/255."""
        return np.stack([self._maps[head].slices[image.number][1] for image in stack.images])

    def labels(self, head: str) -> tuple[LabelDescription, ...]:
        """Return what the values of a head's label map stand for."""
        return self._maps[head].labels

    def task(self, head: str) -> HeadTask:
        """Return what a head does."""
        return self._maps[head].task

    def label_slice(self, head: str, image: int) -> NDArray[Any] | None:
        """Return the labels of one image by its number, (rows, columns); None where the head has none."""
        found = self._maps[head].slices.get(image)
        return None if found is None else found[0]
