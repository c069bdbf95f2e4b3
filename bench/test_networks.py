"""fastMRI's networks beside the published fastmri package, in one run.

The official variational network on a simulated head of the usual size (15 coils, 640 x 368, 4-fold random lines), and the U-Net of
fastMRI's examples on its zero-filled image. Each side has two threads, a process of its own and the same weights: random, but with
the last layer of every cascade a tenth of what initialisation makes it, so that corrections are small, as those of trained networks
are. Seconds are those of the fastest of some rounds after compiling; the peak of the memory includes imports and compiling.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
HOME = Path(os.environ.get("RECOND_FASTMRI", ROOT / ".venv-fastmri"))
THREADS = "2"
ROUNDS = "4"
ENVIRONMENT = {
    **os.environ,
    "RECOND_CACHE_DIR": "off",
    "OMP_NUM_THREADS": THREADS,
    "MKL_NUM_THREADS": THREADS,
    "OMP_WAIT_POLICY": "PASSIVE",
    # As in the worker of the service: one heap for all threads.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "33554432",
}
ARCHITECTURES = {
    "varnet": {"cascades": 12, "channels": 18, "pools": 4, "sensitivity_channels": 8, "sensitivity_pools": 4},
    "unet": {"in_channels": 1, "out_channels": 1, "channels": 32, "pools": 4},
}

pytestmark = pytest.mark.skipif(
    not any(HOME.glob("lib/python*/site-packages/fastmri")),
    reason=f"fastmri is not installed in {HOME}: make interop-venv",
)

LOAD = """
import sys, time
from pathlib import Path
import numpy as np, torch
torch.set_num_threads(int(sys.argv[3]))
folder, kind, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[4])
data = np.load(folder / "frame.npz")
kspace, lines = torch.from_numpy(data["kspace"]), torch.from_numpy(data["lines"])
state = torch.load(folder / f"{kind}.pt", weights_only=True)
"""
FASTMRI = """
import fastmri
from fastmri.data.transforms import center_crop, complex_center_crop, normalize_instance
from fastmri.models import Unet, VarNet
if kind == "varnet":
    network = VarNet(num_cascades=12, chans=18, pools=4, sens_chans=8, sens_pools=4)
else:
    network = Unet(in_chans=1, out_chans=1, chans=32, num_pool_layers=4)
network.load_state_dict(state)
network.eval()
def run():
    real = torch.view_as_real(kspace)[None]
    if kind == "varnet":
        return network(real, lines.view(1, 1, 1, -1, 1))[0]
    image = fastmri.rss(fastmri.complex_abs(complex_center_crop(fastmri.ifft2c(real), (320, 320))), dim=1)[0]
    image, mean, deviation = normalize_instance(image, eps=1e-11)
    return network(image.clamp(-6, 6)[None, None])[0, 0] * deviation + mean
"""
OURS = """
import json
from recond_models.batch import PackedBatch
from recond_models.finishing import magnitudes
from recond_models.networks.families import FAMILIES
from recond_models.model import ModelInfo
family = FAMILIES[kind]
network = family.build({"family": kind, **json.loads(sys.argv[6])})
network.load_state_dict(state)
info = ModelInfo("bench", "1", "Random weights.", "network", "-", False, False)
model = family.reconstructor(info, network, "cpu", sys.argv[5])
crop = (320, 320)
mask = lines.expand(kspace.shape[1:]).clone()
def run():
    return magnitudes(model.reconstruct(PackedBatch.pack([kspace], [mask], crops=[crop])))[0]
"""
WARMED = """
while not model.networks.ready(((640, 368), crop)[kind == "unet"]):
    run()
    model.networks.wait()
"""
FIRST_REQUEST = """
slices = 3
if "model" in dir():
    def request():
        batch = PackedBatch.pack([kspace] * slices, [mask] * slices, crops=[crop] * slices)
        return magnitudes(model.reconstruct(batch))
else:
    def request():
        return torch.stack([run() for _ in range(slices)])
with torch.inference_mode():
    start, used = time.perf_counter(), time.process_time()
    image = request()[-1]
    first, used = time.perf_counter() - start, time.process_time() - used
    start = time.perf_counter()
    request()
    second = time.perf_counter() - start
np.save(sys.argv[7], image.numpy())
print(first, used, second)
"""
TIMED = """
seconds = []
with torch.inference_mode():
    run()
    for _ in range(rounds):
        start, used = time.perf_counter(), time.process_time()
        image = run()
        seconds.append((time.perf_counter() - start, time.process_time() - used))
if kind == "unet" and image.shape != (320, 320):
    top, left = ((size - 320) // 2 for size in image.shape)
    image = image[top : top + 320, left : left + 320]
np.save(sys.argv[7], image.numpy())
# Not ru_maxrss: that counts the process that started this one, too.
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
print(*(min(column) for column in zip(*seconds)), peak)
"""


def make(folder: Path, kind: str) -> None:
    """Write weights and a frame."""
    import torch

    from recond_models.networks.families import FAMILIES
    from recond_models.simulate.scan import ScanSettings, simulate

    torch.manual_seed(0)
    network = FAMILIES[kind].build({"family": kind, **ARCHITECTURES[kind]})
    if kind == "varnet":
        for cascade in network.cascades:
            cascade.dc_weight.data = 0.6 + 0.5 * torch.rand(1)
            for weight in cascade.model.unet.up_conv[-1][1].parameters():
                weight.data *= 0.1
    torch.save(network.state_dict(), folder / f"{kind}.pt")
    settings = ScanSettings(rows=640, columns=368, slices=1, coils=15, oversampling=1, acceleration=1, noise=0.005)
    kspace = simulate(settings).kspace[0]
    lines = np.random.default_rng(0).random(368) < 0.18
    lines[184 - 15 : 184 + 14] = True
    kspace = np.where(lines, kspace, 0) * (1e-4 / np.abs(kspace).max())
    np.savez(folder / "frame.npz", kspace=kspace.astype(np.complex64), lines=lines)


def timed(
    python: Path | str, body: str, folder: Path, kind: str, precision: str, measured: str = TIMED
) -> tuple[float, float, float, np.ndarray]:
    """Return what is measured, as a rule seconds, seconds of all cores and peak memory in MB, and the image, of a new process."""
    result = folder / "image.npy"
    command = [
        *(str(python), "-c", LOAD + body + measured, str(folder), kind, THREADS, ROUNDS, precision),
        *(json.dumps(ARCHITECTURES[kind]), str(result)),
    ]
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=ENVIRONMENT, timeout=900).stdout
    seconds, used, peak = (float(figure) for figure in output.split()[-3:])
    return seconds, used, peak, np.load(result)


@pytest.mark.parametrize("kind", ["varnet", "unet"])
def test_networks_beside_fastmri(benchmark, tmp_path: Path, kind: str):
    from recond_models import metrics

    make(tmp_path, kind)
    seconds, used, peak, expected = timed(HOME / "bin" / "python", FASTMRI, tmp_path, kind, "-")
    figures = {"fastmri": {"seconds": round(seconds, 2), "core_seconds": round(used, 2), "peak_mb": round(peak)}}
    limits = {"float32": 2.5, "bfloat16": 4.0} if kind == "varnet" else {"float32": 1.0, "bfloat16": 1.0}

    def ours() -> None:
        for precision in limits:
            ours_seconds, ours_used, ours_peak, image = timed(sys.executable, OURS + WARMED, tmp_path, kind, precision)
            figures[precision] = {
                "seconds": round(ours_seconds, 2),
                "core_seconds": round(ours_used, 2),
                "peak_mb": round(ours_peak),
                "times_faster": round(seconds / ours_seconds, 2),
                "times_fewer_core_seconds": round(used / ours_used, 2),
                "relative_error": float(f"{np.linalg.norm(image - expected) / np.linalg.norm(expected):.2g}"),
                "ssim": round(metrics.ssim(expected[None], image[None]), 5),
                "psnr": round(metrics.psnr(expected[None], image[None]), 1),
            }

    benchmark.pedantic(ours, rounds=1)
    benchmark.extra_info |= figures
    print(f"\n{kind}: {json.dumps(figures, indent=2)}")
    assert figures["float32"]["relative_error"] < 1e-4
    assert figures["float32"]["peak_mb"] <= figures["fastmri"]["peak_mb"]
    for precision, limit in limits.items():
        assert figures[precision]["times_faster"] > limit


def test_first_request_beside_fastmri(benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Three slices of the official network in a process that has just loaded it, with an empty cache and with a full one."""
    make(tmp_path, "varnet")
    monkeypatch.setitem(ENVIRONMENT, "RECOND_CACHE_DIR", str(tmp_path / "cache"))
    theirs, theirs_used, _, expected = timed(HOME / "bin" / "python", FASTMRI, tmp_path, "varnet", "-", FIRST_REQUEST)
    figures: dict[str, Any] = {"fastmri": {"seconds": round(theirs, 2), "core_seconds": round(theirs_used, 2)}}

    def ours() -> None:
        for process in ("first", "second"):
            cold, used, warm, image = timed(sys.executable, OURS, tmp_path, "varnet", "float32", FIRST_REQUEST)
            figures[f"{process}_process"] = {
                "seconds": round(cold, 2),
                "core_seconds": round(used, 2),
                "next_request_seconds": round(warm, 2),
                "times_faster": round(theirs / cold, 2),
                "times_fewer_core_seconds": round(theirs_used / used, 2),
                "relative_error": float(f"{np.linalg.norm(image - expected) / np.linalg.norm(expected):.2g}"),
            }

    benchmark.pedantic(ours, rounds=1)
    benchmark.extra_info |= figures
    print(f"\n{json.dumps(figures, indent=2)}")
    for process, limit in (("first_process", 1.8), ("second_process", 2.4)):
        assert figures[process]["relative_error"] < 1e-4
        assert figures[process]["times_faster"] > limit
