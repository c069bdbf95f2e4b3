"""One `ModelInfer` call of the KServe v2 protocol: a frame to the scheduler, its image back."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from recond_models.model import ModelInfo
from recond_service.api.kserve.tensors import (
    CALIBRATION,
    IMAGE,
    KSPACE,
    MASK,
    RESIDUAL,
    InferSpec,
    read_spec,
    response_of,
    tensors_of,
)
from recond_service.pipeline import (
    Elapsed,
    FrameComputation,
    ModelChoice,
    ReceivedFrame,
    RequestContext,
    Services,
    TriedComputation,
    canary_for,
    named_model,
    receive_frame,
)
from recond_service.scheduling import Demand, FrameOutcome, Ticket
from recond_service.types import DeadlineExceededError, FindingList, LimitExceededError

AUTO = "auto"
"""Name under which the service picks a model by how the frame was sampled."""


class InferCall:
    """One call.

    Parameters
    ----------
    services
        What the service has.
    context
        Who calls.
    request
        What is asked for.
    """

    def __init__(self, services: Services, context: RequestContext, request: pb.ModelInferRequest) -> None:
        self._services = services
        self._context = context
        self._request = request
        self._findings = FindingList()

    async def run(self) -> pb.ModelInferResponse:
        """Serve the call.

        Raises
        ------
        RecondError
            What keeps it from its image.
        """
        name, version = self._request.model_name, self._request.model_version
        asked = None if name == AUTO else named_model(name, version, "model_name")
        spec = read_spec(self._request, self._services.settings.request_limits().max_frame_bytes)
        deadline = self._deadline(spec)
        try:
            async with asyncio.timeout_at(deadline):
                with self._admit(spec, asked, deadline) as ticket:
                    return await self._reconstruct(spec, asked, deadline, ticket)
        except TimeoutError as error:
            raise DeadlineExceededError("the deadline passed", reason="DEADLINE") from error

    def _deadline(self, spec: InferSpec) -> float | None:
        asked = None if spec.timeout_seconds is None else asyncio.get_running_loop().time() + spec.timeout_seconds
        return min((each for each in (asked, self._context.caller.deadline) if each is not None), default=None)

    def _admit(self, spec: InferSpec, asked: ModelInfo | None, deadline: float | None) -> Ticket:
        coils, rows, columns, _ = spec.shapes[KSPACE]
        seconds = 0.0
        if asked is not None:
            seconds = self._services.scheduler.predict_seconds(asked, [(coils, rows, columns)])
        size = 3 * spec.size_bytes  # the message, the samples in it, and the frame made of them
        demand = Demand(size, seconds, spec.priority, self._context.caller.name, deadline)
        try:
            return self._services.admission.admit(demand)
        except LimitExceededError as error:
            raise LimitExceededError(error.message, reason=error.reason, field=KSPACE) from error

    async def _reconstruct(
        self, spec: InferSpec, asked: ModelInfo | None, deadline: float | None, ticket: Ticket
    ) -> pb.ModelInferResponse:
        record, metrics = self._context.record, self._services.metrics
        total = Elapsed()
        self._context.trace.uploaded()
        begun = time.perf_counter()
        received = await asyncio.to_thread(self._receive, spec)
        record.stages["conditioning"] = time.perf_counter() - begun
        try:
            name, version = self._request.model_name, self._request.model_version
            canary = canary_for(asked, name, version, self._context.request_id)
            choice = ModelChoice(asked, self._findings, "model_name", canary=canary)
            model = choice.for_frame(received.sampling)
        except BaseException:
            received.frame.block.close()
            raise
        record.model = model.name
        frames = FrameComputation(self._services.scheduler, self._context, self._findings, spec.priority, deadline)
        frame = replace(received.frame, layout=replace(received.frame.layout, guarded=choice.automatic))
        outcome = await TriedComputation(frames, choice, metrics).compute(0, model, frame)
        model = choice.model or model  # another version where the one that is tried out failed
        ticket.worked(ticket.demand.seconds)
        begun = time.perf_counter()
        with outcome.frame.image as block:
            pixels = await asyncio.to_thread(block.read, 0, block.size)
        response = self._answer(spec, model, received, outcome, pixels)
        record.stages["encode"] = time.perf_counter() - begun
        metrics.images.labels(model.name).inc()
        metrics.model_ended(model.name, model.version, total.seconds, outcome.frame.residual)
        metrics.observe_figures({"data_consistency_residual": outcome.frame.residual})
        return response

    def _receive(self, spec: InferSpec) -> ReceivedFrame:
        tensors = tensors_of(self._request, spec)
        names = (KSPACE, MASK, CALIBRATION)
        return receive_frame(tensors[KSPACE], tensors.get(MASK), tensors.get(CALIBRATION), names, self._findings)

    def _answer(
        self, spec: InferSpec, model: ModelInfo, received: ReceivedFrame, outcome: FrameOutcome, pixels: bytes
    ) -> pb.ModelInferResponse:
        residual = outcome.frame.residual
        image = np.frombuffer(pixels, np.float32).reshape(1, *received.frame.layout.image_shape)
        outputs = {IMAGE: image, RESIDUAL: np.array([np.nan if residual is None else residual])}
        response = response_of(self._request, spec, model.name, model.version, outputs)
        findings = [{"code": f.code, "severity": f.severity.name.lower(), "message": f.message} for f in self._findings]
        response.parameters["request_id"].string_param = self._context.request_id
        response.parameters["weights_sha256"].string_param = model.weights_sha256
        response.parameters["findings"].string_param = json.dumps(findings)
        response.parameters["queue_seconds"].double_param = outcome.queue_seconds
        response.parameters["compute_seconds"].double_param = outcome.compute_seconds
        return response
