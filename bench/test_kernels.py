"""Kernels beside the plain way to write them, in one run; the fused kernels on a GPU where there is one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import pytest
import torch

from recond_kernels import coils, consistency, triton_kernels
from recond_kernels.fourier import ifft2c, ramp
from recond_kernels.layout import CoilLayout
from recond_kernels.operators.sense import SenseEncoding

ROUNDS = 40
SHAPES = {"8 x 256 x 256": (8, 256, 256), "8 x 230 x 180": (8, 230, 180), "8 x 231 x 181 (odd)": (8, 231, 181)}
AXES = (-2, -1)


def random_complex(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))


def compare(benchmark, ours: Callable[[], object], theirs: Callable[[], object], names: tuple[str, str]) -> float:
    """Time two functions in turns, so that a busy machine slows both; return theirs over ours."""
    times: tuple[list[float], list[float]] = ([], [])
    for round_number in range(ROUNDS + 3):
        for function, seconds in zip((ours, theirs), times, strict=True):
            start = time.perf_counter()
            function()
            if round_number >= 3:
                seconds.append(time.perf_counter() - start)
    benchmark.pedantic(ours, rounds=3)
    middle = [statistics.median(seconds) for seconds in times]
    benchmark.extra_info |= {f"{name}_ms": round(1000 * value, 3) for name, value in zip(names, middle, strict=True)}
    benchmark.extra_info["ratio"] = round(middle[1] / middle[0], 2)
    print(f"\n{benchmark.name}: {benchmark.extra_info}")
    return middle[1] / middle[0]


@pytest.mark.parametrize("shape", SHAPES)
def test_centred_transform_against_shift_copies(benchmark, shape: str):
    kspace = random_complex(*SHAPES[shape])

    def shifted() -> torch.Tensor:
        spectrum = torch.fft.ifftshift(kspace, dim=AXES)
        return torch.fft.fftshift(torch.fft.ifft2(spectrum, dim=AXES, norm="ortho"), dim=AXES)

    torch.testing.assert_close(ifft2c(kspace), shifted(), rtol=0, atol=1e-5)
    with torch.inference_mode():
        compare(benchmark, lambda: ifft2c(kspace), shifted, ("ramps", "shifts"))


@pytest.mark.parametrize("lines", [False, True], ids=["scattered", "whole-lines"])
def test_normal_operator_against_its_parts(benchmark, lines: bool):
    maps, image = random_complex(8, 256, 256), random_complex(1, 256, 256)
    mask = torch.rand(1, 256, 256, generator=torch.Generator().manual_seed(1)) < 0.3
    if lines:
        mask = mask[:, :1].expand(1, 256, 256).contiguous()
    encoding = SenseEncoding(maps, mask, CoilLayout((8,)))
    torch.testing.assert_close(encoding.gram(image), encoding.adjoint(encoding(image)), rtol=0, atol=1e-3)
    with torch.inference_mode():
        compare(
            benchmark,
            lambda: encoding.gram(image),
            lambda: encoding.adjoint(encoding(image)),
            ("normal", "forward_and_adjoint"),
        )


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU")
@pytest.mark.parametrize("name", ["reduce", "expand", "approach_measured", "root_sum_of_squares"])
def test_fused_kernels_against_the_reference(benchmark, name: str, monkeypatch: pytest.MonkeyPatch):
    layout = CoilLayout((8, 16, 12, 20))
    shape = (320, 320)
    maps, other = (random_complex(layout.total, *shape).cuda() for _ in range(2))
    images = random_complex(layout.batch, *shape).cuda()
    masks = torch.rand(layout.batch, *shape, device="cuda") < 0.3
    wave = ramp(*shape, torch.complex64, images.device)
    calls: dict[str, Callable[[], torch.Tensor]] = {
        "reduce": lambda: coils.reduce(other, maps, layout, wave),
        "expand": lambda: coils.expand(images, maps, layout, wave),
        "approach_measured": lambda: consistency.approach_measured(maps, other, masks, 0.7, layout, wave),
        "root_sum_of_squares": lambda: coils.root_sum_of_squares(other, layout),
    }
    call, chosen = calls[name], triton_kernels.suit

    def fused() -> None:
        monkeypatch.setattr(triton_kernels, "suit", chosen)
        call()
        torch.cuda.synchronize()

    def reference() -> None:
        monkeypatch.setattr(triton_kernels, "suit", lambda *_: False)
        call()
        torch.cuda.synchronize()

    with torch.inference_mode():
        compare(benchmark, fused, reference, ("fused", "reference"))
