"""Networks of heads compiled by OpenVINO for one size. The graph is built here node by node, so nothing is traced or exported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from recond_models.heads.network import SLOPE, Convolution, SliceUNet
from recond_models.networks.engines import Precision
from recond_models.networks.openvino_engine import load

if TYPE_CHECKING:
    from openvino import Node


class OpenVinoEngine:
    """A network of a head for images of one size.

    Parameters
    ----------
    network
        The network; its weights are copied into the program.
    size
        (rows, columns), multiples of `SliceUNet.multiple`.
    precision
        Of the convolutions.
    threads
        Threads to compute with.

    Raises
    ------
    RuntimeError
        OpenVINO cannot compile it.
    ValueError
        The size is no multiple.
    """

    def __init__(self, network: SliceUNet, size: tuple[int, int], precision: Precision, threads: int) -> None:
        if size[0] % network.multiple or size[1] % network.multiple:
            raise ValueError(f"rows and columns must be multiples of {network.multiple}, got {size}")
        openvino, _ = load()
        options = {
            "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(threads),
            "ENABLE_CPU_PINNING": "NO",
        }
        compiled = openvino.Core().compile_model(_Graph(network, size).model, "CPU", options)
        self._request: Any = compiled.create_infer_request()

    def __call__(self, images: Tensor) -> Tensor:
        """Return logits, float32 (batch, classes, rows, columns), for float32 (batch, slices, rows, columns)."""
        done = []
        for image in torch.split(images, 1):
            output = self._request.infer({0: image.contiguous().numpy()}, share_inputs=True)[0]
            done.append(torch.from_numpy(output))
        return torch.cat(done)


class _Graph:
    """The nodes of a network."""

    def __init__(self, network: SliceUNet, size: tuple[int, int]) -> None:
        openvino, self._op = load()
        images = self._op.parameter([1, network.slices, *size], np.float32)
        with torch.no_grad():
            self.model = openvino.Model([self._network(images, network)], [images])

    def _network(self, images: Node, network: SliceUNet) -> Node:
        features = self._op.space_to_depth(images, "depth_first", 2)
        skips: list[Node] = []
        for block in network.down:
            assert isinstance(block, nn.ModuleList)  # noqa: S101  (what the network is made of)
            if skips:
                features = self._op.avg_pool(
                    features, [2, 2], [0, 0], [0, 0], [2, 2], exclude_pad=False, rounding_type="floor"
                )
            for convolution in block:
                features = self._block(features, convolution)
            skips.append(features)
        skips.pop()
        for reduce, up in zip(reversed(network.reduce), reversed(network.up), strict=True):
            features = self._enlarge(self._plain(features, reduce))
            features = self._block(self._op.concat([features, skips.pop()], axis=1), up)
        features = self._op.depth_to_space(self._plain(features, network.expand), "depth_first", 2)
        features = self._block(self._op.concat([features, images], axis=1), network.detail)
        return self._plain(features, network.last)

    def _block(self, features: Node, block: nn.Module) -> Node:
        assert isinstance(block, Convolution)  # noqa: S101
        norm = block.normalisation
        features = self._convolve(features, block.convolution.weight, padding=1)
        if isinstance(norm, nn.InstanceNorm2d):
            axes = self._op.constant(np.array([2, 3], np.int64))
            features = self._op.mvn(features, axes, normalize_variance=True, eps=norm.eps, eps_mode="inside_sqrt")
            factor, offset = norm.weight.data, norm.bias.data
        else:
            assert norm.running_var is not None  # noqa: S101  (batch normalisation as it is made above keeps both)
            assert norm.running_mean is not None  # noqa: S101
            factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            offset = norm.bias - norm.running_mean * factor
        # OpenVINO takes these into the convolution where nothing lies between.
        features = self._op.add(self._op.multiply(features, self._per_map(factor)), self._per_map(offset))
        return self._op.prelu(features, self._op.constant(np.array([SLOPE], np.float32)))

    def _plain(self, features: Node, convolution: nn.Module) -> Node:
        assert isinstance(convolution, nn.Conv2d)  # noqa: S101
        assert convolution.bias is not None  # noqa: S101
        return self._op.add(self._convolve(features, convolution.weight, padding=0), self._per_map(convolution.bias))

    def _convolve(self, features: Node, weight: Tensor, padding: int) -> Node:
        around = [padding, padding]
        kernel = self._op.constant(weight.detach().float().numpy())
        return self._op.convolution(features, kernel, [1, 1], around, around, [1, 1])

    def _per_map(self, values: Tensor) -> Node:
        """Return a constant for each feature map."""
        return self._op.constant(values.detach().float().reshape(1, -1, 1, 1).numpy())

    def _enlarge(self, features: Node) -> Node:
        """Repeat every pixel twice along rows and columns."""
        scales = self._op.constant(np.array([2, 2], np.float32))
        axes = self._op.constant(np.array([2, 3], np.int64))
        return self._op.interpolate(
            features,
            scales,
            mode="nearest",
            shape_calculation_mode="scales",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
            axes=axes,
        )
