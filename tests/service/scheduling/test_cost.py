import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recond_service.scheduling import Bucket, CostModel

BUCKET = Bucket("m", "1", "", 320, 320)


def run(costs: CostModel, law, batches: int, seed: int = 0, bucket: Bucket = BUCKET, queue: int = 64) -> list[int]:
    """Run batches as the scheduler would with so many frames in the queue; return their sizes."""
    chance = random.Random(seed)
    sizes = []
    for _ in range(batches):
        trial = costs.size_to_try(bucket)
        size = trial if trial is not None and trial <= queue else min(costs.preferred_size(bucket), queue)
        coils = [chance.choice([4, 6, 8, 12, 16]) for _ in range(size)]
        costs.observe(bucket, coils, law(size, sum(coils)) * math.exp(chance.gauss(0, 0.03)))
        sizes.append(size)
    return sizes


def cpu_law(frames: int, coils: int) -> float:
    """As measured at 320 x 320 on two cores: a batch of 4 costs 1.48 times as much a frame."""
    return (0.05 * frames + 0.01 * coils) * (1 + 0.16 * (frames - 1))


def gpu_law(frames: int, coils: int) -> float:
    """A launch that costs as much as 12 frames; more than 16 frames at a time gain nothing."""
    return 0.012 + 0.001 * frames + 0.00002 * coils + 0.002 * max(frames - 16, 0)


def test_a_cpu_is_found_to_want_single_frames():
    costs = CostModel()
    sizes = run(costs, cpu_law, 300)
    assert costs.preferred_size(BUCKET) == 1
    assert sizes.count(1) >= 295  # a few trials of 2, no more


def test_a_gpu_is_found_to_want_large_batches():
    costs = CostModel()
    sizes = run(costs, gpu_law, 300)
    assert costs.preferred_size(BUCKET) == 16
    assert sizes[-100:].count(16) >= 98
    assert costs.gain(BUCKET, 4) > 0


def test_predictions_follow_coils_and_frames():
    costs = CostModel()
    run(costs, cpu_law, 200)
    for coils in ([4], [16], [8]):
        assert costs.seconds(BUCKET, coils) == pytest.approx(cpu_law(1, sum(coils)), rel=0.08)
    assert costs.margin(BUCKET) < 1.2


def test_predictions_follow_a_machine_that_becomes_slower():
    costs = CostModel()
    run(costs, cpu_law, 100)
    run(costs, lambda frames, coils: 3 * cpu_law(frames, coils), 120, seed=1)
    assert costs.seconds(BUCKET, [8]) == pytest.approx(3 * cpu_law(1, 8), rel=0.15)


def test_a_single_outlier_changes_little():
    costs = CostModel()
    run(costs, cpu_law, 100)
    before = costs.seconds(BUCKET, [8])
    costs.observe(BUCKET, [8], 1000.0)
    assert costs.seconds(BUCKET, [8]) < 1.5 * before


def test_an_unknown_matrix_takes_after_the_nearest_of_its_model():
    costs = CostModel()
    assert not costs.knows(BUCKET)
    run(costs, cpu_law, 50)
    larger = Bucket("m", "1", "", 640, 320)
    assert costs.knows(larger)
    assert costs.seconds(larger, [8]) == pytest.approx(2 * cpu_law(1, 8), rel=0.2)
    assert not costs.knows(Bucket("other", "1", "", 320, 320))


def test_what_does_not_fit_is_not_tried_again():
    costs = CostModel()
    run(costs, gpu_law, 30)
    costs.limit_size(BUCKET, 4)
    assert max(run(costs, gpu_law, 100)) <= 4


def test_memory_follows_what_was_measured():
    costs = CostModel()
    for coils in ([4], [8], [16], [4, 4], [16, 8], [8, 8, 8]):
        for _ in range(5):
            costs.observe(BUCKET, coils, 0.1, peak_bytes=1000 * len(coils) + 500 * sum(coils))
    assert costs.peak_bytes(BUCKET, [12, 12]) == pytest.approx(14000, rel=0.1)


@given(
    seconds=st.lists(st.floats(1e-6, 1e4, allow_nan=False), min_size=1, max_size=60),
    coils=st.lists(st.lists(st.integers(1, 128), min_size=1, max_size=8), min_size=1, max_size=10),
)
@settings(max_examples=200, deadline=None)
def test_predictions_stay_finite_and_positive_whatever_is_measured(seconds, coils):
    costs = CostModel()
    for number, value in enumerate(seconds):
        costs.observe(BUCKET, coils[number % len(coils)], value)
    for each in coils:
        predicted = costs.seconds(BUCKET, each)
        assert 0 < predicted < 1e7
        assert 1 <= costs.margin(BUCKET) <= 20
    assert 1 <= costs.preferred_size(BUCKET) <= 64


def test_nonsense_teaches_nothing():
    costs = CostModel()
    for seconds in (0.0, -1.0, math.nan, math.inf):
        costs.observe(BUCKET, [8], seconds)
    costs.observe(BUCKET, [], 1.0)
    assert not costs.knows(BUCKET)
