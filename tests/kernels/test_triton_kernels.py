"""Fused kernels against the reference: in the interpreter, compiled for GPUs that are not there, and on a GPU if there is one."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from recond_kernels import coils, consistency, triton_kernels
from recond_kernels.fourier import ramp
from recond_kernels.layout import CoilLayout

PROGRAMS = Path(__file__).with_name("triton_programs.py")
NAMES = {"reduce", "expand", "approach_measured", "root_sum_of_squares"}

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU")


def run(command, **environment):
    result = subprocess.run(
        [sys.executable, str(PROGRAMS), command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@needs_triton
def test_agree_with_the_reference_in_the_interpreter():
    errors = run("interpret", TRITON_INTERPRET="1")
    assert errors.keys() == NAMES
    assert max(errors.values()) < 1e-6, errors


@needs_triton
@pytest.mark.skipif(sys.platform != "linux", reason="Triton compiles on Linux only")
def test_compile_for_ampere_and_hopper(tmp_path):
    sizes = run("compile", TRITON_CACHE_DIR=str(tmp_path), TRITON_INTERPRET="0")
    assert sizes.keys() == {f"{name} {capability}" for name in NAMES for capability in (80, 90)}
    assert min(sizes.values()) > 0


def test_tensors_on_a_cpu_are_not_for_them():
    assert not triton_kernels.suit(torch.zeros(1, 2, 2, dtype=torch.complex64))


def test_looking_at_the_kernels_imports_no_triton():
    code = "import sys, recond_kernels.operators.sense, recond_kernels.consistency; print('triton' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


@pytest.mark.cuda
@needs_gpu
@needs_triton
@pytest.mark.parametrize(("counts", "rows", "columns"), [((8,), 230, 180), ((1, 5, 3), 31, 17), ((12, 32), 320, 320)])
def test_agree_with_the_reference_on_a_gpu(counts, rows, columns):
    layout = CoilLayout(counts)
    generator = torch.Generator().manual_seed(1)

    def random(first):
        return torch.randn(first, rows, columns, dtype=torch.complex64, generator=generator)

    maps, other, measured, images = (random(n) for n in (layout.total, layout.total, layout.total, layout.batch))
    masks = torch.rand(layout.batch, rows, columns, generator=generator) < 0.4
    wave = ramp(rows, columns, torch.complex64, images.device)
    expected = (
        coils.reduce(other, maps, layout, wave),
        coils.expand(images, maps, layout, wave),
        consistency.approach_measured(maps, measured, masks, 0.7, layout, wave),
        coils.root_sum_of_squares(other, layout),
    )
    maps, other, measured, images, masks, wave = (t.cuda() for t in (maps, other, measured, images, masks, wave))
    assert triton_kernels.suit(maps)
    found = (
        coils.reduce(other, maps, layout, wave),
        coils.expand(images, maps, layout, wave),
        consistency.approach_measured(maps, measured, masks, 0.7, layout, wave),
        coils.root_sum_of_squares(other, layout),
    )
    for ours, reference in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.cpu().numpy(), reference.numpy(), atol=2e-5)


@pytest.mark.cuda
@needs_gpu
def test_gradients_on_a_gpu_come_from_the_reference():
    layout = CoilLayout((2, 1))
    images = torch.randn(2, 8, 8, dtype=torch.complex64, device="cuda", requires_grad=True)
    maps = torch.randn(3, 8, 8, dtype=torch.complex64, device="cuda")
    coils.expand(images, maps, layout).abs().sum().backward()
    assert images.grad is not None
