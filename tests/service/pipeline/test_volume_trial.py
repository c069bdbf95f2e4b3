"""Trials of a volume: queued like other frames, bounded, and never in the way of an image."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace

import pytest
from virtual_servers import VirtualServer, VirtualTime, scheduler_on, settle

from recond_models import registry
from recond_models.evidence import HeldOut, calibration
from recond_models.sampling import Sampling
from recond_service.backends import ComputedFrame, FrameInput
from recond_service.pipeline import Caller, FrameComputation, ModelChoice, RequestContext
from recond_service.pipeline.volume_trial import VolumeTrial
from recond_service.processes import FrameLayout, SharedBlock
from recond_service.scan.messages import FramePrepared
from recond_service.scheduling import Bucket, CostModel
from recond_service.telemetry import RequestTrace
from recond_service.types import FindingList, Priority

ENSEMBLE, TRIAL = registry.find("ensemble"), registry.find("held-out-trial")
SAMPLING = Sampling(8, 96, 80, 8.0, "two-dimensional", 0, (24, 16))
LAYOUT = FrameLayout(8, 96, 80, 24, 16)
CELL = calibration().cell(SAMPLING)


class Trials:
    """A request of many frames on a virtual server that answers trials with errors."""

    def __init__(self, errors: dict[str, float] | None = None, *, deadline: float | None = None, **server) -> None:
        self.time = VirtualTime()
        costs = CostModel()
        for model, seconds in ((ENSEMBLE, 1.0), (TRIAL, 1.5)):
            for _ in range(3):
                costs.observe(Bucket.of(model, 96, 80), [8], seconds)
        self.server = VirtualServer(self.time, seconds=lambda frames, _: 1.5 * frames, **server)
        self.scheduler = scheduler_on(self.time, self.server, costs=costs)
        self.findings = FindingList()
        self.choice = ModelChoice(None, self.findings, "spec.model")
        context = RequestContext("r", Caller("c"), RequestTrace())
        self.computation = FrameComputation(self.scheduler, context, self.findings, Priority.CLINICAL, deadline)
        self.errors = errors

    def trial(self, priority: Priority = Priority.CLINICAL, seconds_left: float = 1e9) -> VolumeTrial:
        return VolumeTrial(self.choice, self.computation, self.scheduler, priority, lambda: seconds_left)

    def answer_trials(self, monkeypatch, empty: int = 0) -> None:
        """Let the server's answers carry a trial; the first ones are of slices without signal."""
        values = self.errors or {name: 2.718281828 ** (2 * usual) for name, usual in CELL.log_error.items()}
        made = ComputedFrame
        answers = itertools.count()

        def computed(image):
            return made(image, trial=HeldOut(values, 0.0 if next(answers) < empty else 1.0))

        monkeypatch.setattr("virtual_servers.ComputedFrame", computed)


def prepared(number: int, expected: int = 60) -> FramePrepared:
    return FramePrepared(number, LAYOUT, SAMPLING, expected, None)


def hold(trial: VolumeTrial, count: int, expected: int = 60) -> list[bool]:
    begins = []
    for number in range(count):
        block = SharedBlock.create("frame", LAYOUT.size)
        trial.hold(prepared(number, expected), FrameInput(replace(LAYOUT, guarded=True), block))
        begins.append(trial.begins())
    return begins


async def finish(trials: Trials, trial: VolumeTrial) -> None:
    running = asyncio.get_running_loop().create_task(trial.run())
    await trials.time.advance(60)
    await running


async def test_samples_are_held_out_before_the_choice_is_told(monkeypatch):
    trials = Trials()
    trials.answer_trials(monkeypatch)
    trial = trials.trial()
    trials.choice.suggest(SAMPLING)
    assert trial.plan(prepared(0), streamed=False, ahead=5) == 40  # 45 of 60 are held
    assert trial.holding
    assert hold(trial, 45) == [False] * 44 + [True]
    assert not trial.begins()
    await finish(trials, trial)
    assert {batch.model.name for _, batch in trials.server.handed} == {"held-out-trial"}
    assert len(trials.server.computed) == 4
    assert all(not frame.layout.guarded for frame in trials.server.computed)
    evidence = trial.evidence
    assert (evidence.model, evidence.preferred, evidence.slices) == (CELL.best, CELL.best, 4)
    assert evidence.seconds == pytest.approx(6.0)
    assert next(each.model for each in evidence.candidates) == min(CELL.log_error, key=CELL.log_error.get)
    assert "held out of 4 slices" in trials.choice.reason
    assert len(trial.take()) == 45
    assert not trial.holding
    assert len(trials.findings) == 0  # nothing is told before the first frame goes on
    assert trials.choice.for_frame(SAMPLING).name == CELL.best


async def test_a_scan_that_its_network_does_not_predict_goes_elsewhere(monkeypatch):
    usual = {name: 2.718281828 ** (2 * value) for name, value in CELL.log_error.items()}
    monkeypatch.setattr(
        "recond_service.pipeline.volume_trial.calibration",
        lambda: replace(calibration(), slopes={"lines": 0.1, "points": 0.1}, margin=0.001),
    )
    trials = Trials(usual | {"ensemble": 4 * usual["ensemble"], "unrolled-brain": 9 * usual["unrolled-brain"]})
    trials.answer_trials(monkeypatch)
    trial = trials.trial()
    trials.choice.suggest(SAMPLING)
    trial.plan(prepared(0), streamed=False, ahead=5)
    hold(trial, 45)
    await finish(trials, trial)
    assert trial.evidence.model == "tv"
    assert trials.choice.for_frame(SAMPLING).name == "tv"
    assert "network-not-chosen" in trials.findings
    assert "anatomy-assumed" not in trials.findings


@pytest.mark.parametrize(
    ("options", "expected", "streamed", "why"),
    [
        ({"priority": Priority.STAT}, 60, False, "urgent"),
        ({}, 60, True, "stream"),
        ({}, 1, False, "single image"),
        ({}, 12, False, "15%"),
        ({"seconds_left": 100.0}, 60, False, "deadline"),
    ],
)
def test_where_there_is_no_time_the_kind_of_sampling_decides(options, expected, streamed, why):
    async def run():
        trials = Trials()
        trial = trials.trial(**options)
        trials.choice.suggest(SAMPLING)
        assert trial.plan(prepared(0, expected), streamed=streamed, ahead=5) == 0
        assert not trial.holding
        assert why in trial.evidence.not_tried
        assert trial.evidence.model == CELL.best

    asyncio.run(run())


async def test_model_servers_without_trials_are_not_asked_for_any():
    trials = Trials(models={"ensemble", "tv"})
    trial = trials.trial()
    trials.choice.suggest(SAMPLING)
    assert trial.plan(prepared(0), streamed=False, ahead=5) == 0
    assert "cannot hold samples out" in trial.evidence.not_tried


async def test_a_named_model_and_one_that_a_rule_chose_need_no_evidence():
    trials = Trials()
    trials.choice = ModelChoice(registry.find("tv"), trials.findings, "spec.model")
    trial = trials.trial()
    trials.choice.suggest(SAMPLING)
    assert trial.plan(prepared(0), streamed=False, ahead=5) == 0
    assert trial.evidence is None


async def test_a_volume_that_ends_early_is_not_tried():
    trials = Trials()
    trial = trials.trial()
    trials.choice.suggest(SAMPLING)
    trial.plan(prepared(0, 0), streamed=False, ahead=5)
    assert hold(trial, 6, 0) == [False] * 6
    trial.complete()
    assert trial.begins()
    await trial.run()
    assert trials.server.handed == []
    assert "of 6 images would take more than" in trial.evidence.not_tried
    assert len(trial.take()) == 6


async def test_a_trial_that_fails_leaves_the_kind_of_sampling_to_decide(monkeypatch):
    trials = Trials()
    trials.answer_trials(monkeypatch)

    class Anything(set):
        def __and__(self, other):
            return other

    trials.server.poison = Anything()
    trial = trials.trial()
    trials.choice.suggest(SAMPLING)
    trial.plan(prepared(0), streamed=False, ahead=5)
    hold(trial, 45)
    await finish(trials, trial)
    assert "a trial failed (the model failed)" in trial.evidence.not_tried
    assert trials.choice.for_frame(SAMPLING).name == CELL.best
    assert len(trial.take()) == 45


async def test_a_request_that_is_cancelled_withdraws_its_trials():
    trials = Trials()
    trial = trials.trial()
    trials.choice.suggest(SAMPLING)
    trial.plan(prepared(0), streamed=False, ahead=5)
    hold(trial, 45)
    running = asyncio.get_running_loop().create_task(trial.run())
    await settle()
    assert trials.scheduler.waiting + trials.scheduler.running == 4
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await trials.time.advance(10)
    assert trials.scheduler.waiting + trials.scheduler.running == 0
    assert len(trials.server.computed) <= 1


async def test_held_out_samples_that_tell_nothing_are_not_paid_for(monkeypatch):
    monkeypatch.setattr(
        "recond_service.pipeline.volume_trial.calibration",
        lambda: replace(calibration(), slopes={"lines": 0.1, "points": 0.0}),
    )
    trial = (trials := Trials()).trial()
    trials.choice.suggest(SAMPLING)
    assert trial.plan(prepared(0), streamed=False, ahead=5) == 0
    assert "told nothing" in trial.evidence.not_tried


@pytest.mark.parametrize(("empty", "slices"), [(1, 3), (2, 2), (3, 0)])
async def test_empty_slices_leave_the_decision_to_the_others_while_these_suffice(monkeypatch, empty, slices):
    trials = Trials()
    trials.answer_trials(monkeypatch, empty)
    trial = trials.trial()
    trials.choice.suggest(SAMPLING)
    trial.plan(prepared(0), streamed=False, ahead=5)
    hold(trial, 45)
    await finish(trials, trial)
    assert trial.evidence.slices == slices
    assert bool(trial.evidence.not_tried) == (slices == 0)
