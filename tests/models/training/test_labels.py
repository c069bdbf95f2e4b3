import numpy as np
import pytest

from recond_models.training import labels, planes
from recond_models.training.collection import denoised, noise_of
from recond_models.training.simulator import Simulator
from recond_models.training.volumes import Source, Volume


def labelled(layout="labels") -> Volume:
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, size) for size in (60, 70, 60)), indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    structures = np.select([radius < 0.3, radius < 0.5, radius < 0.7, radius < 0.9], [4, 2, 3, 511], 0)
    source = Source("map", "nobody", "training", "MIT", "made here", "for tests", layout=layout)
    return Volume(source, labels.numbers_of(structures), False, (3.0, 3.0, 3.0), (30.0, 35.0, 30.0))


def test_unknown_structures_are_refused():
    with pytest.raises(ValueError, match="9999"):
        labels.numbers_of(np.array([0, 9999]))
    with pytest.raises(ValueError, match="300"):
        labels.numbers_of(np.array([0, 300]))


def test_a_structure_has_one_signal_and_borders_are_mixed():
    volume = labelled()
    generator = np.random.default_rng(2)
    middle = np.full((1, 64), 30.0)
    points = np.stack([np.linspace(-85, 85, 64)[None], 0 * middle, 0 * middle]).astype(np.float32)
    points = np.repeat(points, 64, axis=1)
    image, name = labels.paint(generator, volume, points)
    assert image.shape == (64, 64)
    assert name.startswith("painted")
    assert image.min() >= 0
    assert 0.9 < np.quantile(image, 0.99) <= 1.5
    # Outside of the head is air.
    assert image[:, 0].max() < 0.05
    # The same seed paints the same image, another one another contrast.
    again, _ = labels.paint(np.random.default_rng(2), volume, points)
    assert np.array_equal(image, again)
    other, _ = labels.paint(np.random.default_rng(3), volume, points)
    assert abs(np.corrcoef(image.ravel(), other.ravel())[0, 1]) < 0.99


def test_maps_survive_the_disc(tmp_path):
    volume = labelled()
    volume.save(tmp_path)
    loaded = Volume.load(tmp_path, volume.source)
    assert loaded.has_labels
    assert np.array_equal(loaded.voxels, volume.voxels)


def test_samples_come_from_maps():
    sample = Simulator([labelled()]).sample(1, (96, 96))
    assert sample.description.contrast.startswith("painted")
    assert np.isfinite(sample.kspace).all()


def test_thick_slices_are_cut_along_their_plane(head):
    source = Source("slices", "nobody", "training", "MIT", "made here", "for tests", layout="slices")
    volume = Volume.of(source, head.voxels["signal"][:, :, ::9] / 40_000, None, (2.0, 2.0, 18.0), (45.0, 54.0, 5.0))
    heights = planes.slice_heights(volume)
    assert planes.slice_heights(head) is None
    box = planes.HeadBox.around(volume)
    for seed in range(5):
        generator = np.random.default_rng(seed)
        plane = planes.draw_plane(generator, (96, 96), box, 2.0, heights)
        points = planes.deformed(generator, plane, (96, 96), flat=True)
        assert np.ptp(points[2]) == 0
        assert np.isclose(heights, points[2, 0, 0], atol=1e-4).any()
        assert plane.view == "axial"


def test_noise_is_found_and_taken_away_but_edges_stay():
    generator = np.random.default_rng(0)
    truth = np.full((64, 64), 0.4, dtype=np.float32)
    truth[:, 32:] = 0.9
    noisy = (truth + 0.03 * generator.standard_normal(truth.shape)).astype(np.float32)
    assert noise_of(noisy) == pytest.approx(0.03, rel=0.1)
    clean = denoised(noisy)
    assert np.abs(clean - truth).std() < 0.4 * 0.03
    assert clean[:, 33].mean() - clean[:, 30].mean() == pytest.approx(0.5, abs=0.03)
