import pickle

import numpy as np
import pytest

from recond_models.training import details, fields, shapes
from recond_models.training.simulator import SimulationSettings, Simulator, TrainingSample


def rss(images):
    return np.sqrt((np.abs(images) ** 2).sum(axis=0))


def arrays_of(sample: TrainingSample):
    return sample.kspace, sample.mask, sample.calibration, sample.coil_images


@pytest.fixture(scope="module")
def simulator(head):
    return Simulator([head])


@pytest.fixture(scope="module")
def plain(head):
    """White noise, nobody moves."""
    return Simulator([head], SimulationSettings(coloured=0, motion=0, unsteady=0))


@pytest.mark.parametrize("seed", [0, 1, 2, 2**62])
def test_same_seed_same_sample(simulator, head, seed):
    again = pickle.loads(pickle.dumps(Simulator([head]))).sample(seed, (96, 112))  # noqa: S301 - as a worker gets it
    first = simulator.sample(seed, (96, 112))
    assert first.description == again.description
    for one, other in zip(arrays_of(first), arrays_of(again), strict=True):
        assert np.array_equal(one, other)
    assert not np.array_equal(first.coil_images[0], simulator.sample(seed + 1, (96, 112)).coil_images[0])


@pytest.mark.parametrize("seed", range(24))
def test_a_sample_is_what_it_says(simulator, seed):
    shape = (97, 128) if seed % 2 else None
    sample = simulator.sample(seed, shape)
    coils = sample.kspace.shape[0]
    rows, columns = sample.mask.shape
    if shape is not None:
        assert (rows, columns) == shape
    assert 96 <= min(rows, columns) <= max(rows, columns) <= 384
    assert sample.kspace.dtype == sample.coil_images.dtype == sample.calibration.dtype == np.complex64
    assert sample.kspace.shape == sample.coil_images.shape == (coils, rows, columns)
    assert coils == min(8, sample.description.coils)
    assert sample.calibration.shape[0] == coils
    assert 8 <= min(sample.calibration.shape[1:]) <= max(sample.calibration.shape[1:]) <= 24
    assert not sample.kspace[:, ~sample.mask].any()
    assert np.isfinite(sample.kspace).all()
    assert np.isfinite(sample.coil_images).all()
    low, high = SimulationSettings().noise
    assert low <= sample.noise_level <= high
    assert np.quantile(rss(sample.coil_images), 0.99) == pytest.approx(1, rel=0.02)
    assert sample.description.acceleration == pytest.approx(sample.mask.size / sample.mask.sum())


def test_measured_samples_are_truth_plus_noise_of_the_stated_level(plain):
    for seed in range(12):
        sample = plain.sample(seed, (128, 128))
        noise = (sample.kspace - fields.to_kspace(sample.coil_images))[:, sample.mask]
        parts = np.stack([noise.real, noise.imag])
        assert parts.std() == pytest.approx(sample.noise_level, rel=0.05)
        assert abs(parts.mean()) < 0.05 * sample.noise_level
        # White across coils too: whitened arrays, orthonormal compression.
        covariance = noise @ noise.conj().T / noise.shape[1] / (2 * sample.noise_level**2)
        assert np.abs(covariance - np.eye(len(covariance))).max() < 6 / np.sqrt(noise.shape[1])


def test_full_mask_without_noise_gives_back_the_coil_images(head):
    settings = SimulationSettings(noise=(0, 0), accelerations=(1, 1.0001), motion=0, unsteady=0)
    simulator = Simulator([head], settings)
    full = [sample for seed in range(60) if (sample := simulator.sample(seed, (96, 80))).mask.all()]
    assert full
    for sample in full:
        assert sample.noise_level == 0
        difference = fields.to_images(sample.kspace) - sample.coil_images
        assert np.abs(difference).max() < 1e-5


def test_calibration_is_the_centre_of_kspace_where_that_is_measured(plain):
    compared = 0
    for seed in range(30):
        sample = plain.sample(seed, (100, 121))
        _, height, width = sample.calibration.shape
        top, left = 50 - height // 2, 60 - width // 2
        block = (slice(top, top + height), slice(left, left + width))
        measured = sample.mask[block]
        compared += int(measured.all())
        assert np.array_equal(sample.kspace[:, *block][:, measured], sample.calibration[:, measured])
        truth = fields.to_kspace(sample.coil_images)[:, *block]
        assert np.abs(sample.calibration - truth).max() < 8 * sample.noise_level
    assert compared > 15


def test_virtual_coils_keep_nearly_all_of_the_signal(head):
    many = SimulationSettings(coils=(32,), noise=(1e-3, 1e-3), max_coils=32)
    few = SimulationSettings(coils=(32,), noise=(1e-3, 1e-3), max_coils=12)
    for seed in range(4):
        whole = rss(Simulator([head], many).sample(seed, (96, 96)).coil_images)
        compressed = rss(Simulator([head], few).sample(seed, (96, 96)).coil_images)
        assert np.linalg.norm(whole - compressed) < 0.05 * np.linalg.norm(whole)


def test_transform_is_centred_and_orthonormal():
    generator = np.random.default_rng(0)
    image = (generator.standard_normal((2, 7, 10)) + 1j * generator.standard_normal((2, 7, 10))).astype(np.complex64)
    kspace = fields.to_kspace(image)
    assert np.linalg.norm(kspace) == pytest.approx(np.linalg.norm(image), rel=1e-5)
    assert kspace[:, 3, 5] == pytest.approx(image.sum(axis=(1, 2)) / np.sqrt(70), rel=1e-4)
    assert np.allclose(fields.to_images(kspace), image, atol=1e-5)
    row = np.arange(7)[:, None] - 3
    column = np.arange(10)[None, :] - 5
    wave = np.exp(2j * np.pi * (2 * row / 7 - column / 10)).astype(np.complex64)
    peak = fields.to_kspace(wave)
    assert np.unravel_index(np.abs(peak).argmax(), peak.shape) == (5, 4)


def test_upsampling_reproduces_cubic_fields():
    rows, columns = np.linspace(-1, 1, 18), np.linspace(-1, 1, 18)
    fine_rows, fine_columns = np.linspace(-1, 1, 61), np.linspace(-1, 1, 47)

    def cubic(down, across):
        return (1 + 2 * down - down**3)[:, None] * (0.5 + across**2 + 1j * across)[None, :]

    fine = fields.upsample(cubic(rows, columns).astype(np.complex64), (61, 47))
    assert np.abs(fine - cubic(fine_rows, fine_columns)).max() < 1e-5


def test_settings_and_shapes_out_of_range_are_refused(head):
    with pytest.raises(ValueError, match="at least one volume"):
        Simulator([])
    with pytest.raises(ValueError, match=r"\(20, 64\)"):
        Simulator([head]).sample(0, (20, 64))
    for wrong in (
        {"max_coils": 0},
        {"coils": ()},
        {"sizes": (16, 64)},
        {"accelerations": (0.5, 2)},
        {"noise": (-1, 1)},
    ):
        with pytest.raises(ValueError, match="at least"):
            SimulationSettings(**wrong)


def test_coloured_noise_has_the_stated_level_and_is_not_white(head):
    simulator = Simulator([head], SimulationSettings(coils=(8,), coloured=1, motion=0, unsteady=0))
    largest = []
    for seed in range(6):
        sample = simulator.sample(seed, (128, 128))
        noise = (sample.kspace - fields.to_kspace(sample.coil_images))[:, sample.mask]
        assert np.stack([noise.real, noise.imag]).std() == pytest.approx(sample.noise_level, rel=0.05)
        covariance = noise @ noise.conj().T / noise.shape[1] / (2 * sample.noise_level**2)
        largest.append(np.abs(covariance - np.eye(len(covariance))).max())
    assert max(largest) > 0.2


def test_a_head_that_moves_is_where_it_was_in_the_centre_of_kspace(head):
    settings = SimulationSettings(noise=(0, 0), kinds=("full",), motion=1, unsteady=0)
    moved = [Simulator([head], settings).sample(seed, (96, 80)) for seed in range(4)]
    for sample in moved:
        truth = fields.to_kspace(sample.coil_images)
        np.testing.assert_allclose(sample.kspace[..., 40], truth[..., 40], atol=1e-5)
        # A shift turns samples and changes none of the magnitudes.
        np.testing.assert_allclose(np.abs(sample.kspace), np.abs(truth), atol=1e-4)
    assert any(np.abs(s.kspace - fields.to_kspace(s.coil_images)).max() > 1e-2 for s in moved)


def test_kinds_of_patterns_can_be_chosen(head):
    settings = SimulationSettings(kinds=("grid",), accelerations=(4, 4))
    kinds = {Simulator([head], settings).sample(seed, (96, 80)).description.pattern for seed in range(4)}
    assert kinds == {"grid"}


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="motion"):
        SimulationSettings(motion=2)


@pytest.mark.parametrize(("kind", "lines"), [("equispaced_fraction", True), ("poisson", False)])
def test_an_unsteady_scanner_changes_lines_as_a_whole_and_positions_of_two_dimensional_patterns_one_by_one(
    head, kind, lines
):
    settings = SimulationSettings(noise=(0, 0), kinds=(kind,), accelerations=(4, 4), coils=(4,), motion=0, unsteady=1)
    sample = Simulator([head], settings).sample(3, (96, 96))
    truth = fields.to_kspace(sample.coil_images)
    seen = sample.mask & (np.abs(truth).min(axis=0) > 1e-4)
    errors = sample.kspace[:, seen] / truth[:, seen] - 1
    assert errors.std(axis=0).max() < 1e-3  # the coils share them
    assert 1e-3 < errors[0].std() < 0.1
    columns = np.nonzero(seen)[1]
    longest = np.bincount(columns).argmax()
    assert (errors[0][columns == longest].std() < 1e-3) == lines


def test_fat_lies_below_the_skin_and_nothing_is_lost(head):
    generator = np.random.default_rng(5)
    down, across = np.mgrid[-64:64, -64:64]
    radius = np.hypot(down, across)
    image = np.where(radius < 50, 0.7, 0).astype(np.float32)
    for _ in range(10):
        water, fat = details.split_fat(generator, image, 1.0)
        assert water.min() >= 0
        assert fat.min() >= 0
        assert fat[radius < 20].max() < 0.02  # deep inside is no fat
        assert fat[(radius > 47) & (radius < 49)].mean() > 0.1
        moved = details.add_fat(generator, water.astype(np.complex64), fat.astype(np.complex64))
        outer = np.abs(moved)[radius > 53]
        assert outer.max() < 1e-6
        assert np.allclose(moved[radius < 20], water[radius < 20], atol=0.02)


@pytest.mark.parametrize("shape", [(64, 96), (151, 130)])
def test_random_shapes_are_pictures_that_differ(shape):
    pictures = [shapes.draw(np.random.default_rng(seed), shape)[0] for seed in range(12)]
    for picture in pictures:
        assert picture.shape == shape
        assert picture.dtype == np.float32
        assert picture.min() >= 0
        assert 0.5 < picture.max() <= 1.5
        assert (picture > 0.02).mean() > 0.1
    correlations = np.corrcoef([picture.ravel() for picture in pictures])
    assert np.abs(correlations[np.triu_indices(12, 1)]).mean() < 0.7
    assert np.array_equal(pictures[3], shapes.draw(np.random.default_rng(3), shape)[0])


def test_scans_of_random_shapes_say_so(head):
    simulator = Simulator([head], SimulationSettings(shapes=1))
    sample = simulator.sample(4, (96, 80))
    assert sample.description.contrast == "shapes"
    assert np.quantile(rss(sample.coil_images), 0.99) == pytest.approx(1, rel=0.02)
    plain = Simulator([head], SimulationSettings()).sample(4, (96, 80))
    assert plain.description.contrast != "shapes"
