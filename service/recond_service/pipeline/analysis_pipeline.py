"""Heads on images that were reconstructed elsewhere: the sandbox that reads them on one side, the scheduler on the other."""

from __future__ import annotations

import asyncio
from typing import Any

from recond_service.backends import Work
from recond_service.pipeline.context import Elapsed, RequestContext
from recond_service.pipeline.events import Admitted, Analysed, Compared, FileReady, Sink
from recond_service.pipeline.eviction import end_when_evicted
from recond_service.pipeline.feeding import Feeding
from recond_service.pipeline.frame_computation import FrameComputation
from recond_service.pipeline.head_tasks import HeadTasks, slices_input
from recond_service.pipeline.request import ReconstructionRequest
from recond_service.pipeline.services import Services
from recond_service.pipeline.sources import PartSource
from recond_service.processes import SharedBlock
from recond_service.sandbox import Sandbox
from recond_service.scan.messages import FileWritten, HeadFinished, ScanSummary, SlicesPrepared, VisitsCompared
from recond_service.scheduling import Demand
from recond_service.types import DefectError, FindingList, PartRole


class AnalysisPipeline:
    """One analysis of images.

    Parameters
    ----------
    services
        What the service has.
    request
        What is asked for: heads, and parts of the role IMAGES.
    context
        Who asks.
    """

    def __init__(self, services: Services, request: ReconstructionRequest, context: RequestContext) -> None:
        self._services = services
        self._request = request
        self._context = context
        self._findings = FindingList()
        self._total = Elapsed()

    async def run(self, source: PartSource, sink: Sink) -> None:
        """Run the heads.

        Parameters
        ----------
        source
            Where the images come from; read once the request is let in.
        sink
            Where the events go; see `Sink`.

        Raises
        ------
        RecondError
            What keeps the images from the heads.
        """
        services, request, caller = self._services, self._request, self._context.caller
        work: Work | None = "heads" if request.heads else None
        demand = Demand(request.size_bytes, 0.0, request.priority, caller.name, caller.deadline, work)
        with services.admission.admit(demand) as ticket:
            await sink(Admitted())
            self._context.record.stages["admission"] = self._total.seconds
            async with (
                await services.sandboxes.open(f"{caller.connection} {request.priority.name}") as sandbox,
                asyncio.TaskGroup() as group,
            ):
                feeding = Feeding(sandbox, request, services.settings, self._context.trace, ticket)
                eviction = group.create_task(end_when_evicted(ticket))
                feed = group.create_task(feeding.run(source, services.scheduler.frames_ahead()))
                frames = FrameComputation(
                    services.scheduler, self._context, self._findings, request.priority, caller.deadline
                )
                tasks = HeadTasks(request.heads, frames, sandbox, sink, ticket, services.metrics)
                summary = await self._follow(sandbox, tasks, group, sink)
                feed.cancel()
                eviction.cancel()
            if not any(part.role is PartRole.LABELS for part in request.scan.parts):
                tasks.require_result()
            for finding in summary.findings:
                self._findings.add(finding)
            stages = self._context.record.stages
            stages |= summary.seconds | {"upload": feeding.seconds.seconds, "total": self._total.seconds}
            await sink(Analysed(summary.shape, summary.stacks, tuple(self._findings), dict(stages)))

    async def _follow(
        self, sandbox: Sandbox[Any], tasks: HeadTasks, group: asyncio.TaskGroup, sink: Sink
    ) -> ScanSummary:
        """Do what the sandbox says until it has ended well."""
        while True:
            received = await sandbox.receive()
            try:
                match received.message:
                    case SlicesPrepared():
                        slices = slices_input(received.message, received, self._request.scan.limits.max_scan_bytes)
                        group.create_task(tasks.run(received.message, slices))
                    case HeadFinished():
                        await tasks.hand_out(received.message, received)
                    case VisitsCompared(report_bytes, table_bytes):
                        with received.take_block(report_bytes + table_bytes) as block:
                            report, table = block.read(0, report_bytes), block.read(report_bytes, table_bytes)
                        await sink(Compared(report, table))
                    case FileWritten(format_, size, stack, part):
                        with SharedBlock(received.fds.pop(0), size) as content:
                            await sink(FileReady(format_, content, stack, part))
                    case ScanSummary(fit_for_another):
                        sandbox.done_well = fit_for_another
                        return received.message
                    case other:
                        raise ValueError(f"a {type(other).__name__} from images")
            except (IndexError, ValueError) as error:
                kind = type(received.message).__name__
                raise DefectError(
                    f"the scan process sent a malformed {kind}: {error!r}; report the request id", reason="SCAN_PROCESS"
                ) from error
            finally:
                received.close_fds()
