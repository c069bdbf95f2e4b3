"""The reconstructions that are compared, behind one call."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from scenes import Scene

from recond_kernels.operators.sense import SenseEncoding
from recond_models import loading, registry
from recond_models.batch import PackedBatch, Reconstruction, Reconstructor
from recond_models.classical import parallel
from recond_models.classical.cg_sense import CgSense
from recond_models.classical.compression import VIRTUAL_COILS
from recond_models.classical.l1_wavelet import L1Wavelet
from recond_models.classical.parallel import ParallelImaging
from recond_models.classical.tv import TotalVariation
from recond_models.finishing import magnitudes
from recond_models.model import ModelInfo
from recond_models.sampling import Sampling
from recond_models.training.fields import to_kspace

THREADS = 1
_TUNED: dict[str, tuple[Callable[..., Any], float]] = {
    "cg-sense": (CgSense, 40.0),
    "l1-wavelet": (L1Wavelet, 0.15),
    "tv": (TotalVariation, 0.12),
}
_pose = parallel.pose
_WITHOUT_NETWORKS = {"rss", *_TUNED}
_ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "OMP_WAIT_POLICY": "PASSIVE"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One image.

    Parameters
    ----------
    image
        float32 (rows, columns).
    seconds
        Wall time of calibration and reconstruction; for BART with two starts of a process and files in memory.
    residual
        ``||A x - y|| / ||y||`` with the method's own maps; None if it has none.
    predicted
        complex64 (coils, rows, columns): all of k-space as image and maps predict it, where BART compresses coils of virtual ones;
        None where a method has no maps.
    """

    image: NDArray[np.float32]
    seconds: float
    residual: float | None
    predicted: NDArray[np.complex64] | None = None


@dataclass(frozen=True, slots=True)
class Method:
    """A way to reconstruct.

    Parameters
    ----------
    name
        Name in the results.
    identity
        Changes when its results may: results of another identity are made again.
    run
        Called with a scene and a weight.
    weight
        Where the search for the weight of its penalty starts; None if it has none.
    kind
        ``"classical"`` and ``"network"`` are models as the service runs them; ``"tuned"``, ``"bart"``.
    """

    name: str
    identity: str
    run: Callable[[Scene, float | None], Outcome]
    weight: float | None
    kind: str


def all_methods(names: tuple[str, ...] = ()) -> list[Method]:
    """Return the methods that can run here, or those of them that are named.

    All models of recond that are not added ones as the service runs them, those with a weight also with a tuned one, and BART.
    """
    models = [info for info in registry.available() if info.origin != "added"]
    methods = []
    for info in models:
        methods.append(_as_served(info))
        if info.name in _TUNED:
            methods.append(_tuned(info, *_TUNED[info.name]))
    if shutil.which("bart") is not None:
        version = subprocess.run(["bart", "version"], check=True, capture_output=True, text=True).stdout.strip()
        methods += [_bart("bart-l1", "W", 0.005, version), _bart("bart-tv", "T", 0.003, version)]
    unknown = set(names) - {method.name for method in methods}
    if unknown:
        raise SystemExit(f"no method {', '.join(sorted(unknown))}; there are {', '.join(m.name for m in methods)}")
    return [method for method in methods if not names or method.name in names]


def outside_contract(name: str, scene: Scene) -> str:
    """Return in what a scene leaves the contract of a network, empty if in nothing."""
    contract = registry.find(name).contract
    extent = (scene.calibration.shape[1], scene.calibration.shape[2])
    sampling = Sampling.of(scene.mask, extent, scene.kspace.shape[0], whitened=True)
    return "" if contract is None else "; ".join(contract.problems(sampling))


def pack(scene: Scene) -> PackedBatch:
    """Return a scene as a batch of one."""
    calibration = scene.calibration if min(scene.calibration.shape[1:]) > 0 else None
    return PackedBatch.pack([scene.kspace], [scene.mask], [calibration])


def _reconstruct(model: Reconstructor, scene: Scene) -> Outcome:
    """Run one of recond's models."""
    batch = pack(scene)
    posed: list[ParallelImaging] = []

    def pose(*arguments: Any, **options: Any) -> ParallelImaging:
        posed.append(_pose(*arguments, **options))
        return posed[-1]

    start = time.perf_counter()
    with mock.patch.object(parallel, "pose", pose):
        result = model.reconstruct(batch)
    seconds = time.perf_counter() - start
    residual = None if result.residuals is None else float(result.residuals[0])
    predicted = _predicted(posed[-1], result, batch) if posed and model.info.has_phase else None
    return Outcome(magnitudes(result)[0].numpy(), seconds, residual, predicted)


def _predicted(problem: ParallelImaging, result: Reconstruction, batch: PackedBatch) -> NDArray[np.complex64]:
    """Return all of k-space from a complex image and the sensitivities that it was made with, virtual coils taken back."""
    encoding = problem.encoding
    everywhere = SenseEncoding(encoding.sensitivities, torch.ones_like(encoding.masks), encoding.layout)
    kspace = (everywhere(torch.as_tensor(result.images)) * problem.scales.to(torch.float32)).numpy()
    if len(kspace) < len(batch.kspace):
        # The mixture that was made is the one that gives these virtual coils from the samples.
        virtual = (problem.kspace * problem.scales.to(torch.float32)).numpy()[:, batch.masks[0].numpy()]
        real = batch.kspace.numpy()[:, batch.masks[0].numpy()]
        mixture = np.linalg.lstsq(real.T, virtual.T, rcond=None)[0].T
        kspace = np.tensordot(mixture.conj().T, kspace, 1)
    return kspace.astype(np.complex64)


def _as_served(info: ModelInfo) -> Method:
    """Return a model as the service runs it, loaded when it is first used."""
    loaded: list[Reconstructor] = []

    def run(scene: Scene, _weight: float | None) -> Outcome:
        if not loaded:
            loaded.append(loading.load(info.name))
        return _reconstruct(loaded[0], scene)

    return Method(info.name, _identity(info), run, None, info.kind)


def _identity(info: ModelInfo) -> str:
    """Return what changes with a model: its version and weights; of one that runs networks, those of all networks."""
    weights = info.weights_sha256
    if not weights and info.name not in _WITHOUT_NETWORKS:
        weights = " ".join(other.weights_sha256[:16] for other in registry.available() if other.origin == "shipped")
    return f"{info.version} {weights}".strip()


def _tuned(info: ModelInfo, make: Callable[..., Any], start: float) -> Method:
    """Return a classical model with the weight of its penalty chosen on another slice of the head."""

    def run(scene: Scene, weight: float | None) -> Outcome:
        return _reconstruct(make(info, "cpu", weight), scene)

    return Method(f"{info.name} tuned", info.version, run, start, "tuned")


def _bart(name: str, term: str, start: float, version: str) -> Method:
    """Return BART's pics with ESPIRiT maps, 100 iterations as in its documentation, and as many virtual coils as recond has."""

    def run(scene: Scene, weight: float | None) -> Outcome:
        with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:  # noqa: S108
            place = Path(folder)
            write_cfl(place / "kspace", scene.kspace.transpose(1, 2, 0)[:, :, None, :])
            height, width = scene.calibration.shape[1:]
            # With its usual kernel of 6 BART finds no maps in 8 lines.
            kernel = [min(6, size // 2) for size in (height, width)]
            begin = time.perf_counter()
            seen, samples = scene, "kspace"
            if scene.kspace.shape[0] > VIRTUAL_COILS:
                samples = "compressed"
                _call(place, "cc", f"-p{VIRTUAL_COILS}", f"-r{height}:{width}:1", "kspace", samples)
                seen = with_kspace(scene, read_cfl(place / samples).transpose(2, 0, 1))
            if scene.kspace.shape[0] == 1:
                write_cfl(place / "maps", np.ones((*scene.mask.shape, 1, 1), dtype=np.complex64))
            else:
                _call(place, "ecalib", "-m1", f"-r{height}:{width}:1", f"-k{kernel[0]}:{kernel[1]}:1", samples, "maps")
            _call(place, "pics", "-S", f"-R{term}:3:0:{weight:.6g}", "-i100", samples, "maps", "image")
            seconds = time.perf_counter() - begin
            image = read_cfl(place / "image")
            maps = read_cfl(place / "maps").reshape(*scene.mask.shape, -1).transpose(2, 0, 1)
        scale, residual = fit(image, maps, seen)
        predicted = to_kspace((scale * maps * image).astype(np.complex64))
        return Outcome(np.abs(scale * image).astype(np.float32), seconds, residual, predicted)

    return Method(name, version, run, start, "bart")


def fit(image: NDArray[np.complex64], maps: NDArray[np.complex64], scene: Scene) -> tuple[complex, float]:
    """Return the factor with which an image fits the samples best, and the relative residual; BART has a scale of its own."""
    axes = (-2, -1)
    model = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(maps * image, axes), norm="ortho"), axes)[:, scene.mask]
    data = scene.kspace[:, scene.mask]
    energy = np.vdot(model, model)
    factor = complex(np.vdot(model, data) / energy) if energy != 0 else 0j
    return factor, float(np.linalg.norm(factor * model - data) / np.linalg.norm(data))


def with_kspace(scene: Scene, kspace: NDArray[np.complex64]) -> Scene:
    """Return a scene with other samples, calibration included."""
    _, height, width = scene.calibration.shape
    rows, columns = scene.mask.shape
    top, left = rows // 2 - height // 2, columns // 2 - width // 2
    return replace(scene, kspace=kspace, calibration=kspace[:, top : top + height, left : left + width].copy())


def write_cfl(path: Path, array: NDArray[np.complex64]) -> None:
    """Write BART's pair of files."""
    path.with_suffix(".hdr").write_text("# Dimensions\n" + " ".join(str(size) for size in array.shape) + "\n")
    array.astype(np.complex64).ravel(order="F").tofile(path.with_suffix(".cfl"))


def read_cfl(path: Path) -> NDArray[np.complex64]:
    """Read BART's pair of files, axes of one left out."""
    shape = [int(size) for size in path.with_suffix(".hdr").read_text().splitlines()[1].split()]
    return np.fromfile(path.with_suffix(".cfl"), dtype=np.complex64).reshape(shape, order="F").squeeze()


def _call(folder: Path, *arguments: str) -> None:
    """Run BART."""
    subprocess.run(["bart", *arguments], cwd=folder, check=True, capture_output=True, env=_ENVIRONMENT, timeout=300)
