"""How many trials a volume gets, and on which slices."""

from __future__ import annotations

import pytest

from recond_service.pipeline.trial_plan import HELD_BYTES, SHARE, TrialPlan, plan_trials

SMALL = 1 << 20


def test_trials_take_a_bounded_part_of_the_work():
    for expected in range(2, 400, 7):
        plan = plan_trials(expected, 1.0, 1.5, SMALL, 5)
        if isinstance(plan, TrialPlan):
            assert 2 <= plan.trials <= 4
            assert plan.trials * 1.5 <= SHARE * expected * 1.0
        else:
            assert SHARE * expected < 2 * 1.5


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((1, 1.0, 1.5, SMALL, 5), "single image"),
        ((10, 1.0, 1.5, SMALL, 5), "more than 15% of the work on 10 images"),
        ((100, 0.0, 1.5, SMALL, 5), "nothing is known"),
        ((100, 1.0, 0.0, SMALL, 5), "nothing is known"),
        ((0, 1.0, 1.5, HELD_BYTES // 8, 5), "not known before 20 of them"),
    ],
)
def test_why_there_are_none(arguments, why):
    assert why in plan_trials(*arguments)


def test_slices_come_from_the_middle_of_the_stack():
    plan = plan_trials(100, 1.0, 1.5, SMALL, 5)
    assert plan == TrialPlan(4, 75)
    assert plan.places([0] * 75, 100) == [31, 44, 56, 69]


def test_memory_bounds_what_is_held_and_the_slices_are_as_near_as_it_allows():
    plan = plan_trials(100, 1.0, 1.5, HELD_BYTES // 10, 5)
    assert plan == TrialPlan(4, 10)
    assert plan.places([0] * 10, 100) == [6, 7, 8, 9]


def test_slices_without_signal_are_left_alone():
    exponents = [0] * 75
    exponents[40:50] = [9] * 10  # small samples were multiplied by much
    places = TrialPlan(4, 75).places(exponents, 100)
    assert places == [31, 39, 56, 69]


def test_of_an_unknown_number_as_many_are_held_as_pay_for_two_trials():
    plan = plan_trials(0, 1.0, 1.5, SMALL, 5)
    assert plan == TrialPlan(2, 20)
    assert plan.places([0] * 20, 0) == [7, 12]
