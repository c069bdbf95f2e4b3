"""One frame to a model server and back, with what has to be noted about it."""

from __future__ import annotations

import asyncio

from recond_models.model import ModelInfo
from recond_service.backends import FrameInput, SlicesInput
from recond_service.pipeline.context import BusyTime, RequestContext
from recond_service.scheduling import FrameJob, FrameOutcome, Scheduler
from recond_service.types import FindingList, Priority


class FrameComputation:
    """Takes the frames of a request to the scheduler.

    Parameters
    ----------
    scheduler
        Takes them to model servers.
    context
        The request.
    findings
        Gets what models notice.
    priority
        How urgent the frames are.
    deadline
        When they have to be computed, on the clock of the event loop; None for never.

    Attributes
    ----------
    busy
        Seconds in which at least one frame was waiting or computed.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        context: RequestContext,
        findings: FindingList,
        priority: Priority,
        deadline: float | None,
    ) -> None:
        self._scheduler = scheduler
        self._context = context
        self._findings = findings
        self._priority = priority
        self._deadline = deadline
        self.busy = BusyTime()

    async def compute(self, number: int, model: ModelInfo, frame: FrameInput) -> FrameOutcome:
        """Have a frame computed. If this is cancelled, the frame is withdrawn.

        Parameters
        ----------
        number
            Counts the frames of the request.
        model
            The model that reconstructs it.
        frame
            The frame; the scheduler's from here on.

        Raises
        ------
        RecondError
            What keeps it from its image.
        """
        outcome = await self._run(model, frame, self._context.trace.frame_arrived(number))
        self._context.trace.frame_done(number, outcome.queue_seconds, outcome.compute_seconds, outcome.batch_size)
        for note in outcome.frame.notes:
            self._findings.warn(note.code, note.message)
        return outcome

    async def try_out(self, model: ModelInfo, frame: FrameInput) -> FrameOutcome:
        """Have samples held out of a frame, which is queued and withdrawn like any other.

        Parameters
        ----------
        model
            Holds samples out.
        frame
            The frame; the scheduler's from here on.

        Raises
        ------
        RecondError
            What keeps it from its trial.
        """
        return await self._run(model, frame, None)

    async def run_head(self, head: ModelInfo, slices: SlicesInput) -> FrameOutcome:
        """Have a head run on a block of slices, which is queued and withdrawn like a frame.

        Parameters
        ----------
        head
            The head.
        slices
            The block; the scheduler's from here on.

        Raises
        ------
        RecondError
            What keeps it from its answer.
        """
        return await self._run(head, slices, None)

    async def _run(self, model: ModelInfo, frame: FrameInput | SlicesInput, link: object) -> FrameOutcome:
        job = FrameJob(
            model=model,
            frame=frame,
            client=self._context.caller.name,
            priority=self._priority,
            deadline=self._deadline,
            done=asyncio.get_running_loop().create_future(),
        )
        job.link = link
        with self.busy:
            self._scheduler.submit(job)
            outcome = await job.done
        self._context.record.add("queue", outcome.queue_seconds)
        self._context.record.add("compute", outcome.compute_seconds)
        return outcome
