"""The model of the Triton rival: its Python backend, DLPack in and out, whatever the batcher put together in one call."""

from __future__ import annotations

import json
import sys

import torch
import triton_python_backend_utils as pb_utils  # inside Triton only


class TritonPythonModel:
    """One instance."""

    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        sys.path.insert(0, parameters["core"]["string_value"])
        from core import Core

        self._core = Core(parameters["model"]["string_value"], int(parameters["threads"]["string_value"]))

    def execute(self, requests):
        kspaces, masks, counts = [], [], []
        for request in requests:
            frames = torch.from_dlpack(pb_utils.get_input_tensor_by_name(request, "KSPACE").to_dlpack())
            lines = torch.from_dlpack(pb_utils.get_input_tensor_by_name(request, "MASK").to_dlpack())
            kspaces += list(torch.view_as_complex(frames.contiguous()).numpy())
            masks += list(lines.numpy().astype(bool))
            counts.append(len(frames))
        images = torch.stack([torch.from_numpy(image) for image in self._core.reconstruct(kspaces, masks)])
        answers = []
        for part in torch.split(images, counts):
            tensor = pb_utils.Tensor.from_dlpack("IMAGE", torch.utils.dlpack.to_dlpack(part.contiguous()))
            answers.append(pb_utils.InferenceResponse([tensor]))
        return answers
