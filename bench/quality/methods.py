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

import numpy as np
from numpy.typing import NDArray
from scenes import Scene

from recond_models import loading, registry
from recond_models.batch import PackedBatch, Reconstructor
from recond_models.classical.cg_sense import CgSense
from recond_models.classical.l1_wavelet import L1Wavelet
from recond_models.classical.tv import TotalVariation
from recond_models.finishing import magnitudes
from recond_models.sampling import Sampling

THREADS = 2
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
    """

    image: NDArray[np.float32]
    seconds: float
    residual: float | None


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
        ``"classical"``, ``"bart"`` or ``"network"``.
    """

    name: str
    identity: str
    run: Callable[[Scene, float | None], Outcome]
    weight: float | None
    kind: str


def all_methods(names: tuple[str, ...] = ()) -> list[Method]:
    """Return the methods that can run here, or those of them that are named."""
    methods = [_fixed("rss")]
    for name, make, start in (
        ("cg-sense", CgSense, 40.0),
        ("l1-wavelet", L1Wavelet, 0.15),
        ("tv", TotalVariation, 0.12),
    ):
        methods.append(_classical(name, make, start))
    if shutil.which("bart") is not None:
        version = subprocess.run(["bart", "version"], check=True, capture_output=True, text=True).stdout.strip()
        methods += [_bart("bart-l1", "W", 0.005, version), _bart("bart-tv", "T", 0.003, version)]
    methods += [_fixed(info.name) for info in registry.available() if info.origin == "shipped"]
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
    start = time.perf_counter()
    result = model.reconstruct(batch)
    seconds = time.perf_counter() - start
    residual = None if result.residuals is None else float(result.residuals[0])
    return Outcome(magnitudes(result)[0].numpy(), seconds, residual)


def _fixed(name: str) -> Method:
    """Return a model without a weight to choose, loaded when it is first used."""
    info = registry.find(name)
    loaded: list[Reconstructor] = []

    def run(scene: Scene, _weight: float | None) -> Outcome:
        if not loaded:
            loaded.append(loading.load(name))
        return _reconstruct(loaded[0], scene)

    kind = "network" if info.kind == "network" else "classical"
    return Method(name, f"{info.version} {info.weights_sha256}".strip(), run, None, kind)


def _classical(name: str, make: Callable[..., Any], start: float) -> Method:
    """Return a classical model whose weight can be chosen."""
    info = registry.find(name)

    def run(scene: Scene, weight: float | None) -> Outcome:
        return _reconstruct(make(info, "cpu", weight), scene)

    return Method(name, info.version, run, start, "classical")


def _bart(name: str, term: str, start: float, version: str) -> Method:
    """Return BART's pics with ESPIRiT maps; 100 iterations as in its documentation."""

    def run(scene: Scene, weight: float | None) -> Outcome:
        with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:  # noqa: S108
            place = Path(folder)
            write_cfl(place / "kspace", scene.kspace.transpose(1, 2, 0)[:, :, None, :])
            height, width = scene.calibration.shape[1:]
            # With its usual kernel of 6 BART finds no maps in 8 lines.
            kernel = [min(6, size // 2) for size in (height, width)]
            begin = time.perf_counter()
            _call(place, "ecalib", "-m1", f"-r{height}:{width}:1", f"-k{kernel[0]}:{kernel[1]}:1", "kspace", "maps")
            _call(place, "pics", "-S", f"-R{term}:3:0:{weight:.6g}", "-i100", "kspace", "maps", "image")
            seconds = time.perf_counter() - begin
            image, maps = read_cfl(place / "image"), read_cfl(place / "maps").transpose(2, 0, 1)
        scale, residual = fit(image, maps, scene)
        return Outcome(np.abs(scale * image).astype(np.float32), seconds, residual)

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
