"""Launches of the kernels: memory, grids and the choice of the block size.

The first call for a number of pixels tries the configurations and keeps the fastest. Every program streams memory, so what matters
is how many bytes are under way: Hopper (compute capability 9) likes larger blocks and more of them than Ampere (8).
"""

from __future__ import annotations

import functools
import itertools

import torch
import triton
from torch import Tensor
from triton.runtime.jit import KernelInterface

from recond_kernels.layout import CoilLayout
from recond_kernels.triton_kernels import programs

# Block of pixels, warps, stages of the loop over coils.
_AMPERE = ((256, 2, 3), (256, 4, 2), (512, 4, 2), (512, 4, 3), (1024, 8, 2))
_HOPPER = ((256, 4, 3), (512, 4, 3), (512, 4, 4), (1024, 4, 3), (1024, 8, 3), (2048, 8, 2))


def reduce(coil_images: Tensor, sensitivities: Tensor, layout: CoilLayout, ramp: Tensor | None) -> Tensor:
    """Launch the kernel of `recond_kernels.coils.reduce`."""
    images = torch.empty((layout.batch, *coil_images.shape[1:]), dtype=torch.complex64, device=coil_images.device)
    arrays = _pairs(coil_images, sensitivities, coil_images if ramp is None else ramp)
    offsets = _offsets(layout, images.device)
    _run(programs.reduce_program, images, (*arrays, offsets, torch.view_as_real(images)), ramped=ramp is not None)
    return images


def expand(images: Tensor, sensitivities: Tensor, layout: CoilLayout, ramp: Tensor | None) -> Tensor:
    """Launch the kernel of `recond_kernels.coils.expand`."""
    result = torch.empty_like(sensitivities, memory_format=torch.contiguous_format)
    arrays = _pairs(images, sensitivities, images if ramp is None else ramp)
    offsets = _offsets(layout, images.device)
    _run(programs.expand_program, images, (*arrays, offsets, torch.view_as_real(result)), ramped=ramp is not None)
    return result


def approach_measured(
    estimate: Tensor, measured: Tensor, masks: Tensor, weight: Tensor | float, layout: CoilLayout, ramp: Tensor | None
) -> Tensor:
    """Launch the kernel of `recond_kernels.consistency.approach_measured`."""
    result = torch.empty_like(estimate, memory_format=torch.contiguous_format)
    before, known, wave = _pairs(estimate, measured, estimate if ramp is None else ramp)
    strength = torch.as_tensor(weight, dtype=torch.float32, device=estimate.device).reshape(1)
    arguments = (
        before,
        known,
        masks.contiguous().view(torch.uint8),
        wave,
        strength,
        _offsets(layout, estimate.device),
        torch.view_as_real(result),
    )
    _run(programs.approach_measured_program, masks, arguments, ramped=ramp is not None)
    return result


def root_sum_of_squares(coil_images: Tensor, layout: CoilLayout) -> Tensor:
    """Launch the kernel of `recond_kernels.coils.root_sum_of_squares`."""
    images = torch.empty((layout.batch, *coil_images.shape[1:]), dtype=torch.float32, device=coil_images.device)
    (arrays,) = _pairs(coil_images)
    _run(programs.root_sum_of_squares_program, images, (arrays, _offsets(layout, images.device), images))
    return images


def _pairs(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return complex tensors as float32 with a last axis of two, in one piece of memory."""
    return tuple(torch.view_as_real(tensor.resolve_conj().contiguous()) for tensor in tensors)


@functools.lru_cache(maxsize=128)
def _offsets(layout: CoilLayout, device: torch.device) -> Tensor:
    """Return int64 (batch + 1,): where each frame's coils begin. Kept between calls, so that a batch is described once."""
    return torch.tensor([0, *itertools.accumulate(layout.counts)], dtype=torch.int64, device=device)


def _run(program: KernelInterface, frames: Tensor, arguments: tuple[Tensor, ...], **flags: bool) -> None:
    """Run a program over all pixels of all frames of (batch, rows, columns)."""
    pixels = frames.shape[1] * frames.shape[2]

    def grid(chosen: dict[str, int]) -> tuple[int, int]:
        return triton.cdiv(pixels, chosen["block"]), frames.shape[0]

    if frames.is_cuda:
        with torch.cuda.device(frames.device):
            capability = torch.cuda.get_device_capability(frames.device)[0]
            _tuned(program, capability)[grid](*arguments, pixels, **flags)
    else:
        # Triton's interpreter: correctness only, so any block will do.
        program[grid](*arguments, pixels, block=128, **flags)


@functools.cache
def _tuned(program: KernelInterface, capability: int) -> KernelInterface:
    """Return the program with the configurations for a generation of GPUs; the fastest for a number of pixels is kept."""
    tried = _HOPPER if capability >= 9 else _AMPERE
    configurations = [
        triton.Config({"block": block}, num_warps=warps, num_stages=stages) for block, warps, stages in tried
    ]
    return triton.autotune(configurations, key=["pixels"])(program)
