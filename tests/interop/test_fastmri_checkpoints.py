"""Checkpoints of fastMRI's own networks, from the file to the image: added, served, and compared with fastMRI's pipeline.

fastMRI lives in an environment of its own (`make interop-venv`). It reads the same file with its own transforms, and its network
has the same random weights.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
from recond_testing import Service

import recond_client
from recond_models import registry
from recond_models.simulate import write_fastmri
from recond_models.simulate.scan import ScanSettings, simulate
from recond_models.store.add import AddRequest, add_model
from recond_models.store.place import remove_model

ROOT = Path(__file__).parents[2]
HOME = Path(os.environ.get("RECOND_FASTMRI", ROOT / ".venv-fastmri"))
PYTHON = HOME / "bin" / "python"
pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason=f"fastmri is not installed in {HOME}: make interop-venv")

PROGRAM = """
import sys
from pathlib import Path
import numpy as np
import torch
from fastmri.data import transforms
from fastmri.data.mri_data import SliceDataset
from fastmri.models import Unet, VarNet

kind, folder, checkpoint, out = sys.argv[1:]
torch.manual_seed(3)
if kind == "unet":
    network = Unet(in_chans=1, out_chans=1, chans=6, num_pool_layers=3, drop_prob=0.0)
    transform = transforms.UnetDataTransform(which_challenge="multicoil")
else:
    network = VarNet(num_cascades=3, chans=6, pools=3, sens_chans=4, sens_pools=3)
    transform = transforms.VarNetDataTransform()
state = network.state_dict()
if kind == "varnet-lightning":
    torch.save({"state_dict": {f"varnet.{name}": tensor for name, tensor in state.items()} | {"loss.w": torch.ones(1)},
                "epoch": 7, "hyper_parameters": {"num_cascades": 3}}, checkpoint)
else:
    torch.save(state, checkpoint)
network.eval()
images = []
with torch.no_grad():
    for sample in SliceDataset(root=Path(folder), challenge="multicoil", transform=transform):
        if kind == "unet":
            image = network(sample.image[None, None])[0, 0] * sample.std + sample.mean
        else:
            image = network(sample.masked_kspace[None], sample.mask[None])[0]
            image = transforms.center_crop(image, sample.crop_size)
        images.append(image.numpy())
np.save(out, np.stack(images))
"""


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with readout oversampling, padding-free header and its own mask."""
    path = tmp_path_factory.mktemp("scan") / "file1000017.h5"
    settings = ScanSettings(
        phantom="shepp-logan", coils=5, slices=3, rows=96, columns=84, acceleration=4, calibration_lines=12, seed=4
    )
    write_fastmri.write(simulate(settings), path)
    return path


@pytest.mark.parametrize("kind", ["varnet", "varnet-lightning", "unet"])
def test_images_of_added_checkpoints(
    service: Service, added_models: Path, scan: Path, tmp_path: Path, kind: str
) -> None:
    checkpoint, out = tmp_path / "epoch=7.ckpt", tmp_path / "images.npy"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / scan.name).symlink_to(scan)
    # fastMRI keeps a cache of what it saw in the current folder.
    subprocess.run(
        [PYTHON, "-c", PROGRAM, kind, tmp_path / "data", checkpoint, out], check=True, capture_output=True, cwd=tmp_path
    )
    expected = np.load(out)
    add_model(AddRequest(checkpoint, name="theirs"))
    try:
        with recond_client.Client(service.address) as client:
            result = client.reconstruct(scan, model="theirs")
        assert registry.find("theirs").family == kind.partition("-")[0]
    finally:
        remove_model(added_models, "theirs")
    assert result.images.shape == expected.shape == (3, 96, 84)
    np.testing.assert_allclose(result.images, expected, atol=1e-4 * np.abs(expected).max())
    with h5py.File(scan) as file:
        assert file["kspace"].shape[-2:] == (192, 84)
