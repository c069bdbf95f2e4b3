"""Plug-ins of other packages: listed, run, and left out where something is wrong with them, which harms nobody else."""

import logging
import sys

import pytest
import torch
from plugin_packages import install_example, write_package

from recond_models import loading, plugins, registry, selection
from recond_models.batch import PackedBatch
from recond_models.contract import Contract
from recond_models.finishing import magnitudes
from recond_models.model import UnsuitableModelError
from recond_models.sampling import Sampling, centre_block
from recond_models.simulate.scan import ScanSettings, simulate
from recond_models.store import golden
from recond_models.store.errors import PluginError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where packages are installed for the test."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(registry, "_read", registry._Read())
    plugins.installed.cache_clear()
    yield site
    plugins.installed.cache_clear()
    for name in [name for name, module in sys.modules.items() if str(site) in str(getattr(module, "__file__", ""))]:
        del sys.modules[name]
    registry._read = registry._Read()


def names() -> list[str]:
    return [info.name for info in registry.available() if info.origin == "plug-in"]


def phantom(acceleration: float, **changes):
    """Undersampled frames of a simulated phantom, and the image of all its samples."""
    settings = {"phantom": "shepp-logan", "slices": 1, "rows": 96, "columns": 88, "coils": 8, "calibration_lines": 24}
    scans = [
        simulate(ScanSettings(**settings, **changes, oversampling=1, acceleration=each)) for each in (acceleration, 1)
    ]
    kspace, whole = (torch.from_numpy(scan.kspace.reshape(8, 96, 88)).to(torch.complex64) for scan in scans)
    mask = torch.from_numpy(scans[0].lines).expand(96, 88).clone()
    kspace = torch.where(mask, kspace, torch.zeros_like(kspace))
    block = torch.from_numpy(centre_block(kspace.numpy(), (96, 24)).copy())
    return PackedBatch.pack([kspace], [mask], [block]), PackedBatch.pack([whole], [torch.ones_like(mask)])


def error(image: torch.Tensor, reference: torch.Tensor) -> float:
    return float((image - reference).square().sum() / reference.square().sum())


def test_the_example_package_is_a_model_like_others(folder, tmp_path):
    install_example(folder, tmp_path)
    info = registry.find("grappa")
    assert (info.origin, info.package, info.version, info.kind) == ("plug-in", "recond-grappa 0.1", "1", "classical")
    model, rss = loading.load("grappa"), loading.load("rss")
    for acceleration, most in ((2, 0.002), (3, 0.01)):
        batch, whole = phantom(acceleration)
        reference = magnitudes(rss.reconstruct(whole))
        made = magnitudes(model.reconstruct(batch))
        assert error(made, reference) < most
        assert error(made, reference) < 0.1 * error(magnitudes(rss.reconstruct(batch)), reference)
        scaled = PackedBatch(batch.kspace * 1e-6, batch.coil_offsets, batch.masks, batch.calibrations)
        assert error(magnitudes(model.reconstruct(scaled)) * 1e6, made) < 1e-8
    whole_image = magnitudes(model.reconstruct(PackedBatch(whole.kspace, whole.coil_offsets, whole.masks, (None,))))
    torch.testing.assert_close(whole_image, reference, rtol=1e-4, atol=1e-6 * float(reference.max()))
    batch.masks[0, :, 30:40] = torch.tensor([True, False] * 5)
    with pytest.raises(UnsuitableModelError, match=r"equal distances|calibration lines"):
        model.reconstruct(batch)


def test_auto_never_picks_a_plugin(folder, tmp_path):
    install_example(folder, tmp_path)
    for pattern, spacing in (("uniform", 2), ("uniform", 4), ("irregular", 0), ("full", 1)):
        sampling = Sampling(8, 96, 88, 1.0 if pattern == "full" else 3.0, pattern, spacing, (24, 24))
        assert selection.choose(sampling, registry.available()).info.origin != "plug-in"


@pytest.mark.parametrize(
    ("listing", "reason"),
    [
        ("import missing_dependency", "missing_dependency"),
        ("raise SystemExit(1)", "SystemExit"),
        ("raise KeyError('odd')", "odd"),
        ("PLUGIN = 3", "expected recond_models.plugins.Plugin"),
        ("PLUGIN = plugin('Bad Name', 'bad.work:Model')", "cannot be the name"),
        ("PLUGIN = plugin('bad', 'bad.elsewhere:Model')", "there is no 'bad.elsewhere:Model'"),
        ("PLUGIN = plugin('bad', 'bad.work')", "expected 'module:attribute'"),
        ("PLUGIN = plugin('rss', 'bad.work:Model')", "its name is taken"),
        ("OTHER = 1", "PLUGIN"),
    ],
)
def test_what_is_wrong_is_left_out_with_a_warning(folder, caplog, listing, reason):
    write_package(folder, "bad", listing)
    write_package(folder, "sound", "PLUGIN = [plugin('one', 'sound.work:Model'), plugin('two', 'sound.work:Model')]")
    with caplog.at_level(logging.WARNING):
        assert names() == ["one", "two"]
    (warning,) = [record.getMessage() for record in caplog.records]
    assert reason in warning
    assert "bad 1.0 is left out" in warning
    assert registry.find("rss").origin == "built-in"


def test_two_packages_with_one_name(folder, caplog):
    for name in ("first", "second"):
        write_package(folder, name, f"PLUGIN = plugin('same', '{name}.work:Model')")
    assert names() == ["same"]
    assert registry.find("same").package == "first 1.0"
    assert "first 1.0 has a model same as well" in caplog.text


MODEL = """
import torch
from recond_models.batch import Reconstruction
from recond_models.model import UnsuitableModelError

class Model:
    def __init__(self, info, device):
        self.info = info

    def reconstruct(self, batch):
        image = batch.kspace.abs()[: len(batch)]
        {body}
"""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise AttributeError('none')", "bad 1.0: AttributeError: none"),
        ("raise SystemExit(3)", "SystemExit"),
        ("return image", "returned a Tensor, not a Reconstruction"),
        ("return Reconstruction(image[:, 1:])", "returned images of"),
        ("return Reconstruction(image.double())", "neither complex64 nor float32"),
        ("return Reconstruction(image, residuals=torch.zeros(7))", "returned residuals"),
        ("return Reconstruction(image, notes=(('a',),) * len(batch))", "returned notes"),
    ],
)
def test_what_a_plugin_does_wrong_is_its_own_failure(folder, body, message):
    write_package(folder, "bad", "PLUGIN = plugin('bad', 'bad.work:Model')", MODEL.format(body=body))
    model = loading.load("bad")
    with pytest.raises(RuntimeError, match=message):
        model.reconstruct(golden.make_input(Contract()))


def test_what_a_plugin_refuses_is_refused(folder):
    body = "raise UnsuitableModelError('too dark')"
    write_package(folder, "fine", "PLUGIN = plugin('fine', 'fine.work:Model')", MODEL.format(body=body))
    with pytest.raises(UnsuitableModelError, match="too dark"):
        loading.load("fine").reconstruct(golden.make_input(Contract()))


@pytest.mark.parametrize(
    "implementation", ["import nothing_there", "class Model:\n    def __init__(self):\n        pass\n", "x = 1"]
)
def test_plugins_that_cannot_be_loaded(folder, implementation):
    write_package(folder, "bad", "PLUGIN = plugin('bad', 'bad.work:Model')", implementation)
    with pytest.raises(PluginError, match=r"bad of bad 1\.0 cannot be loaded"):
        loading.load("bad")
