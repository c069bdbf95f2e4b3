"""Holds the first frames of a volume back until held-out samples of some of them have shown which model suits it."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from recond_models import registry
from recond_models.evidence import Cell, HeldOut, calibration, decide, pool
from recond_models.model import ModelInfo, UnknownModelError
from recond_service.backends import FrameInput
from recond_service.pipeline.evidence import CandidateEvidence, Evidence
from recond_service.pipeline.frame_computation import FrameComputation
from recond_service.pipeline.model_choice import ModelChoice
from recond_service.pipeline.trial_plan import FEWEST_TRIALS, SHARE, TrialPlan, plan_trials
from recond_service.processes import FrameLayout, SharedBlock
from recond_service.scan.messages import FramePrepared
from recond_service.scheduling import Scheduler
from recond_service.types import Priority, RecondError

_log = structlog.get_logger(__name__)

_COST_OF_TRIAL = 1.6
"""Over that of a frame, until one was measured: three members in place of two, and no more sensitivities."""

_TIME_TO_SPARE = 2.0  # a deadline has to leave this many times what the volume is predicted to take


@dataclass(frozen=True, slots=True)
class HeldFrame:
    """A frame that waits for the decision."""

    prepared: FramePrepared
    frame: FrameInput


class VolumeTrial:
    """Decides between the candidates for a volume.

    Parameters
    ----------
    choice
        The choice of a model, which is settled here.
    computation
        Takes trials to the scheduler.
    scheduler
        Tells what frames cost, and whether a model server can run trials.
    priority
        How urgent the request is: the most urgent ones have no time for trials.
    seconds_left
        Tells how much time the deadline leaves; infinite where there is none.

    Attributes
    ----------
    evidence
        What the model was chosen by; None where a rule or the user chose it.
    held
        The frames that wait.
    """

    def __init__(
        self,
        choice: ModelChoice,
        computation: FrameComputation,
        scheduler: Scheduler,
        priority: Priority,
        seconds_left: Callable[[], float],
    ) -> None:
        self._choice = choice
        self._computation = computation
        self._scheduler = scheduler
        self._priority = priority
        self._seconds_left = seconds_left
        self._plan: TrialPlan | None = None
        self._model: ModelInfo | None = None
        self._begun = self._complete = False
        self.evidence: Evidence | None = None
        self.held: list[HeldFrame] = []

    @property
    def holding(self) -> bool:
        """Frames are to be held back."""
        return self._plan is not None

    def begins(self) -> bool:
        """Tell once that enough frames are there, or that there will be no more: `run` is to be called."""
        if self._plan is None or self._begun or not (self._complete or len(self.held) >= self._plan.held):
            return False
        self._begun = True
        return True

    def complete(self) -> None:
        """Take note that there will be no more frames."""
        self._complete = True

    def plan(self, first: FramePrepared, *, streamed: bool, ahead: int) -> int:
        """Decide by the first frame whether there are trials.

        Parameters
        ----------
        first
            The first frame; the choice has a model for it.
        streamed
            The scan is still measured, and its first image is wanted before its last readout.
        ahead
            How many frames the sandbox may send before images come back.

        Returns
        -------
        int
            How many more it has to be allowed to send.
        """
        cell, preferred = self._choice.cell, self._choice.model
        if cell is None or preferred is None:
            return 0
        planned = self._planned(cell, preferred, first, streamed=streamed, ahead=ahead)
        if isinstance(planned, str):
            self.evidence = Evidence(preferred.name, preferred.name, not_tried=planned)
            return 0
        self._plan = planned
        return max(planned.held - ahead, 0)

    def _planned(
        self, cell: Cell, preferred: ModelInfo, first: FramePrepared, *, streamed: bool, ahead: int
    ) -> TrialPlan | str:
        hindrance = self._hindrance(cell, streamed=streamed)
        if hindrance or self._model is None:
            return hindrance
        layout = first.layout
        shape = (layout.coils, layout.rows, layout.columns)
        frame_seconds = self._scheduler.predict_seconds(preferred, [shape])
        trial_seconds = self._scheduler.predict_seconds(self._model, [shape]) or _COST_OF_TRIAL * frame_seconds
        work = frame_seconds * first.expected / max(self._scheduler.capacity, 1)
        if self._seconds_left() < _TIME_TO_SPARE * work:
            return "the deadline leaves no time"
        return plan_trials(first.expected, frame_seconds, trial_seconds, layout.size, ahead)

    def _hindrance(self, cell: Cell, *, streamed: bool) -> str:
        """Return why there cannot be trials, whatever they cost; empty if there can."""
        if self._priority is Priority.STAT:
            return "the request is urgent"
        if streamed:
            return "the scan is a stream"
        if calibration().slope(lines=cell.lines) == 0:
            return "they have told nothing about scans that were sampled like this"
        try:
            self._model = registry.find(registry.HELD_OUT)
        except UnknownModelError:
            return "the network is not installed"
        return "" if self._scheduler.serves(self._model) else "the model servers cannot hold samples out"

    def hold(self, prepared: FramePrepared, frame: FrameInput) -> None:
        """Take a frame that has to wait."""
        self.held.append(HeldFrame(prepared, frame))

    def take(self) -> list[HeldFrame]:
        """Return the frames that waited; there are no more to hold."""
        held, self.held = self.held, []
        return held

    async def run(self) -> None:
        """Hold samples out of some of the frames, and settle the choice. Frames are held until this returns.

        Where a trial fails, the kind of sampling decides alone.
        """
        plan, model, cell, preferred = self._plan, self._model, self._choice.cell, self._choice.model
        if plan is None or model is None or cell is None or preferred is None:
            return
        if len(self.held) < plan.held:
            few = f"trials on {plan.trials} of {len(self.held)} images would take more than {SHARE:.0%} of the work"
            self._end(Evidence(preferred.name, preferred.name, not_tried=few))
            return
        exponents = [held.prepared.layout.exponent for held in self.held]
        places = plan.places(exponents, self.held[0].prepared.expected)
        problem = ""
        tasks: list[asyncio.Task[tuple[HeldOut | None, float]]] = []
        try:
            async with asyncio.TaskGroup() as group:
                tasks += [group.create_task(self._try(model, self.held[place].frame)) for place in places]
        except* RecondError as errors:
            problem = "; ".join(str(error) for error in errors.exceptions)
            _log.warning("held-out-trial-failed", problem=problem)
        if problem:
            self._end(Evidence(preferred.name, preferred.name, not_tried=f"a trial failed ({problem})"))
            return
        done = [task.result() for task in tasks]
        trials = [trial for trial, _ in done if trial is not None and trial.energy > 0]
        seconds = sum(spent for _, spent in done)
        if len(trials) < min(FEWEST_TRIALS, len(done)) or not trials:  # slices without signal tell nothing
            nothing = Evidence(preferred.name, preferred.name, seconds=seconds, not_tried="a trial came to nothing")
            self._end(nothing)
            return
        pooled = pool(trials)
        decision = decide(cell, pooled, calibration())
        candidates = tuple(
            CandidateEvidence(name, pooled.relative(name), decision.expected[name])
            for name in sorted(decision.expected, key=pooled.relative)
        )
        evidence = Evidence(decision.model, decision.preferred, candidates, len(trials), seconds)
        self._choice.settle(decision.model, _reason(evidence))
        self._end(evidence)

    def _end(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self._plan = None

    async def _try(self, model: ModelInfo, frame: FrameInput) -> tuple[HeldOut | None, float]:
        layout: FrameLayout = replace(frame.layout, guarded=False)
        block = SharedBlock(os.dup(frame.block.fd), frame.block.size)
        outcome = await self._computation.try_out(model, FrameInput(layout, block))
        outcome.frame.image.close()
        return outcome.frame.trial, outcome.compute_seconds


def _reason(evidence: Evidence) -> str:
    """Say what spoke for the model."""
    errors = ", ".join(f"{each.model} {each.held_out_error:.3f}" for each in evidence.candidates)
    shown = f"samples that were held out of {evidence.slices} slices are predicted with these errors: {errors}"
    if evidence.model == evidence.preferred:
        return f"{shown}; with what scans of this kind show, {evidence.model} is expected to be best"
    expected = {each.model: each.expected_ssim for each in evidence.candidates}
    gain = expected[evidence.model] - expected.get(evidence.preferred, math.nan)
    return f"{shown}; by these {evidence.model} is expected to be better by {gain:.4f} SSIM than {evidence.preferred}"
