"""The operators that an exported program may call.

Each is pure arithmetic on the tensors that it is given, and checks its arguments before it reads memory. Left out on purpose: what
reads files (`from_file`), shows memory that nobody wrote (`empty`), takes sizes and strides at their word (`as_strided`,
`native_group_norm`, `_fft_c2r`), draws random numbers, or calls other code (custom and higher-order operators).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, Final

import torch

from recond_models.exported.errors import ProgramError

_ARITHMETIC: Final = """
abs acos add addcdiv addcmul angle asin atan atan2 bitwise_and bitwise_not bitwise_or bitwise_xor ceil clamp clamp_max clamp_min
complex conj _conj conj_physical _conj_physical cos cosh div divide eq erf exp exp2 expm1 floor floor_divide fmod ge gt hypot imag
isfinite isinf isnan le lerp log log10 log1p log2 logical_and logical_not logical_or logical_xor lt max maximum min minimum mul
multiply nan_to_num ne neg _neg_view negative polar pow real reciprocal remainder resolve_conj resolve_neg round rsqrt rsub sgn
sigmoid sign sin sinc sinh sqrt square sub subtract tan tanh true_divide trunc view_as_complex view_as_real where xlogy
"""
_REDUCTIONS: Final = """
all amax amin any argmax argmin argsort count_nonzero cumprod cumsum frobenius_norm kthvalue linalg_norm linalg_vector_norm
logsumexp mean median nanmean nansum norm prod sort std std_mean sum topk var var_mean
"""
_SHAPES: Final = """
alias arange broadcast_tensors broadcast_to cat chunk clone concat concatenate constant_pad_nd contiguous copy detach diag_embed
diagonal expand expand_as eye fill flatten flip full full_like gather hstack im2col col2im index index_add index_copy index_fill
index_put index_select lift_fresh lift_fresh_copy linspace masked_fill meshgrid moveaxis movedim narrow new_full new_ones new_zeros
numpy_T one_hot ones ones_like pad permute pixel_shuffle pixel_unshuffle reflection_pad1d reflection_pad2d reflection_pad3d repeat
repeat_interleave replication_pad1d replication_pad2d replication_pad3d reshape reshape_as roll rot90 scalar_tensor scatter
scatter_add select select_scatter slice slice_scatter split split_with_sizes squeeze stack swapaxes swapdims t tensor_split tile to
_to_copy transpose tril triu type_as unbind unflatten unfold _unsafe_view unsqueeze view view_as vstack zero zeros zeros_like
"""
_ALGEBRA: Final = """
addbmm addmm addmv addr baddbmm bilinear bmm conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution dot
einsum embedding inner kron linalg_cholesky linalg_cross linalg_inv linalg_inv_ex linalg_matmul linalg_multi_dot linalg_solve linear
matmul mm mv outer scaled_dot_product_attention tensordot vdot
"""
_NETWORKS: Final = """
adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool2d affine_grid_generator alpha_dropout avg_pool1d
avg_pool2d avg_pool3d batch_norm celu dropout elu feature_dropout gelu glu grid_sampler group_norm hardsigmoid hardswish hardtanh
instance_norm layer_norm leaky_relu log_sigmoid log_softmax max_pool1d max_pool2d max_pool3d _native_batch_norm_legit_no_training
mish native_layer_norm prelu relu relu6 rms_norm selu silu softmax softplus _softmax threshold upsample_bicubic2d
upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d
"""
_TRANSFORMS: Final = """
fft_fft fft_fft2 fft_fftfreq fft_fftn fft_fftshift fft_hfft fft_ifft fft_ifft2 fft_ifftn fft_ifftshift fft_irfft fft_irfft2
fft_irfftn fft_rfft fft_rfft2 fft_rfftn _fft_c2c
"""
_SIZES: Final = """
_assert_scalar _assert_tensor_metadata sym_constrain_range sym_constrain_range_for_size sym_numel sym_size sym_storage_offset
sym_stride
"""

ATEN: Final = frozenset(" ".join((_ARITHMETIC, _REDUCTIONS, _SHAPES, _ALGEBRA, _NETWORKS, _TRANSFORMS, _SIZES)).split())
"""Names of operators of ATen, without overload; with an underscore behind them, in place."""

_LARGEST: Final = 1 << 62


def _whole(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of sizes whose results stay within 64 bits."""

    def bounded(*values: Any) -> Any:  # noqa: ANN401 - sizes: int, float or bool
        result = function(*values)
        if abs(result) > _LARGEST:
            raise ProgramError(f"a size of {result:.3g} is more than any array has")
        return result

    return bounded


_SIZE_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    **{
        f"_operator.{name}": _whole(getattr(operator, name))
        for name in (
            "add",
            "sub",
            "mul",
            "floordiv",
            "truediv",
            "mod",
            "neg",
            "eq",
            "ne",
            "lt",
            "le",
            "gt",
            "ge",
            "and_",
            "or_",
        )
    },
    "math.ceil": math.ceil,
    "math.floor": math.floor,
    "math.trunc": math.trunc,
    "torch.sym_max": max,
    "torch.sym_min": min,
    "torch.sym_not": operator.not_,
    "torch.sym_float": float,
    "torch.sym_int": int,
}
"""What programs compute of sizes, by their names in files."""


def find(target: str) -> Callable[..., Any]:
    """Return the operator that a program names.

    Parameters
    ----------
    target
        As in files: ``"torch.ops.aten.conv2d.default"``, or ``"_operator.mul"`` for sizes.

    Raises
    ------
    ProgramError
        It is not on the list, or torch does not have it.
    """
    if target in _SIZE_FUNCTIONS:
        return _SIZE_FUNCTIONS[target]
    parts = target.split(".")
    if len(parts) != 5 or parts[:3] != ["torch", "ops", "aten"]:
        raise ProgramError(_unknown(target))
    name, overload = parts[3:]
    allowed = name in ATEN or (name.endswith("_") and name[:-1] in ATEN)
    packet = getattr(torch.ops.aten, name, None) if allowed else None
    if packet is None or overload not in packet.overloads():
        raise ProgramError(_unknown(target))
    found: Callable[..., Any] = getattr(packet, overload)
    return found


def _unknown(target: str) -> str:
    shown = target[:100]
    if ".higher_order." in target:
        return (
            f"the program calls {shown}, and control flow, autocast and torch.no_grad() within forward are not run: leave them out "
            "of forward, and export again"
        )
    if not target.startswith("torch.ops.aten."):
        return f"the program calls {shown}, which is code of its own: export the network without custom operators"
    return (
        f"the program calls {shown}, which is not among the operators that are run (recond_models.exported.operators): write it "
        "with others, and export it in evaluation mode without run_decompositions()"
    )
