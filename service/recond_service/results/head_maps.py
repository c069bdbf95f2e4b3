"""The label maps and attention maps of heads, by image, on their way into output files."""

from __future__ import annotations

import re
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


_NAME_LENGTH = 40


@dataclass(slots=True, eq=False)
class AttentionMap:
    """The attention map of a group of a head.

    Parameters
    ----------
    head, group
        What it belongs to.
    name
        Of the group in names of files: ``failed-reconstruction``.
    slices
        The class that it is about, and float32 (rows, columns), by the number of the image.
    """

    head: str
    group: str
    name: str
    slices: dict[int, tuple[str, NDArray[np.float32]]] = field(default_factory=dict)

    def of(self, stack: Stack) -> NDArray[np.float32]:
        """Return the maps of all images of a stack, float32 (images, rows, columns); zeros of those that were not looked at."""
        nothing = np.zeros(stack.shape[1:], np.float32)
        return np.stack([self.slices.get(image.number, ("", nothing))[1] for image in stack.images])

    def classes(self, stack: Stack) -> list[str]:
        """Return the class that the map of each image of a stack is about; empty of images that were not looked at."""
        return [self.slices[image.number][0] if image.number in self.slices else "" for image in stack.images]


class HeadMaps:
    """Label maps and attention maps of the images of a request."""

    def __init__(self) -> None:
        self._maps: dict[str, _Map] = {}
        self._attention: dict[str, AttentionMap] = {}

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the heads that have labelled pixels, in the order in which they came."""
        return tuple(self._maps)

    def add(self, result: HeadResult, maps: Sequence[NDArray[Any]]) -> None:
        """Take a result; see `ResultWriter.add_head`."""
        if not maps:
            return
        if result.attention:
            self._add_attention(result, maps[0])
            return
        labels, confidence = maps
        known = self._maps.setdefault(result.head, _Map(result.task))
        known.labels = max(known.labels, result.labels, key=len)
        known.slices |= dict(zip(result.images, zip(labels, confidence, strict=True), strict=True))

    def _add_attention(self, result: HeadResult, maps: NDArray[np.float32]) -> None:
        for each, values in zip(result.attention, maps, strict=True):
            known = self._known(result.head, each.group)
            known.slices |= {image: (each.name, value) for image, value in zip(result.images, values, strict=True)}

    def _known(self, head: str, group: str) -> AttentionMap:
        """Return the attention map of a group, a new one if there is none; its name is like that of no other group."""
        plain = re.sub("[^a-z0-9]+", "-", group.lower())[:_NAME_LENGTH].strip("-") or "group"
        number, name = 1, plain
        while True:
            known = self._attention.setdefault(f"{head}_attention-{name}", AttentionMap(head, group, name))
            if known.group == group:
                return known
            number += 1
            name = f"{plain}-{number}"

    def attention_on(self, stack: str, series: Series) -> dict[str, AttentionMap]:
        """Return the attention maps of images of a stack, or with an empty name of any, by their part in names of files."""
        chosen = series.named(stack) if stack else series
        images = {image.number for image in chosen.images} if chosen is not None else set()
        return {part: found for part, found in self._attention.items() if images & set(found.slices)}

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
