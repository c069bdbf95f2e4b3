"""Attention maps of a classification: which part of the slices spoke for the class that was answered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recond_models.heads.attention import on_image
from recond_service.scan.head_runs import HeadRun
from recond_service.types import Attention, HeadResult

MOST_BYTES = 256 << 20
"""Of all maps of a volume; nine slices of 960 x 960 pixels and eight groups have that."""


def attention_bytes(run: HeadRun) -> int:
    """Return how large the attention maps of a head on a volume are going to be."""
    _, rows, columns = run.volume.shape
    return 4 * len(run.contract.groups) * len(run.slices) * rows * columns


def with_attention(run: HeadRun, result: HeadResult) -> tuple[HeadResult, tuple[NDArray[np.float32], ...]]:
    """Return a result with its attention maps.

    Parameters
    ----------
    run
        A head that classifies; complete.
    result
        What it says.

    Returns
    -------
    result
        It says which class each map is about: the one that was answered, or the most probable where that is ``"unknown"``.
    maps
        One array, float32 (groups, slices, rows, columns), on the pixels of the images; none where the run made no maps.
    """
    if not run.cells:
        return result, ()
    _, rows, columns = run.volume.shape
    maps = np.empty((len(run.contract.groups), len(run.slices), rows, columns), np.float32)
    described = []
    first = 0
    for group, (_, answer), place in zip(run.contract.groups, result.answers, maps, strict=True):
        name = answer
        if name not in group.names:
            scores = [score for score in result.scores if score.group == group.name]
            name = max(scores, key=lambda score: score.probability).name
        output = first + group.names.index(name)
        for number, target in zip(run.slices, place, strict=True):
            target[:] = on_image(run.cells[number][output], run.framing)
        described.append(Attention(group.name, name))
        first += len(group.classes)
    return replace(result, rows=rows, columns=columns, attention=tuple(described)), (maps,)
