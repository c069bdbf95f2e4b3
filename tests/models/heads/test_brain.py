"""The mask of the brain."""

from __future__ import annotations

import numpy as np

from recond_models.heads.brain import brain_mask


def test_furrows_and_ventricles_belong_to_the_brain_and_what_is_around_does_not() -> None:
    labels = np.zeros((12, 60, 60), dtype=np.uint8)
    labels[1:11, 8:52, 8:52] = 1
    labels[2:10, 14:46, 14:46] = 2
    labels[2:10, 14:30, 28:32] = 1  # a furrow
    labels[5:7, 36:42, 20:40] = 1  # a ventricle

    mask = brain_mask(labels, (2.0, 1.0, 1.0))

    assert mask[4:8, 17:44, 17:44].all()
    assert mask[5, 13, 20]  # the rim of a voxel
    assert not mask[:, :13].any()
    assert not mask[:2].any()
    assert 0.95 < mask.sum() / (8 * 34 * 34) <= 1.0


def test_unlabelled_voxels_do_not_belong_to_it() -> None:
    labels = np.zeros((8, 40, 40), dtype=np.uint8)
    labels[1:7, 5:35, 5:35] = 3
    labels[:, 5:20, 18:22] = 0  # air in a gap

    assert not brain_mask(labels, (2.0, 1.0, 1.0))[:, 5:18, 19:21].any()


def test_without_a_brain_the_mask_is_empty() -> None:
    assert not brain_mask(np.ones((4, 8, 8), dtype=np.uint8), (2.0, 1.0, 1.0)).any()
