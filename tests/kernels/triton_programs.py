"""Runs the fused kernels beside the reference in torch; a program of its own because the interpreter is chosen on import.

``interpret``: random ragged shapes on the CPU, with TRITON_INTERPRET=1 in the environment. ``compile``: machine code for GPUs that
need not be there. Prints JSON.
"""

import json
import sys

import numpy as np
import torch

from recond_kernels import coils, consistency
from recond_kernels.fourier import ramp
from recond_kernels.layout import CoilLayout

ROUNDS = 12


def random_complex(generator, *shape):
    values = generator.standard_normal(shape) + 1j * generator.standard_normal(shape)
    return torch.from_numpy(values.astype(np.complex64))


def interpret():
    from recond_kernels.triton_kernels import launch

    generator = np.random.default_rng(5)
    worst = {}
    for number in range(ROUNDS):
        layout = CoilLayout(tuple(int(count) for count in generator.integers(1, 6, generator.integers(1, 5))))
        rows, columns = (int(size) for size in generator.integers(1, 24, 2))
        maps, other = (random_complex(generator, layout.total, rows, columns) for _ in range(2))
        images = random_complex(generator, layout.batch, rows, columns)
        masks = torch.from_numpy(generator.random((layout.batch, rows, columns)) < 0.4)
        # What was not measured may hold anything.
        measured = torch.where(masks[layout.owners(masks.device)], other, complex("nan"))
        wave = None if number % 3 == 0 else ramp(rows, columns, torch.complex64, images.device)
        weight = torch.tensor([0.7]) if number % 2 else 0.7
        pairs = {
            "reduce": (launch.reduce(other, maps, layout, wave), coils.reduce(other, maps, layout, wave)),
            "expand": (launch.expand(images, maps, layout, wave), coils.expand(images, maps, layout, wave)),
            "approach_measured": (
                launch.approach_measured(maps, measured, masks, weight, layout, wave),
                consistency.approach_measured(maps, measured, masks, weight, layout, wave),
            ),
            "root_sum_of_squares": (
                launch.root_sum_of_squares(other, layout),
                coils.root_sum_of_squares(other, layout),
            ),
        }
        for name, (ours, reference) in pairs.items():
            if ours.shape != reference.shape or ours.dtype != reference.dtype or not torch.isfinite(ours.abs()).all():
                raise SystemExit(f"{name}: {ours.shape} {ours.dtype} instead of {reference.shape} {reference.dtype}")
            error = ((ours - reference).abs().max() / reference.abs().max()).item()
            worst[name] = max(worst.get(name, 0.0), error)
    return worst


def compile_for_gpus():
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from recond_kernels.triton_kernels import programs

    types = {"pixels": "i32", "offsets": "*i64", "masks": "*u8", "block": "constexpr", "ramped": "constexpr"}
    sizes = {}
    for capability in (80, 90):
        for name in ("reduce", "expand", "approach_measured", "root_sum_of_squares"):
            program = getattr(programs, f"{name}_program")
            constants = {"block": 512, "ramped": True} if "ramped" in program.arg_names else {"block": 512}
            source = ASTSource(program, {n: types.get(n, "*fp32") for n in program.arg_names}, constexprs=constants)
            compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 4})
            sizes[f"{name} {capability}"] = len(compiled.asm["cubin"])
    return sizes


if __name__ == "__main__":
    json.dump({"interpret": interpret, "compile": compile_for_gpus}[sys.argv[1]](), sys.stdout)
