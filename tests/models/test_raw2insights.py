"""The way to serve NV-Raw2Insights-MRI: the example package with a network of its interface and random weights.

NVIDIA's code and weights are not here. The stand-in has what matters to whoever calls it: module, function and arguments, images of
coils with an axis of frames in and out, names for what was scanned, and a mask that decides how it computes.
"""

import json
import sys
from pathlib import Path

import pytest
import torch

from recond_models.batch import PackedBatch
from recond_models.contract import Contract
from recond_models.finishing import magnitudes
from recond_models.model import UnsuitableModelError
from recond_models.store import golden

EXAMPLE = Path(__file__).parents[2] / "examples" / "recond-raw2insights" / "src"

STAND_IN = """
import torch
from torch import nn

CALLS = []

class Recon(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.frames, self.types = args.num_frames, args.acq_types
        self.net = nn.Conv2d(2 * args.num_frames, 2 * args.num_frames, 3, padding=1)

    def forward(self, x, mask, mask_type, acc_factor, acq_type):
        assert acq_type in self.types
        CALLS.append((tuple(x.shape), tuple(mask.shape), mask.dtype, mask_type, acc_factor))
        b, t, c, h, w, two = x.shape
        left = w // 2  # a loop over the samples, which cannot be exported
        while left > 0 and bool(mask[..., h // 2, left - 1, :].all()):
            left -= 1
        flat = x.permute(0, 2, 1, 5, 3, 4).reshape(b * c, 2 * t, h, w)
        made = (flat + 0.01 * self.net(flat)).reshape(b, c, t, two, h, w).permute(0, 2, 1, 4, 5, 3)
        return made.mean(dim=1, keepdim=True).expand(-1, t, -1, -1, -1, -1)

def create_mri_recon_model(args):
    assert args.pretrained_csm is None and args.pretrained_recon is None
    return Recon(args)
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The package, with a folder as NVIDIA's repository has it, a configuration and weights."""
    code = tmp_path / "home" / "scripts" / "models"
    code.mkdir(parents=True)
    (code / "__init__.py").touch()
    (code / "latent_recon.py").write_text(STAND_IN)
    config = {"num_frames": 5, "accelerations": [8.0, 16.0, 24.0], "acq_types": ["Cine", "T2w"], "pretrained_csm": "x"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.manual_seed(3)
    weights = {"net.weight": torch.randn(10, 10, 3, 3), "net.bias": torch.randn(10)}
    torch.save({"net_state_dict": weights, "epoch": 160}, tmp_path / "weights.pt")
    monkeypatch.setenv("RAW2INSIGHTS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAW2INSIGHTS_CONFIG", str(tmp_path / "config.json"))
    monkeypatch.setenv("RAW2INSIGHTS_CHECKPOINT", str(tmp_path / "weights.pt"))
    monkeypatch.syspath_prepend(str(EXAMPLE))
    import recond_raw2insights
    from recond_raw2insights import reconstructor

    yield recond_raw2insights.PLUGIN.info, reconstructor, tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] in {"models", "recond_raw2insights"}]:
        del sys.modules[name]


def test_images_are_those_of_its_own_inference(package):
    info, reconstructor, _ = package
    model = reconstructor.make(info, "cpu")
    batch = golden.make_input(Contract())
    images = magnitudes(model.reconstruct(batch))
    network = model._network
    for number, segment in enumerate(batch.layout.segments()):
        # As scripts/inference.py: complex z-score over the coils, five times the same frame, the middle one back.
        axes = (-2, -1)
        kspace = batch.kspace[segment].mT
        coils = torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(kspace, dim=axes), norm="ortho"), dim=axes)
        mean = coils.mean()
        deviation = ((coils - mean).abs() ** 2).mean().sqrt()
        given = torch.view_as_real((coils - mean) / deviation)[None, None].repeat(1, 5, 1, 1, 1, 1)
        mask = batch.masks[number].mT[None, None, None, :, :, None].repeat(1, 5, 1, 1, 1, 1)
        with torch.inference_mode():
            made = network(given, mask, "Uniform8", 8, "T2w")[0, 2]
        expected = (torch.view_as_complex(made.contiguous()) * deviation + mean).abs().square().sum(dim=0).sqrt().mT
        torch.testing.assert_close(images[number], expected, rtol=0, atol=1e-5 * float(expected.max()))


def test_what_the_network_is_told(package):
    info, reconstructor, _ = package
    model = reconstructor.make(info, "cpu")
    calls = sys.modules["models.latent_recon"].CALLS
    batch = golden.make_input(Contract(coils=(4, 4)))
    model.reconstruct(batch)
    shape, mask_shape, dtype, kind, acceleration = calls[-1]
    assert (shape, mask_shape, dtype) == ((1, 5, 4, 64, 80, 2), (1, 5, 1, 64, 80, 1), torch.bool)
    assert (kind, acceleration) == ("Uniform8", 8)
    masks = batch.masks & (torch.rand(80, 64) < 0.4)
    masks[:, 40, 32] = True
    model.reconstruct(
        PackedBatch(torch.where(masks.repeat_interleave(4, 0), batch.kspace, 0), batch.coil_offsets, masks, (None,) * 2)
    )
    assert calls[-1][3] == "ktRadial8"
    masks[:, 40, 32] = False
    with pytest.raises(UnsuitableModelError, match="needs the middle of k-space"):
        model.reconstruct(PackedBatch(batch.kspace, batch.coil_offsets, masks, (None,) * 2))


def test_every_scale(package):
    info, reconstructor, _ = package
    model = reconstructor.make(info, "cpu")
    batch = golden.make_input(Contract())
    image = magnitudes(model.reconstruct(batch)).double()
    for scale in (1e-6, 1e12):
        scaled = PackedBatch(batch.kspace * scale, batch.coil_offsets, batch.masks, batch.calibrations)
        again = magnitudes(model.reconstruct(scaled)).double() / scale
        torch.testing.assert_close(again, image, rtol=1e-3, atol=1e-5 * float(image.max()))


def test_what_is_missing_is_said(package, monkeypatch):
    info, reconstructor, folder = package
    monkeypatch.delenv("RAW2INSIGHTS_CHECKPOINT")
    with pytest.raises(RuntimeError, match="set RAW2INSIGHTS_CHECKPOINT"):
        reconstructor.make(info, "cpu")
    torch.save({"net_state_dict": {"net.weight": torch.zeros(3)}}, folder / "other.pt")
    monkeypatch.setenv("RAW2INSIGHTS_CHECKPOINT", str(folder / "other.pt"))
    with pytest.raises(RuntimeError, match=r"net\.bias"):
        reconstructor.make(info, "cpu")
