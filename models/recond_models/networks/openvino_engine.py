"""U-Nets compiled by OpenVINO for one size: its convolutions are faster than torch's, normalisation is fused with what follows.

The graph is built here node by node, so nothing is traced or exported. OpenVINO is optional.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import io
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from recond_models.networks.engines import Engine, Precision, Program
from recond_models.networks.unet import EPSILON, SLOPE, ConvBlock, Enlarge, Unet

if TYPE_CHECKING:
    from openvino import Node

_IMAGE = "image"
"""Name of the input that is no weight."""

_TILE = 24
"""Most rows and columns of the tiles that are averaged first."""


class OpenVinoProgram:
    """What OpenVINO makes of a U-Net for images of one size. It holds no weights: any network of the same widths can run on it.

    Compiling takes longer than an image, and the networks of a model differ in their weights only; laying these out anew for every
    image costs less than can be measured for images of 256 x 256 and more.

    Parameters
    ----------
    unet
        A network of these widths.
    size
        (rows, columns) of the images.
    precision
        Of the convolutions and what lies between them.
    threads
        Threads to compute with.
    exported
        What `export` returned of the same program; it takes less time than compiling.

    Raises
    ------
    RuntimeError
        OpenVINO cannot compile it, or cannot read `exported`.
    """

    def __init__(
        self, unet: Unet, size: tuple[int, int], precision: Precision, threads: int, exported: bytes | None = None
    ) -> None:
        openvino, _ = load()
        options = {
            "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(threads),
            "ENABLE_CPU_PINNING": "NO",
        }
        core = openvino.Core()
        if exported is None:
            self._compiled = core.compile_model(_Graph(unet, size, precision).model, "CPU", options)
        else:
            self._compiled = core.import_model(io.BytesIO(exported), "CPU", options)

    def bind(self, unet: Unet) -> OpenVinoEngine:
        """Return an engine that runs this program with the weights of a network; it shares their memory."""
        return OpenVinoEngine(self._compiled, unet)

    def export(self) -> bytes:
        """Return the program as bytes, for this version of OpenVINO on this kind of processor."""
        file = io.BytesIO()
        self._compiled.export_model(file)
        return file.getvalue()


class OpenVinoEngine:
    """A U-Net on a program.

    Parameters
    ----------
    compiled
        OpenVINO's compiled model, whose inputs are the image and the weights by their names.
    unet
        The network; its weights must not change afterwards.
    """

    def __init__(self, compiled: Any, unet: Unet) -> None:  # noqa: ANN401 - OpenVINO has no types
        openvino, _ = load()
        self._compiled = compiled
        self._request = compiled.create_infer_request()
        self._weights = {name: weight.detach().contiguous().numpy() for name, weight in unet.named_parameters()}
        for number, port in enumerate(compiled.inputs):
            name = port.get_any_name()
            if name == _IMAGE:
                self._image = number
            else:
                self._request.set_input_tensor(number, openvino.Tensor(self._weights[name], shared_memory=True))

    def __call__(self, channels: Tensor) -> Tensor:
        """Return float32 (batch, out_channels, rows, columns), one image after another."""
        done = []
        for image in torch.split(channels, 1):
            values = image.contiguous().numpy()
            output = self._request.infer({self._image: values}, share_inputs=True)[0]
            done.append(torch.from_numpy(output))
        return done[0] if len(done) == 1 else torch.cat(done)

    def release(self) -> None:
        """Give the memory of the feature maps back until the next image; engines of one program share it."""
        self._compiled.release_memory()


class _Graph:
    """The nodes of a U-Net."""

    def __init__(self, unet: Unet, size: tuple[int, int], precision: Precision) -> None:
        openvino, self._op = load()
        self._precision = precision
        self._names = {id(weight): name for name, weight in unet.named_parameters()}
        self._inputs = [self._input(_IMAGE, (1, unet.in_channels, *size))]
        output = self._unet(self._inputs[0], unet)
        self.model = openvino.Model([output], self._inputs)

    def _unet(self, images: Node, unet: Unet) -> Node:
        features, skips = images, []
        for block in unet.down_sample_layers:
            features = self._block(features, block)
            skips.append(features)
            features = self._op.avg_pool(
                features, [2, 2], [0, 0], [0, 0], [2, 2], exclude_pad=False, rounding_type="floor"
            )
        features = self._block(features, unet.conv)
        for enlarge, block in zip(unet.up_transpose_conv, unet.up_conv, strict=True):
            skip = skips.pop()
            features = self._pad_to(self._enlarge(features, enlarge), skip)
            features = self._op.concat([features, skip], axis=1)
            if isinstance(block, nn.Sequential):
                features = self._last(self._block(features, block[0]), block[1])
            else:
                features = self._block(features, block)
        return features

    def _block(self, features: Node, block: nn.Module) -> Node:
        assert isinstance(block, ConvBlock)  # noqa: S101  (what a U-Net is made of)
        for index in (0, 4):
            features = self._activate(self._convolve(features, block.layers[index], padding=1))
        return features

    def _enlarge(self, features: Node, enlarge: nn.Module) -> Node:
        assert isinstance(enlarge, Enlarge)  # noqa: S101
        convolution = enlarge.layers[0]
        assert isinstance(convolution, nn.ConvTranspose2d)  # noqa: S101
        weight = self._weight(convolution.weight)
        return self._activate(
            self._op.convolution_backprop_data(
                features, weight, strides=[2, 2], pads_begin=[0, 0], pads_end=[0, 0], dilations=[1, 1]
            )
        )

    def _last(self, features: Node, convolution: nn.Module) -> Node:
        assert isinstance(convolution, nn.Conv2d)  # noqa: S101
        assert convolution.bias is not None  # noqa: S101
        shape = self._op.constant(np.array([1, -1, 1, 1], np.int64))
        bias = self._op.reshape(self._weight(convolution.bias), shape, special_zero=False)
        return self._op.add(self._convolve(features, convolution, padding=0), bias)

    def _convolve(self, features: Node, convolution: nn.Module, padding: int) -> Node:
        assert isinstance(convolution, nn.Conv2d)  # noqa: S101
        around = [padding, padding]
        return self._op.convolution(features, self._weight(convolution.weight), [1, 1], around, around, [1, 1])

    def _activate(self, features: Node) -> Node:
        """Instance normalisation and leaky rectifier."""
        slope = self._op.constant(np.array([SLOPE], np.float32))
        if self._precision == "bfloat16":
            # Its sums are float32 whatever the precision of the network.
            axes = self._op.constant(np.array([2, 3], np.int64))
            normalised = self._op.mvn(features, axes, normalize_variance=True, eps=EPSILON, eps_mode="inside_sqrt")
            return self._op.prelu(normalised, slope)
        centred = self._op.subtract(features, self._mean(features))
        variance = self._mean(self._op.multiply(centred, centred))
        deviation = self._op.sqrt(self._op.add(variance, self._op.constant(np.float32(EPSILON))))
        factor = self._op.divide(self._op.constant(np.float32(1)), deviation)
        return self._op.prelu(self._op.multiply(centred, factor), slope)

    def _mean(self, features: Node) -> Node:
        """Average every feature map, over small tiles first: one long sum, as in OpenVINO's own normalisation, loses two digits."""
        tile = [
            next(size for size in range(min(_TILE, extent), 0, -1) if extent % size == 0)
            for extent in features.shape[2:]
        ]
        tiles = self._op.avg_pool(features, tile, [0, 0], [0, 0], tile, exclude_pad=False, rounding_type="floor")
        return self._op.reduce_mean(tiles, self._op.constant(np.array([2, 3], np.int64)), keep_dims=True)

    def _pad_to(self, features: Node, skip: Node) -> Node:
        """Repeat, mirrored, the row or column that pooling dropped."""
        missing = [int(large) - int(small) for large, small in zip(skip.shape, features.shape, strict=True)]
        missing[1] = 0
        if not any(missing):
            return features
        none = self._op.constant(np.zeros(4, np.int64))
        return self._op.pad(features, none, self._op.constant(np.array(missing, np.int64)), "reflect")

    def _weight(self, weight: Tensor) -> Node:
        """Return the input for a weight."""
        node = self._input(self._names[id(weight)], tuple(weight.shape))
        self._inputs.append(node)
        return node

    def _input(self, name: str, shape: tuple[int, ...]) -> Node:
        node = self._op.parameter(list(shape), np.float32)
        node.output(0).set_names({name})
        return node


def compiler() -> type[OpenVinoProgram] | None:
    """Return what compiles U-Nets, or None where OpenVINO is not installed."""
    return OpenVinoProgram if importlib.util.find_spec("openvino") else None


@functools.cache
def build_identity() -> str:
    """Return what tells one build of programs from another: OpenVINO's version, the processor, and how graphs are made here."""
    openvino, _ = load()
    kinds = ("model name", "stepping", "microcode", "flags", "Features", "CPU implementer", "CPU part")
    processor = []
    with contextlib.suppress(OSError):
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n", 1)[0]
        processor = [line for line in first.splitlines() if line.split(":")[0].strip() in kinds]
    graphs = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    return repr((openvino.__version__, platform.machine(), processor, graphs))


def load_if_installed() -> None:
    """Import OpenVINO ahead of its first use, where it is installed. Starts no thread."""
    if compiler() is not None:
        load()


@functools.cache
def load() -> tuple[Any, Any]:
    """Import OpenVINO and its set of operations.

    Its converters of other formats report their import to a server on the internet. They are not needed here, and a service that
    holds patients' data must not call out, so they are hidden while OpenVINO is imported.
    """
    converters = "openvino.tools.ovc"
    hidden = converters not in sys.modules
    if hidden:
        sys.modules[converters] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("openvino"), importlib.import_module("openvino.opset15")
    finally:
        if hidden:
            del sys.modules[converters]


_program: type[Program] = OpenVinoProgram
_engine: type[Engine] = OpenVinoEngine
