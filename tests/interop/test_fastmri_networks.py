"""Networks with fastMRI's weights give fastMRI's images: against the published package, in a process of its own.

The weights are random, as the initialisation of the package leaves them, with weights of data consistency between 0.6 and 1.1. Such
networks amplify rounding more than trained ones: for the official size fastMRI itself in float32 is 1e-5 away from float64.
"""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from network_builders import INFO, frame_of, relative

from recond_kernels.fourier import ifft2c
from recond_models.batch import PackedBatch
from recond_models.finishing import magnitudes
from recond_models.networks import compiled as compiling
from recond_models.networks.families import FAMILIES

ROOT = Path(__file__).resolve().parents[2]
HOME = Path(os.environ.get("RECOND_FASTMRI", ROOT / ".venv-fastmri"))
PYTHON = HOME / "bin" / "python"

pytestmark = pytest.mark.skipif(
    not any(HOME.glob("lib/python*/site-packages/fastmri")),
    reason=f"fastmri is not installed in {HOME}: make interop-venv",
)

SMALL = {"cascades": 4, "channels": 6, "pools": 3, "sensitivity_channels": 4, "sensitivity_pools": 2}
OFFICIAL = {"cascades": 12, "channels": 18, "pools": 4, "sensitivity_channels": 8, "sensitivity_pools": 4}
SCALE = 1e-4
"""Of measured k-space in the fastMRI files, about."""


@dataclass
class Case:
    """A network and frames of one size, which we reconstruct in one batch and fastMRI one by one."""

    name: str
    family: str
    architecture: dict
    size: tuple[int, int]
    coils: tuple[int, ...]
    crop: tuple[int, int] | None = None
    padding: int = 0
    odd_scale: float = 1.0

    def network(self):
        with torch.random.fork_rng():
            torch.manual_seed(len(self.name))
            network = FAMILIES[self.family].build({"family": self.family, **self.architecture})
            for name, weight in network.named_parameters():
                if name.endswith("dc_weight"):
                    weight.data = 0.6 + 0.5 * torch.rand(1)
        return network

    def frames(self):
        generator = torch.Generator().manual_seed(7)
        frames = [frame_of(coils, *self.size, generator, middle=self.size[1] // 6 * 2) for coils in self.coils]
        for kspace, lines in frames:
            lines[: self.padding] = False
            lines[len(lines) - self.padding :] = False
            kspace.mul_(torch.where(lines, SCALE * self.odd_scale, 0))
        return frames

    def batch(self):
        frames = self.frames()
        masks = [lines.expand(self.size).clone() for _, lines in frames]
        return PackedBatch.pack([kspace for kspace, _ in frames], masks, crops=[self.crop] * len(frames))


UNET = {"in_channels": 1, "out_channels": 1, "channels": 8, "pools": 3}
CASES = [
    Case("even", "varnet", SMALL, (64, 48), (5,)),
    Case("odd", "varnet", SMALL, (61, 53), (3,)),
    Case("oddrows", "varnet", SMALL, (75, 64), (2,)),
    Case("ragged", "varnet", SMALL, (48, 50), (1, 4, 9)),
    Case("padding", "varnet", SMALL, (64, 72), (4, 2), padding=6),
    Case("faint", "varnet", SMALL, (48, 48), (3,), odd_scale=1e-6),
    Case("bright", "varnet", SMALL, (48, 48), (3,), odd_scale=1e9),
    Case("shallow", "varnet", SMALL | {"cascades": 1, "pools": 1}, (40, 40), (4,)),
    Case("deep", "varnet", SMALL | {"pools": 5}, (81, 66), (2,)),
    Case("official", "varnet", OFFICIAL, (640, 368), (15,)),
    Case("unet", "unet", UNET, (64, 48), (4, 1)),
    Case("unetodd", "unet", UNET, (77, 69), (3,), crop=(55, 49)),
    Case("unetofficial", "unet", UNET | {"channels": 256, "pools": 4}, (640, 368), (4,), crop=(160, 160)),
]


def constructor_arguments(case):
    size = case.architecture
    if case.family == "unet":
        return {"in_chans": 1, "out_chans": 1, "chans": size["channels"], "num_pool_layers": size["pools"]}
    names = {"num_cascades": "cascades", "chans": "channels", "pools": "pools"}
    names |= {"sens_chans": "sensitivity_channels", "sens_pools": "sensitivity_pools"}
    return {theirs: size[ours] for theirs, ours in names.items()}


def store(case, folder):
    network = case.network()
    for number, (kspace, lines) in enumerate(case.frames()):
        path = folder / f"{case.name}{number}"
        path.with_suffix(".json").write_text(
            json.dumps({"family": case.family, "arguments": constructor_arguments(case)})
        )
        torch.save(network.state_dict(), path.with_suffix(".pt"))
        image = ifft2c(kspace).abs().square().sum(0).sqrt()
        crop = np.array(case.crop or case.size)
        np.savez(path.with_suffix(".npz"), kspace=kspace.numpy(), lines=lines.numpy(), image=image.numpy(), crop=crop)


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Return a folder with the images of all cases, made by one process."""
    folder = tmp_path_factory.mktemp("fastmri")
    for case in CASES:
        store(case, folder)
    command = [PYTHON, Path(__file__).with_name("fastmri_oracle.py"), folder]
    subprocess.run(command, check=True, capture_output=True, timeout=600, env=os.environ | {"PYTHONPATH": ""})
    return folder


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_images_equal_those_of_fastmri(case, compiled, answers, monkeypatch):
    if compiled:
        pytest.importorskip("openvino")
        if case.name == "unetofficial":
            pytest.skip("2 GB of weights are not laid out a second time")
    family = FAMILIES[case.family]
    model = type(family.reconstructor(INFO, case.network(), "cpu", "float32"))(INFO, case.network(), compiled=compiled)
    batch = case.batch()
    if compiled:
        monkeypatch.setattr(compiling, "_SAVED_SECONDS", 1.0)  # frames as small as these are not worth it
    images = magnitudes(model.reconstruct(batch))
    assert any(place.program is not None for place in model.networks._places.values()) == compiled
    if case.crop is not None:
        top, left = ((whole - shown) // 2 for whole, shown in zip(case.size, case.crop, strict=True))
        images = images[:, top : top + case.crop[0], left : left + case.crop[1]]
    for number, image in enumerate(images):
        expected = torch.from_numpy(np.load(answers / f"{case.name}{number}-fastmri.npy"))
        assert relative(image / SCALE, expected / SCALE) < 1e-4
        assert (image - expected).abs().max() < 1e-4 * expected.abs().max()


def test_weights_of_the_package_are_known_and_loaded_strictly(answers):
    for case in CASES:
        state = torch.load(answers / f"{case.name}0.pt", weights_only=True)
        for name, family in FAMILIES.items():
            expected = {"family": case.family, **case.architecture} if name == case.family else None
            assert family.infer(state) == expected
        FAMILIES[case.family].build({"family": case.family, **case.architecture}).load_state_dict(state, strict=True)
