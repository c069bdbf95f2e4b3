"""Pieces far from the organ."""

from __future__ import annotations

import numpy as np

from recond_models.heads.islands import without_islands

SPACING = (3.0, 1.0, 1.0)


def _organ() -> np.ndarray:
    labels = np.zeros((8, 60, 60), dtype=np.uint8)
    labels[1:7, 8:40, 8:40] = 1  # fluid around
    labels[2:6, 12:36, 12:36] = 2
    labels[3:5, 18:30, 18:30] = 3
    return labels


def test_islands_go_and_the_organ_stays() -> None:
    labels = _organ()
    labels[2:5, 50:56, 50:56] = 3
    labels[3, 52:54, 20:22] = 1

    np.testing.assert_array_equal(without_islands(labels, SPACING, fluid=1), _organ())


def test_a_thin_bridge_does_not_keep_an_island() -> None:
    labels = _organ()
    labels[3:5, 45:55, 14:24] = 2
    labels[3, 36:45, 18] = 2

    cleaned = without_islands(labels, SPACING, fluid=1)

    assert not cleaned[:, 46:].any()
    assert (cleaned[2:6, 12:36, 12:36] == _organ()[2:6, 12:36, 12:36]).all()


def test_both_halves_of_an_organ_stay() -> None:
    labels = np.zeros((6, 40, 60), dtype=np.uint8)
    labels[1:5, 5:35, 5:25] = 2
    labels[1:5, 5:35, 32:50] = 2

    np.testing.assert_array_equal(without_islands(labels, SPACING), labels)


def test_without_an_organ_nothing_happens() -> None:
    empty = np.zeros((4, 10, 10), dtype=np.uint8)

    np.testing.assert_array_equal(without_islands(empty, SPACING, fluid=1), empty)
