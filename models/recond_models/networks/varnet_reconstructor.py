"""fastMRI's variational network on packed batches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recond_models import per_frame
from recond_models.batch import PackedBatch, Reconstruction
from recond_models.model import MINIMUM_CALIBRATION, ModelInfo, UnsuitableModelError
from recond_models.networks import cuda_engine, varnet_batch, varnet_frame
from recond_models.networks.compiled import CompiledNetworks
from recond_models.networks.engines import Engine, parse_precision
from recond_models.networks.lines import CentreLines, calibration_lines, measured_lines
from recond_models.networks.norm_unet import MULTIPLE
from recond_models.networks.varnet import Cascade, VarNet
from recond_models.networks.varnet_frame import HybridFrame
from recond_models.note import Note


class VarNetReconstructor:
    """A variational network ready to run (Sriram et al. 2020, arXiv:2004.06688).

    Its images are those of `recond_models.networks.varnet.VarNet` and of fastMRI, but for rounding, and no frame's image depends on
    its batch.

    Parameters
    ----------
    info
        Its entry in the registry.
    network
        A `VarNet` with its weights, which must not change afterwards.
    device
        torch device.
    precision
        ``"float32"`` or ``"bfloat16"``: of the U-Nets.
    as_fastmri
        Calibrate fully sampled frames with a single line, as fastMRI does, not with the usual number.
    compiled
        Compile the U-Nets for sizes that are worth it.

    Raises
    ------
    TypeError
        The network is not a `VarNet`.
    ValueError
        The precision is unknown.
    """

    def __init__(
        self,
        info: ModelInfo,
        network: nn.Module,
        device: str = "cpu",
        precision: str = "float32",
        *,
        as_fastmri: bool = False,
        compiled: bool = True,
    ) -> None:
        if not isinstance(network, VarNet):
            raise TypeError(f"expected a VarNet, got {type(network).__name__}")
        self.info = info
        self._device = torch.device(device)
        self._as_fastmri = as_fastmri
        steps = [step for step in network.cascades if isinstance(step, Cascade)]
        unets = [network.sens_net.norm_unet.unet, *(step.model.unet for step in steps)]
        self._weights = [float(step.dc_weight.detach()) for step in steps]
        self._smallest = max(2 << (len(unet.down_sample_layers)) for unet in unets)
        wanted = parse_precision(precision)
        self.networks: CompiledNetworks | None = None
        self._plain: list[Engine] = []
        if self._device.type == "cpu":
            self.networks = CompiledNetworks.by_openvino(unets, wanted, compiled=compiled)
        else:
            self._plain = cuda_engine.engines(unets, self._device, wanted)

    @torch.inference_mode()
    def reconstruct(self, batch: PackedBatch) -> Reconstruction:
        """Return the images of a batch; there are no residuals, for these networks change measured samples, too.

        Raises
        ------
        UnsuitableModelError
            A mask is not made of whole lines, or the frames are smaller than the network can take.
        """
        rows, columns = int(batch.kspace.shape[1]), int(batch.kspace.shape[2])
        size = (rows + -rows % MULTIPLE, columns + -columns % MULTIPLE)
        if min(size) < self._smallest:
            raise UnsuitableModelError(
                f"{self.info.name} takes frames of {self._smallest - MULTIPLE + 1} x {self._smallest - MULTIPLE + 1} and more, got "
                f"{rows} x {columns}: use the model rss"
            )
        lines = measured_lines(batch.masks.cpu(), self.info.name)
        choices = [calibration_lines(frame, as_fastmri=self._as_fastmri) for frame in lines]
        if self.networks is None:
            return self._together(batch, lines, choices)
        cascades = len(self._weights)
        self.networks.prepare(size, [batch.layout.total, *[len(batch)] * cascades])
        engines = [self.networks.engine(number, size) for number in range(1 + cascades)]
        return per_frame.reconstruct_each(
            lambda number, frame: self._one(frame, lines[number], choices[number], engines), batch, at_once=False
        )

    def _one(self, frame: PackedBatch, lines: Tensor, choice: CentreLines, engines: list[Engine]) -> Reconstruction:
        """Reconstruct a single frame, on a CPU."""
        kspace = frame.kspace
        columns = lines.nonzero()[:, 0]
        if not columns.numel():
            return _noted(torch.zeros(1, *kspace.shape[1:]), (_nothing(),))
        hybrid = HybridFrame.of(kspace, columns)
        notes = _about_coils(hybrid.silent)
        if bool(hybrid.silent.all()):
            return _noted(torch.zeros(1, *kspace.shape[1:]), notes)
        calibration = hybrid
        apart = _apart(frame.calibrations[0], kspace, choice)
        if apart is not None:
            kspace, choice = apart
            calibration = HybridFrame.of(kspace, torch.arange(choice.start, choice.stop))
        images = varnet_frame.reconstruct(hybrid, calibration, (choice.start, choice.stop), engines, self._weights)
        scales = torch.tensor([2.0**hybrid.exponent], dtype=torch.float64)
        return _noted(images, (*notes, *choice.notes), scales=scales)

    def _together(self, batch: PackedBatch, lines: Tensor, choices: list[CentreLines]) -> Reconstruction:
        """Reconstruct all frames at once, on a GPU."""
        layout = batch.layout
        kspace = batch.kspace.to(self._device, non_blocking=True)
        calibrations = kspace
        for number, segment in enumerate(layout.segments()):
            apart = _apart(batch.calibrations[number], batch.kspace[segment], choices[number])
            if apart is not None:
                if calibrations is kspace:
                    calibrations = kspace.clone()
                block, choices[number] = apart
                calibrations[segment] = block.to(self._device, non_blocking=True)
        wanted = torch.zeros_like(lines)
        for row, choice in zip(wanted, choices, strict=True):
            row[choice.start : choice.stop] = True
        images, scales, silent = varnet_batch.reconstruct(
            kspace,
            calibrations,
            lines.to(self._device, non_blocking=True),
            wanted.to(self._device, non_blocking=True),
            layout,
            self._plain,
            self._weights,
        )
        notes = []
        for part, choice in zip(torch.split(silent.cpu(), list(layout.counts)), choices, strict=True):
            about = _about_coils(part)
            notes.append(about if bool(part.all()) else (*about, *choice.notes))
        return _noted(images, *notes, scales=scales)


def _noted(images: Tensor, *notes: tuple[Note, ...], scales: Tensor | None = None) -> Reconstruction:
    """Return the reconstruction of a batch, with the notes of each frame."""
    return Reconstruction(images, notes=notes if any(notes) else (), scales=scales)


def _apart(block: Tensor | None, kspace: Tensor, choice: CentreLines) -> tuple[Tensor, CentreLines] | None:
    """Return calibration lines that were measured beside the k-space, if it holds too few itself.

    Parameters
    ----------
    block
        complex64 (coils, calibration rows, calibration columns) or None.
    kspace
        complex64 (coils, rows, columns).
    choice
        What there is in the k-space.

    Returns
    -------
    tuple or None
        complex64 (coils, rows, columns), zero but for the block, and where its lines are.
    """
    if block is None or choice.stop - choice.start >= min(MINIMUM_CALIBRATION, block.shape[2]):
        return None
    extents = [min(have, size) for have, size in zip(block.shape[1:], kspace.shape[1:], strict=True)]
    whole = torch.zeros_like(kspace)
    inner, outer = block, whole
    for axis, extent in enumerate(extents, start=1):
        inner = inner.narrow(axis, inner.shape[axis] // 2 - extent // 2, extent)
        outer = outer.narrow(axis, outer.shape[axis] // 2 - extent // 2, extent)
    outer.copy_(inner)
    start = whole.shape[2] // 2 - extents[1] // 2
    message = f"sensitivities are estimated from {extents[1]} calibration lines that were measured beside the image"
    return whole, CentreLines(start, start + extents[1], (Note("separate-calibration", message),))


def _about_coils(silent: Tensor) -> tuple[Note, ...]:
    """Return a note if coils, bool (coils,), are silent."""
    if bool(silent.all()):
        return (_nothing(),)
    numbers = silent.nonzero()[:, 0].tolist()
    if not numbers:
        return ()
    return (
        Note("zero-coil", f"coil(s) {', '.join(map(str, numbers))} have no signal at all and add nothing to the image"),
    )


def _nothing() -> Note:
    return Note("no-signal", "all samples are zero, and so is the image")
