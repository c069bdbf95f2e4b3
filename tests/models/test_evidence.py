"""What figures and held-out samples decide between the network, classical models and their mean."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from recond_models import registry
from recond_models.evidence import CANDIDATES, Calibration, Cell, GuardLimit, HeldOut, calibration, decide, pool
from recond_models.sampling import Sampling

SSIM = {"ensemble": 0.90, "unrolled-brain": 0.89, "tv": 0.88, "l1-wavelet": 0.87}
USUAL = {
    "ensemble": math.log(0.30),
    "unrolled-brain": math.log(0.25),
    "tv": math.log(0.40),
    "l1-wavelet": math.log(0.40),
}
CELL = Cell(lines=True, acceleration=(3.5, 5), ssim=SSIM, measured_ssim={}, log_error=USUAL, measured=2, simulated=5)
LEARNT = Calibration("", (CELL,), {"lines": 0.1, "points": 0.0}, 0.002, {})


def sampling(**changes) -> Sampling:
    return replace(Sampling(8, 256, 256, 4.0, "uniform", 4, (24, 24)), **changes)


def trial(**errors: float) -> HeldOut:
    """Return the trial of a scan whose relative errors are the usual ones but for those that are given."""
    usual = {name: math.exp(value) for name, value in USUAL.items()} | {
        name.replace("_", "-"): value for name, value in errors.items()
    }
    return HeldOut({name: value**2 for name, value in usual.items()}, 1.0)


def test_a_scan_like_others_goes_to_what_is_best_on_these():
    # The network predicts held-out lines best here, as it does on every scan of this kind: that says nothing about this one.
    decision = decide(CELL, trial(), LEARNT)
    assert (decision.model, decision.preferred) == ("ensemble", "ensemble")
    assert decision.expected == pytest.approx(SSIM)


def test_a_scan_on_which_the_network_fails_goes_to_a_classical_model():
    decision = decide(CELL, trial(ensemble=0.39, unrolled_brain=0.45), LEARNT)
    # Its error is 1.8 times the usual one, that of the mean 1.3 times: beside tv they lose 0.059 and 0.026.
    assert decision.model == "tv"
    assert decision.expected["tv"] - decision.expected["ensemble"] == pytest.approx(-0.02 + 0.1 * math.log(1.3))


def test_a_gain_within_the_margin_does_not_overrule():
    factor = math.exp(0.0215 / 0.1)  # tv would be better by 0.0015
    just = trial(ensemble=0.30 * factor, unrolled_brain=0.25 * factor)
    assert max(decide(CELL, just, LEARNT).expected.items(), key=lambda item: item[1])[0] == "tv"
    assert decide(CELL, just, LEARNT).model == "ensemble"
    assert decide(CELL, just, replace(LEARNT, margin=0.001)).model == "tv"


def test_held_out_samples_do_not_count_where_nothing_is_gained_by_them():
    points = replace(CELL, lines=False)
    assert decide(points, trial(ensemble=0.9, unrolled_brain=0.9), LEARNT).model == "ensemble"


def test_frames_of_a_pool_count_alike():
    bright, dark = HeldOut({"tv": 100.0}, 400.0), HeldOut({"tv": 0.04, "rss": 1.0}, 0.04)
    pooled = pool([bright, dark])
    assert pooled.relative("tv") == pytest.approx(math.sqrt((0.25 + 1.0) / 2))
    assert (list(pooled.errors), pooled.hidings) == (["tv"], 2)
    with pytest.raises(ValueError, match="no trials"):
        pool([])


def test_a_cell_is_found_by_kind_of_lines_and_acceleration():
    learnt = calibration()
    for pattern, acceleration in (("uniform", 4.0), ("irregular", 4.999), ("two-dimensional", 8.0)):
        cell = learnt.cell(sampling(pattern=pattern, acceleration=acceleration))
        assert cell is not None
        assert cell.lines == (pattern != "two-dimensional")
        assert cell.acceleration[0] <= acceleration < cell.acceleration[1]
    # What was never tried is taken for like the nearest.
    assert learnt.cell(sampling(acceleration=50.0)) is max(
        (cell for cell in learnt.cells if cell.lines), key=lambda cell: cell.acceleration
    )
    assert replace(learnt, cells=()).cell(sampling()) is None


def test_the_calibration_covers_the_contract_of_the_network():
    contract = registry.find("unrolled-brain").contract
    learnt = calibration()
    for pattern in contract.patterns:
        for acceleration in (1.5, 3.0, 4.0, 6.0, 8.0, contract.acceleration[1]):
            cell = learnt.cell(sampling(pattern=pattern, acceleration=acceleration))
            assert cell is not None, (pattern, acceleration)
            assert set(cell.ssim) == set(cell.log_error) == set(CANDIDATES)
            assert cell.measured + cell.simulated > 0
    assert set(learnt.guards) == {"tv", "l1-wavelet", "samples"}


def test_more_noise_and_acceleration_explain_more_disagreement():
    limit = GuardLimit(0.0, 0.5, 1.0)
    assert limit.at(0.04, 4.0) == pytest.approx(0.8)
    learnt = calibration().guards["tv"]
    assert learnt.at(0.001, 4.0) < learnt.at(0.01, 4.0) < learnt.at(0.01, 8.0)


def test_the_mean_is_taken_unless_another_is_clearly_ahead_and_on_measured_scans_too():
    assert CELL.best == "ensemble"
    assert replace(CELL, ssim=SSIM | {"unrolled-brain": 0.9015}).best == "ensemble"
    ahead = replace(CELL, ssim=SSIM | {"unrolled-brain": 0.905, "tv": 0.904})
    assert ahead.best == "unrolled-brain"
    assert replace(ahead, measured_ssim=SSIM | {"unrolled-brain": 0.899}).best == "ensemble"
    assert replace(ahead, measured_ssim=SSIM | {"unrolled-brain": 0.899, "tv": 0.903}).best == "tv"


def test_a_cell_says_which_scans_it_is_of():
    assert CELL.describe() == "2 measured and 5 simulated head scans with 3.5 to 5-fold undersampling in whole lines"
    points = replace(CELL, lines=False, measured=0)
    assert points.describe() == "5 simulated head scans with 3.5 to 5-fold undersampling in single positions"
