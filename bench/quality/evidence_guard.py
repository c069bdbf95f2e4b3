"""Does the guard fire where a network's image contradicts what was measured, and only there?

    python bench/quality/evidence_guard.py --volumes out/volumes

Contradictions are made: damaged weights, samples with a wrong phase, a spike, and body parts that are no heads.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import scenes
import torch
from methods import pack
from numpy.typing import NDArray
from scenes import Cell, Scene

from recond_models import guard, loading
from recond_models.classical import parallel
from recond_models.classical.parallel import PosedMethod
from recond_models.evidence import partner_of
from recond_models.networks.unrolled_reconstructor import UnrolledReconstructor
from recond_models.object_metrics import inside_object
from recond_models.training.volumes import load_volumes

IMAGES = Path(__file__).resolve().parents[3] / "shared" / "data" / "test" / "images"
CELLS = (Cell("equispaced", 4, 8, 0.005), Cell("poisson", 8, 8, 0.005), Cell("equispaced", 6, 8, 0.02))
_SPIKE = 0.5
_BODIES = ("knee_mese_TE1.nii.gz", "hip_PD_FS.nii.gz", "spine_T2star.nii.gz")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volumes", type=Path, required=True)
    parser.add_argument("--slices", type=int, default=4, help="slices of the head in each cell")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    network = loading.load("unrolled-brain")
    assert isinstance(network, UnrolledReconstructor)
    networks: dict[str, PosedMethod] = {
        "": network,
        "weights x 1.5": damaged(network, 1.5, 0.0),
        "weights x 0.5": damaged(network, 0.5, 0.0),
        "weights + 30 % noise": damaged(network, 1.0, 0.3),
    }
    found: dict[str, list[tuple[float, float, bool]]] = {}
    with torch.inference_mode():
        for name, scene in variants(arguments.volumes, arguments.slices):
            for damage, member in networks.items() if name == "head" else [("", network)]:
                title = f"{name} {damage}".strip()
                found.setdefault(title, []).append(judge(scene, member))
                print(title, found[title][-1], flush=True)
    print("| what | n | answered by the classical image | SSIM in the object: network | classical |")
    print("|---|---|---|---|---|")
    for name, rows in found.items():
        learnt, classical = np.mean([row[:2] for row in rows], axis=0)
        print(f"| {name} | {len(rows)} | {sum(row[2] for row in rows)} | {learnt:.3f} | {classical:.3f} |")


def judge(scene: Scene, network: PosedMethod) -> tuple[float, float, bool]:
    """Return SSIM in the object of the network's and of the classical image, and whether the guard prefers the latter."""
    posed = parallel.pose(pack(scene), network.info, torch.device("cpu"))
    name = partner_of(lines=bool((scene.mask == scene.mask[:1]).all()))
    learnt = network.solve(posed)
    partner: PosedMethod = loading.load(name)  # type: ignore[assignment]
    classical = partner.solve(posed)
    doubts = guard.against_images(posed, learnt, classical, [name], network.info.name)
    scale = float(posed.scales[0])
    ssims = [inside_object(scene.truth[None], scale * image.abs().numpy()).ssim for image in (learnt, classical)]
    return ssims[0], ssims[1], any(doubts)


def variants(volumes: Path, slices: int) -> Iterator[tuple[str, Scene]]:
    """Yield heads as they are and spoilt, and what is no head."""
    head = next(volume for volume in load_volumes(volumes, "test"))
    for number, (cell, (view, offset, weighting)) in enumerate(
        (cell, each) for cell in CELLS for each in scenes.TEST_SLICES[:slices]
    ):
        generator = np.random.default_rng(number)
        images = scenes.coil_images(scenes.magnitude(head, view, offset, weighting), view, offset, cell.coils)
        scene = scenes.measure(images, cell, number)
        yield "head", scene
        turned = np.exp(1j * generator.uniform(-1, 1, scene.mask.shape[1])).astype(np.complex64)
        turned[_middle(scene.mask.shape[1])] = 1
        yield "wrong phase of columns", replace(scene, kspace=scene.kspace * turned)
        spoilt = scene.kspace.copy()
        rows, columns = np.nonzero(scene.mask)
        place = int(generator.integers(rows.size))
        spoilt[:, rows[place], columns[place]] += _SPIKE * np.abs(scene.kspace).max()
        yield "spike", replace(scene, kspace=spoilt)
    for body, cell in ((body, cell) for body in _BODIES for cell in CELLS):
        if (IMAGES / body).is_file():
            images = scenes.coil_images(_slice(IMAGES / body), "axial", 0.0, cell.coils)
            yield "no head", scenes.measure(images, cell, 0)


def damaged(network: UnrolledReconstructor, factor: float, noise: float) -> UnrolledReconstructor:
    """Return a network with other weights."""
    weights = copy.deepcopy(network.network)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in weights.regulariser.parameters():
            spread = parameter.std() if parameter.numel() > 1 else parameter.abs()
            draw = torch.randn(parameter.shape, generator=generator)
            parameter.mul_(factor).add_(noise * spread * draw)
    return UnrolledReconstructor(network.info, weights, "cpu", "float32")


def _middle(columns: int) -> slice:
    return slice(columns // 2 - 12, columns // 2 + 12)


def _slice(path: Path) -> NDArray[np.float32]:
    """Return the middle slice of a volume, brought to the matrix of the scenes, largest value 1."""
    volume = np.asarray(nibabel.load(path).dataobj, dtype=np.float32)  # type: ignore[attr-defined]
    axis = int(np.argmin(volume.shape))
    image = np.take(volume, volume.shape[axis] // 2, axis=axis)
    image = np.clip(image / np.quantile(image, 0.999), 0, 1)
    spectrum = np.fft.fftshift(np.fft.fft2(image))
    rows, columns = scenes.SHAPE
    wanted = np.zeros(scenes.SHAPE, dtype=np.complex128)
    common = [min(have, want) for have, want in zip(image.shape, scenes.SHAPE, strict=True)]
    inner = tuple(
        slice(have // 2 - size // 2, have // 2 - size // 2 + size)
        for have, size in zip(image.shape, common, strict=True)
    )
    outer = tuple(
        slice(want // 2 - size // 2, want // 2 - size // 2 + size)
        for want, size in zip((rows, columns), common, strict=True)
    )
    wanted[outer] = spectrum[inner]
    shown = np.abs(np.fft.ifft2(np.fft.ifftshift(wanted)))
    return (shown / shown.max()).astype(np.float32)


if __name__ == "__main__":
    main()
