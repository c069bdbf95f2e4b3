"""Reconstruction of a measured head beside BART and sigpy, in one run.

Eight frames: the head and seven copies turned in phase and scaled, so that nothing can be reused. Each side calibrates (ESPIRiT)
and reconstructs them with two threads; BART and sigpy take them one after another, as their tools do; none gives freed memory back.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

BRAIN = Path(__file__).resolve().parents[2] / "shared" / "data" / "brain_8ch.h5"
FRAMES = 8
CALIBRATION = 24
THREADS = "2"
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": THREADS,
    "MKL_NUM_THREADS": THREADS,
    "NUMBA_NUM_THREADS": THREADS,
    "OMP_WAIT_POLICY": "PASSIVE",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
    "MALLOC_MMAP_THRESHOLD_": "33554432",
}
# BART's weights belong to its own scale of the image; sigpy's to that of the largest sample.
BART_TERMS = {"l1-wavelet": "W:3:0:0.005", "tv": "T:3:0:0.003"}

pytestmark = [
    pytest.mark.skipif(shutil.which("bart") is None, reason="bart (Debian bart) is not installed"),
    pytest.mark.skipif(not BRAIN.is_file(), reason=f"no measured head at {BRAIN}"),
]

LOAD = """
import sys, time, h5py, numpy as np
with h5py.File(sys.argv[1]) as file:
    kspace, mask = file["kspace"][0], file["mask"][()]
frames = [kspace * np.exp(1j * number).astype(np.complex64) * np.float32(1 + 0.1 * number) for number in range(int(sys.argv[2]))]
"""
OURS = """
import torch
torch.set_num_threads(int(sys.argv[4]))
from recond_models import loading
from recond_models.batch import PackedBatch
from recond_models.sampling import centre_block
from recond_models.finishing import magnitudes
model = loading.load(sys.argv[5])
def run(frames):
    blocks = [centre_block(frame, (24, 24)) for frame in frames]
    return magnitudes(model.reconstruct(PackedBatch.pack(frames, [mask] * len(frames), blocks))).numpy()
"""
SIGPY = """
import sigpy.mri.app as app
weights = mask.astype(np.float32)
def run(frames):
    images = []
    for frame in frames:
        data = frame / np.abs(frame).max()
        maps = app.EspiritCalib(data, calib_width=24, show_pbar=False).run()
        kind = {"l1-wavelet": app.L1WaveletRecon, "tv": app.TotalVariationRecon}[sys.argv[5]]
        options = {"max_iter": 100, "show_pbar": False}
        images.append(np.abs(kind(data, maps, 1.5e-4, weights=weights, **options).run()))
    return np.stack(images)
"""
TIMED = """
run(frames[:1])
start, used = time.perf_counter(), time.process_time()
images = run(frames)
print(time.perf_counter() - start, time.process_time() - used)
np.save(sys.argv[3], images)
"""


def timed_python(body: str, folder: Path, model: str) -> tuple[float, float, np.ndarray]:
    """Return the seconds of the second call in a process of its own, those of all its cores, and the images."""
    result = folder / "images.npy"
    command = [sys.executable, "-c", LOAD + body + TIMED, str(BRAIN), str(FRAMES), str(result), THREADS, model]
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=ENVIRONMENT, timeout=300).stdout
    seconds, used = (float(figure) for figure in output.split()[-2:])
    return seconds, used, np.load(result)


def write_cfl(path: Path, array: np.ndarray) -> None:
    path.with_suffix(".hdr").write_text("# Dimensions\n" + " ".join(str(size) for size in array.shape) + "\n")
    array.astype(np.complex64).ravel(order="F").tofile(path.with_suffix(".cfl"))


def read_cfl(path: Path) -> np.ndarray:
    shape = [int(size) for size in path.with_suffix(".hdr").read_text().splitlines()[1].split()]
    return np.fromfile(path.with_suffix(".cfl"), dtype=np.complex64).reshape(shape, order="F").squeeze()


def frames_of_brain() -> tuple[list[np.ndarray], np.ndarray]:
    import h5py

    with h5py.File(BRAIN) as file:
        kspace, mask = file["kspace"][0], file["mask"][()]
    frames = [kspace * np.exp(1j * n).astype(np.complex64) * np.float32(1 + 0.1 * n) for n in range(FRAMES)]
    return frames, mask


def timed_bart(folder: Path, model: str) -> tuple[float, float, np.ndarray, np.ndarray]:
    """Return the seconds for all frames, those of all cores, the complex images, and the sensitivities of the first frame."""
    frames, _ = frames_of_brain()
    for number, frame in enumerate(frames):
        write_cfl(folder / f"kspace{number}", frame.transpose(1, 2, 0)[:, :, None, :])
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    for n in range(FRAMES):
        calibrate = ["bart", "ecalib", "-m1", f"-r{CALIBRATION}", f"kspace{n}", f"maps{n}"]
        solve = ["bart", "pics", "-S", f"-R{BART_TERMS[model]}", "-i100", f"kspace{n}", f"maps{n}", f"image{n}"]
        for command in (calibrate, solve):
            subprocess.run(command, cwd=folder, check=True, capture_output=True, env=ENVIRONMENT, timeout=120)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    maps = read_cfl(folder / "maps0").transpose(2, 0, 1)
    return seconds, used, np.stack([read_cfl(folder / f"image{n}") for n in range(FRAMES)]), maps


def residual(image: np.ndarray, maps: np.ndarray, kspace: np.ndarray, mask: np.ndarray) -> float:
    """Return ``||A x - y|| / ||y||``, x scaled to fit best: BART's own scale of the DFT does not count."""
    axes = (-2, -1)
    model = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(maps * image, axes), norm="ortho"), axes)[:, mask]
    data = kspace[:, mask]
    factor = np.vdot(model, data) / np.vdot(model, model)
    return float(np.linalg.norm(factor * model - data) / np.linalg.norm(data))


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(np.abs(one).ravel(), np.abs(other).ravel())[0, 1])


@pytest.mark.parametrize("model", ["l1-wavelet", "tv"])
def test_eight_measured_heads_beside_bart_and_sigpy(benchmark, tmp_path: Path, model: str):
    from recond_models import loading
    from recond_models.batch import PackedBatch
    from recond_models.sampling import centre_block

    bart_seconds, bart_used, bart_images, maps = timed_bart(tmp_path, model)
    sigpy_seconds, sigpy_used, sigpy_images = timed_python(SIGPY, tmp_path, model)
    seconds, used, images = benchmark.pedantic(timed_python, args=(OURS, tmp_path, model), rounds=1)

    frames, mask = frames_of_brain()
    block = centre_block(frames[0], (CALIBRATION, CALIBRATION))
    single = loading.load(model).reconstruct(PackedBatch.pack([frames[0]], [mask], [block]))
    assert single.residuals is not None
    benchmark.extra_info |= {
        "frames": FRAMES,
        "recond_seconds": round(seconds, 2),
        "bart_seconds": round(bart_seconds, 2),
        "sigpy_seconds": round(sigpy_seconds, 2),
        "core_seconds": {"recond": round(used, 2), "bart": round(bart_used, 2), "sigpy": round(sigpy_used, 2)},
        "bart_over_recond": round(bart_seconds / seconds, 2),
        "sigpy_over_recond": round(sigpy_seconds / seconds, 2),
        "correlation_with_bart": round(correlation(images[0], bart_images[0]), 4),
        "correlation_with_sigpy": round(correlation(images[0], sigpy_images[0]), 4),
        "residual_recond": round(single.residuals.item(), 4),
        "residual_bart": round(residual(bart_images[0], maps, frames[0], mask), 4),
    }
    print(f"\n{model}: {benchmark.extra_info}")
    assert correlation(images[0], bart_images[0]) > 0.98
    assert seconds < bart_seconds
    assert 3 * seconds < sigpy_seconds


@pytest.mark.parametrize("model", ["unrolled-brain", "unrolled-brain-fast"])
def test_networks_on_eight_measured_heads_beside_bart(benchmark, tmp_path: Path, model: str):
    from recond_models import registry

    if model not in {info.name for info in registry.available()}:
        pytest.skip(f"{model} is not installed")
    bart_seconds, bart_used, bart_images, _ = timed_bart(tmp_path, "l1-wavelet")
    seconds, used, images = benchmark.pedantic(timed_python, args=(OURS, tmp_path, model), rounds=1)
    benchmark.extra_info |= {
        "frames": FRAMES,
        "recond_seconds": round(seconds, 2),
        "bart_seconds": round(bart_seconds, 2),
        "core_seconds": {"recond": round(used, 2), "bart": round(bart_used, 2)},
        "bart_over_recond": round(bart_seconds / seconds, 2),
        "correlation_with_bart": round(correlation(images[0], bart_images[0]), 4),
    }
    print(f"\n{model}: {benchmark.extra_info}")
    assert correlation(images[0], bart_images[0]) > 0.97
    assert seconds < bart_seconds
