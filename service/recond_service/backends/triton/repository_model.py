"""A model of recond in the Python backend of Triton. ``recond triton export`` copies this file into model repositories."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]  # exists inside Triton only


class TritonPythonModel:
    """What Triton calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model."""
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        # Read when torch is loaded: idle OpenMP threads sleep instead of spinning, and there are no more than were asked for.
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        for library in ("OMP", "MKL", "OPENBLAS"):
            os.environ[f"{library}_NUM_THREADS"] = parameters["recond_threads"]

        import torch  # noqa: PLC0415

        from recond_service.backends.triton.executor import Executor  # noqa: PLC0415

        device = f"cuda:{args['model_instance_device_id']}" if args["model_instance_kind"] == "GPU" else "cpu"
        self._from_dlpack = torch.utils.dlpack.from_dlpack
        self._inputs = [tensor["name"] for tensor in config["input"]]
        folder = Path(args["model_repository"]) / args["model_version"]
        self._executor = Executor(parameters, folder, device)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Reconstruct packed batches, one a request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:  # noqa: ANN401
        # Through DLPack: with NumPy 2 the backend of Triton 2.51 makes empty tensors of arrays.
        found = {name: pb_utils.get_input_tensor_by_name(request, name) for name in self._inputs}
        tensors = {name: self._from_dlpack(tensor.to_dlpack()) for name, tensor in found.items() if tensor is not None}
        outcome = self._executor.execute(tensors, json.loads(request.parameters() or "{}"), request.is_cancelled)
        if isinstance(outcome, dict):
            outputs = [pb_utils.Tensor.from_dlpack(name, tensor) for name, tensor in outcome.items()]
            return pb_utils.InferenceResponse(output_tensors=outputs)
        if outcome.log:
            pb_utils.Logger.log_error(outcome.log)
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(outcome.message))
