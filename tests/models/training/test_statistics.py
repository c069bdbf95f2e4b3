import numpy as np
import pytest

from recond_models.training.fields import to_kspace
from recond_models.training.simulator import SimulationSettings, Simulator
from recond_models.training.statistics import effective_coils, g_factors, of_scan, spectrum


def test_effective_coils_count_equal_coils_and_not_copies():
    generator = np.random.default_rng(0)
    block = generator.standard_normal((4, 24, 24)) + 1j * generator.standard_normal((4, 24, 24))
    assert effective_coils(block) == pytest.approx(4, rel=0.02)
    copies = np.repeat(block[:1], 4, axis=0)
    assert effective_coils(copies) == pytest.approx(1, abs=0.01)


def test_g_factor_is_one_where_coils_do_not_overlap_and_grows_where_they_are_alike():
    apart = np.zeros((2, 8, 16), dtype=np.complex64)
    apart[0, :, :8] = 1
    apart[1, :, 8:] = 1
    assert g_factors(apart, 2) == pytest.approx(np.ones((8, 16)), abs=1e-3)
    # Gram matrix [[1, c], [c, 1]] of two real unit vectors has g = 1 / sqrt(1 - c^2).
    alike = np.zeros((2, 8, 16), dtype=np.complex64)
    alike[0] = 1
    alike[0, :, 8:], alike[1, :, 8:] = 0.6, 0.8
    assert g_factors(alike, 2) == pytest.approx(np.full((8, 16), 1.25), abs=1e-3)


def test_exponent_of_a_power_law_is_found():
    generator = np.random.default_rng(1)
    rows, columns = np.indices((128, 128))
    radius = np.hypot(rows - 64, columns - 64) + 1
    kspace = (generator.standard_normal((2, 128, 128)) + 1j * generator.standard_normal((2, 128, 128))) * radius**-1.5
    exponent, detail = spectrum(kspace.astype(np.complex64))
    assert exponent == pytest.approx(-3, abs=0.3)
    assert 0 < detail < 0.5


def test_simulated_scans_have_statistics_of_their_noise(head):
    settings = SimulationSettings(coils=(8,), noise=(0.02, 0.02), coloured=0)
    figures = of_scan(Simulator([head], settings).fully_sampled(3, (96, 96)))
    assert figures.noise == pytest.approx(0.02, rel=0.15)
    assert 1 <= figures.effective_coils <= 8
    assert 1 <= figures.g_median <= figures.g_high


def test_a_constant_phase_is_no_phase():
    image = np.zeros((1, 64, 64), dtype=np.complex64)
    image[0, 16:48, 16:48] = np.exp(1j)
    figures = of_scan(to_kspace(image))
    assert figures.phase_slope == pytest.approx(0, abs=1e-3)
    assert figures.phase_detail == pytest.approx(0, abs=1e-4)
    assert np.isnan(figures.g_median)
