"""Samples of tissue."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from recond_models.heads.framing import BRIGHTEST
from recond_models.training.heads import tissue
from recond_models.training.heads.acquisition import acquire, undersample
from recond_models.training.heads.label_maps import (
    CLASSES,
    MERGED,
    OUTPUT,
    LabelMap,
    class_of_structures,
    load_measured,
)
from recond_models.training.heads.painting import draw_palette, draw_weighting, paint
from recond_models.training.heads.samples import IGNORED
from recond_models.training.heads.slabs import draw_slab
from recond_models.training.heads.tissue import EASY, TissueSamples
from recond_models.training.labels import STRUCTURES

SIZE = (64, 64)


def _map_with_signal(label_map: LabelMap) -> LabelMap:
    """Return the head as if it had been measured: what is brighter has a higher class."""
    classes = class_of_structures()[label_map.structures]
    return replace(label_map, structures=classes, signal=(classes / np.float32(8)).astype(np.float32))


def test_the_same_state_draws_the_same_sample(label_map: LabelMap) -> None:
    samples = TissueSamples([label_map, _map_with_signal(label_map)], SIZE)

    for seed in range(6):
        first, second = (samples.draw(np.random.default_rng(seed)) for _ in range(2))
        np.testing.assert_array_equal(first.image, second.image)
        np.testing.assert_array_equal(first.target, second.target)


def test_samples_are_as_networks_see_volumes(label_map: LabelMap) -> None:
    samples = TissueSamples([label_map], SIZE)
    drawn = [samples.draw(np.random.default_rng(seed)) for seed in range(40)]

    for sample in drawn:
        assert (sample.image.shape, sample.image.dtype) == ((5, *SIZE), np.float32)
        assert (sample.target.shape, sample.target.dtype) == (SIZE, np.uint8)
        assert sample.image.min() >= 0
        assert sample.image.max() <= BRIGHTEST
    # Every class of the map, and brightness as `preparation` makes it.
    found = set(np.unique(np.stack([sample.target for sample in drawn])).tolist())
    assert found == {0, 1, 2, 3, 4, 5}
    shown = [sample.image for sample in drawn if (sample.target > 0).any()]
    bright = [np.percentile(image[image > image.mean()], 95) for image in shown]
    assert 0.7 < np.median(bright) < 1.4


def test_the_target_lies_where_the_tissue_is(label_map: LabelMap) -> None:
    samples = TissueSamples([label_map], SIZE, EASY)
    agreeing = []
    for seed in range(30):
        sample = samples.draw(np.random.default_rng(seed))
        grey, white = (sample.image[2][sample.target == place] for place in (2, 3))
        if len(grey) > 50 and len(white) > 50:
            agreeing.append(np.median(white) > np.median(grey))
    assert len(agreeing) > 5
    assert np.mean(agreeing) > 0.9  # T1-weighted: white matter is brighter


def test_measured_heads_keep_their_image_and_what_is_unknown(
    label_map: LabelMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tissue, "_REAL_SHARE", 1.0)
    measured = _map_with_signal(label_map)
    measured.structures[measured.structures == 1] = IGNORED
    samples = TissueSamples([label_map, measured], SIZE, EASY)

    targets = np.stack([samples.draw(np.random.default_rng(seed)).target for seed in range(12)])

    assert {0, 2, 3, IGNORED} <= set(np.unique(targets).tolist())
    assert not (targets == 1).any()


def test_a_map_must_be_there_to_paint(label_map: LabelMap) -> None:
    with pytest.raises(ValueError, match="label map"):
        TissueSamples([_map_with_signal(label_map)], SIZE)


def test_every_class_has_structures_and_a_place_in_the_output() -> None:
    table = class_of_structures()

    assert set(table.tolist()) == set(range(len(CLASSES)))
    assert len(MERGED) == len(CLASSES)
    assert set(MERGED) == set(range(len(OUTPUT)))
    for structure, name in ((3, "grey matter"), (41, "white matter"), (10, "deep grey nuclei"), (24, "cerebrospinal fluid"),
                            (16, "brain stem"), (507, "background")):  # fmt: skip
        assert CLASSES[table[STRUCTURES.index(structure)]] == name


def test_thick_slices_average_thin_ones(label_map: LabelMap) -> None:
    slab = draw_slab(np.random.default_rng(0), SIZE, step=5.0)

    assert slab.thin >= 3
    assert slab.points.shape == (3, 5 * slab.thin, *SIZE)
    values = np.arange(5 * slab.thin, dtype=np.float32)[:, None, None] * np.ones(SIZE, dtype=np.float32)
    np.testing.assert_allclose(slab.averaged(values)[2], (values[2 * slab.thin : 3 * slab.thin]).mean(axis=0))
    step = np.linalg.norm(slab.points[:, slab.thin, 32, 32] - slab.points[:, 0, 32, 32])
    assert 3.0 < step < 7.0  # stretched by no more than heads are


def test_known_contrasts_have_their_order(label_map: LabelMap) -> None:
    for seed in range(5):
        generator = np.random.default_rng(seed)
        t1 = draw_palette(generator, "t1", 0.0, stripped=False).means
        t2 = draw_palette(generator, "t2", 0.0, stripped=False).means
        white, grey, fluid = (STRUCTURES.index(structure) for structure in (2, 3, 24))
        assert t1[white] > t1[grey] > t1[fluid]
        assert t2[fluid] > t2[grey] > t2[white]
        assert t1[STRUCTURES.index(2)] == t1[STRUCTURES.index(41)]


def test_a_stripped_head_is_dark_outside_the_brain(label_map: LabelMap) -> None:
    generator = np.random.default_rng(1)
    palette = draw_palette(generator, "t1", 0.5, stripped=True)
    slab = draw_slab(generator, SIZE, step=1.0)
    structures = label_map.at(slab.points)

    image = paint(generator, palette, slab, structures)

    assert image[structures == STRUCTURES.index(507)].max(initial=0) == 0


def test_weightings_are_drawn_as_often_as_asked() -> None:
    generator = np.random.default_rng(0)
    drawn = [draw_weighting(generator, (0.5, 0.0, 0.0, 0.0, 0.0)) for _ in range(400)]

    assert set(drawn) == {"t1", "random"}
    assert 0.42 < drawn.count("t1") / 400 < 0.58


def test_a_good_scan_stays_what_it_was_and_a_bad_one_does_not() -> None:
    generator = np.random.default_rng(4)
    slices = np.zeros((5, *SIZE), dtype=np.float32)
    slices[:, 16:48, 16:48] = np.linspace(0.4, 1, 32, dtype=np.float32)

    def error(severity: float) -> float:
        made = [acquire(generator, slices, severity) for _ in range(8)]
        return float(np.mean([1 - np.corrcoef(image.ravel(), slices.ravel())[0, 1] for image in made]))

    assert error(0.0) < 0.01
    assert error(1.0) > 3 * error(0.0)


def test_undersampling_leaves_the_brightness_and_takes_the_detail() -> None:
    generator = np.random.default_rng(5)
    slices = generator.random((5, *SIZE), dtype=np.float32) + 1

    made = np.stack([undersample(generator, slices) for _ in range(10)])

    assert made.dtype == np.float32
    assert made.mean() == pytest.approx(1.5, rel=0.1)
    assert made.std() < 0.9 * slices.std()


def test_a_folder_of_labels_gives_a_measured_head(tmp_path: Path) -> None:
    labels = np.zeros((40, 40, 40), dtype=np.int16)
    labels[10:30, 10:30, 10:30] = 1012
    labels[14:26, 14:26, 14:26] = 2
    labels[18:22, 18:22, 18:22] = 49
    for folder, name, values in (
        ("images", "fs001_orig", (labels > 0) * 100 + 20),
        ("labels", "fs001_aparc+aseg", labels),
    ):
        (tmp_path / folder).mkdir()
        nibabel.nifti1.Nifti1Image(values.astype(np.int16), np.eye(4)).to_filename(tmp_path / folder / f"{name}.nii.gz")

    (head,) = load_measured(tmp_path)

    assert set(np.unique(head.structures).tolist()) == {0, 2, 3, 4, IGNORED}
    assert head.signal is not None
    assert head.signal.shape == head.structures.shape
    assert load_measured(tmp_path / "nothing") == []
