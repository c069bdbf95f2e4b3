"""One `ModelInfer` call of the KServe v2 protocol: a frame to the scheduler, its image back."""

from __future__ import annotations

import asyncio
import json
import time

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from recond_models.model import ModelInfo
from recond_models.sampling import Sampling
from recond_service.api.choice import check_suitable, chosen_model, named_model
from recond_service.api.kserve_frame import ReceivedFrame, receive_frame
from recond_service.api.kserve_tensors import IMAGE, KSPACE, RESIDUAL, InferSpec, read_spec, response_of, tensors_of
from recond_service.api.rooms import Rooms, Visit
from recond_service.backends import FrameInput
from recond_service.scheduling import Demand, FrameJob, FrameOutcome, Ticket
from recond_service.transport import SharedBlock
from recond_service.types import (
    DeadlineExceededError,
    FindingList,
    LimitExceededError,
)

AUTO = "auto"
"""Name under which the service picks a model by how the frame was sampled."""


class InferCall:
    """State of one call.

    Parameters
    ----------
    rooms
        The service.
    visit
        Its id, caller and spans.
    request
        What is asked for.

    Attributes
    ----------
    model
        Name of the model that runs; empty while that is not decided.
    stages
        Seconds by stage.
    """

    def __init__(self, rooms: Rooms, visit: Visit, request: pb.ModelInferRequest) -> None:
        self._rooms = rooms
        self._request_id = visit.request_id
        self._caller = visit.caller
        self._trace = visit.trace
        self._request = request
        self._findings = FindingList()
        self.model = ""
        self.stages: dict[str, float] = {}

    async def run(self) -> pb.ModelInferResponse:
        """Serve the call.

        Raises
        ------
        RecondError
            What keeps it from its image.
        """
        name, version = self._request.model_name, self._request.model_version
        asked = None if name == AUTO else named_model(name, version, "model_name")
        spec = read_spec(self._request, self._rooms.settings.limits().max_frame_bytes)
        deadline = self._deadline(spec)
        try:
            async with asyncio.timeout_at(deadline):
                with self._admit(spec, asked, deadline) as ticket:
                    return await self._reconstruct(spec, asked, deadline, ticket)
        except TimeoutError as error:
            raise DeadlineExceededError("the deadline passed", reason="DEADLINE") from error

    def _deadline(self, spec: InferSpec) -> float | None:
        asked = None if spec.timeout_seconds is None else asyncio.get_running_loop().time() + spec.timeout_seconds
        return min((each for each in (asked, self._caller.deadline) if each is not None), default=None)

    def _admit(self, spec: InferSpec, asked: ModelInfo | None, deadline: float | None) -> Ticket:
        coils, rows, columns, _ = spec.shapes[KSPACE]
        seconds = 0.0
        if asked is not None:
            seconds = self._rooms.scheduler.predict_seconds(asked, [(coils, rows, columns)])
        size = 3 * spec.size_bytes  # the message, the samples in it, and the frame made of them
        demand = Demand(size, seconds, spec.priority, self._caller.name, deadline)
        try:
            return self._rooms.admission.admit(demand)
        except LimitExceededError as error:
            raise LimitExceededError(error.message, reason=error.reason, field=KSPACE) from error

    async def _reconstruct(
        self, spec: InferSpec, asked: ModelInfo | None, deadline: float | None, ticket: Ticket
    ) -> pb.ModelInferResponse:
        self._trace.uploaded()
        begun = time.perf_counter()
        frame = await asyncio.to_thread(self._receive, spec)
        self.stages["conditioning"] = time.perf_counter() - begun
        try:
            model = self._suitable(asked, frame.sampling)
        except BaseException:
            frame.block.close()
            raise
        self.model = model.name
        outcome = await self._compute(model, frame, spec, deadline)
        ticket.worked(ticket.demand.seconds)
        begun = time.perf_counter()
        with outcome.image as block:
            response = await asyncio.to_thread(self._answer, spec, model, frame, outcome, block)
        self.stages["encode"] = time.perf_counter() - begun
        self._rooms.metrics.images.labels(model.name).inc()
        self._rooms.metrics.observe_figures({"data_consistency_residual": outcome.residual})
        return response

    def _receive(self, spec: InferSpec) -> ReceivedFrame:
        return receive_frame(tensors_of(self._request, spec), self._findings)

    async def _compute(
        self, model: ModelInfo, frame: ReceivedFrame, spec: InferSpec, deadline: float | None
    ) -> FrameOutcome:
        job = FrameJob(
            model=model,
            frame=FrameInput(frame.layout, frame.block),  # the scheduler's from here on
            client=self._caller.name,
            priority=spec.priority,
            deadline=deadline,
            done=asyncio.get_running_loop().create_future(),
        )
        job.link = self._trace.frame_arrived(0)
        self._rooms.scheduler.submit(job)
        outcome = await job.done  # cancelled with this call, which withdraws the frame
        self._trace.frame_done(0, outcome.queue_seconds, outcome.compute_seconds, outcome.batch_size)
        self.stages |= {"queue": outcome.queue_seconds, "compute": outcome.compute_seconds}
        for code, text in outcome.notes:
            self._findings.warn(code, text)
        return outcome

    def _suitable(self, asked: ModelInfo | None, sampling: Sampling) -> ModelInfo:
        """Return the model that was asked for, or choose one."""
        model = asked or chosen_model(sampling, self._findings)[0]
        check_suitable(model, sampling, self._findings, "model_name")
        return model

    def _answer(
        self, spec: InferSpec, model: ModelInfo, frame: ReceivedFrame, outcome: FrameOutcome, block: SharedBlock
    ) -> pb.ModelInferResponse:
        residual = np.array([np.nan if outcome.residual is None else outcome.residual])
        outputs = {IMAGE: frame.image(block), RESIDUAL: residual}
        response = response_of(self._request, spec, model.name, model.version, outputs)
        findings = [{"code": f.code, "severity": f.severity.name.lower(), "message": f.message} for f in self._findings]
        response.parameters["request_id"].string_param = self._request_id
        response.parameters["weights_sha256"].string_param = model.weights_sha256
        response.parameters["findings"].string_param = json.dumps(findings)
        response.parameters["queue_seconds"].double_param = outcome.queue_seconds
        response.parameters["compute_seconds"].double_param = outcome.compute_seconds
        return response
