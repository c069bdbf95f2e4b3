"""Fused kernels for GPUs in Triton (Tillet et al. 2019, doi:10.1145/3315508.3329973), chosen at run time.

Chains of operations that only move memory - weighting by sensitivities, sums over coils, data consistency - read and write every
value once. The functions of `recond_kernels` call them for tensors on a GPU where the package triton is installed; nothing else
should. They need no gradient: where one is wanted, the reference in torch runs.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from typing import TYPE_CHECKING, Any, Protocol

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from recond_kernels.layout import CoilLayout


def suit(*tensors: Tensor) -> bool:
    """Return whether the kernels can compute with these tensors: on a GPU, complex64 or real, and without a gradient."""
    if not tensors[0].is_cuda or tensors[0].dtype != torch.complex64 or not _installed():
        return False
    return not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors))


def launches() -> _Launches:
    """Return the module that launches the kernels; it is imported by the first call, because it imports triton."""
    module: Any = importlib.import_module("recond_kernels.triton_kernels.launch")
    launch: _Launches = module
    return launch


class _Launches(Protocol):
    """What `recond_kernels.triton_kernels.launch` offers."""

    def reduce(self, coil_images: Tensor, sensitivities: Tensor, layout: CoilLayout, ramp: Tensor | None) -> Tensor: ...

    def expand(self, images: Tensor, sensitivities: Tensor, layout: CoilLayout, ramp: Tensor | None) -> Tensor: ...

    def approach_measured(
        self,
        estimate: Tensor,
        measured: Tensor,
        masks: Tensor,
        weight: Tensor | float,
        layout: CoilLayout,
        ramp: Tensor | None,
    ) -> Tensor: ...

    def root_sum_of_squares(self, coil_images: Tensor, layout: CoilLayout) -> Tensor: ...


@functools.cache
def _installed() -> bool:
    return importlib.util.find_spec("triton") is not None
