"""The list of models, the choice of `auto`, and that looking costs no torch."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from recond_models import loading, registry, selection
from recond_models.evidence import calibration
from recond_models.model import UnknownModelError, UnsuitableModelError
from recond_models.sampling import Sampling
from recond_models.store import folders

SAMPLING = Sampling(8, 256, 256, 3.1, "uniform", 4, (256, 24))


@pytest.fixture(autouse=True)
def classical_only(tmp_path, monkeypatch):
    """The networks that come with recond have tests of their own."""
    monkeypatch.setattr(folders, "SHIPPED", tmp_path)


def vary(**changes):
    return dataclasses.replace(SAMPLING, **changes)


@pytest.mark.parametrize("module", ["registry", "sampling", "metrics", "masks", "simulate.scan", "simulate.commands"])
def test_looking_at_models_loads_no_torch(module):
    code = (
        f"import sys, recond_models, recond_models.{module} as m; "
        "getattr(m, 'available', tuple)(); "
        "print([name for name in ('torch', 'sigpy', 'numba', 'nilearn') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_find():
    assert [info.name for info in registry.available()] == ["rss", "cg-sense", "l1-wavelet", "tv"]
    for info in registry.available():
        assert registry.find(info.name) is info
        assert registry.find(info.name, info.version) is info
        assert info.description
        assert info.reference
        assert info.weights_sha256 == ""


def test_unknown_names_and_versions():
    with pytest.raises(UnknownModelError, match=r"no model 'varnet'; there are rss \(1\), cg-sense"):
        registry.find("varnet")
    with pytest.raises(UnknownModelError, match="version '99'"):
        registry.find("rss", "99")
    with pytest.raises(LookupError):
        loading.load("varnet")


@pytest.mark.parametrize("name", ["cg-sense", "l1-wavelet"])
@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"coils": 1}, "a single coil"),
        ({"calibration": (0, 0)}, "no calibration region"),
        ({"calibration": (256, 7)}, "256 x 7 is smaller than 8 x 8"),
    ],
)
def test_unsuitable_models_say_what_is_missing_and_what_to_do(name, changes, missing):
    with pytest.raises(UnsuitableModelError, match=f"{name} needs .*{missing}.* rss"):
        selection.check(registry.find(name), vary(**changes))


def test_suitable_models():
    for info in registry.available():
        selection.check(info, SAMPLING)
    selection.check(registry.find("rss"), vary(coils=1, calibration=(0, 0)))


@pytest.mark.parametrize(
    ("sampling", "name", "reason"),
    [
        (vary(pattern="full", spacing=1, acceleration=1), "rss", "exact"),
        (vary(pattern="full", spacing=1, coils=1, calibration=(0, 0)), "rss", "exact"),
        (vary(pattern="full", spacing=1, acceleration=1, whitened=True), "cg-sense", "noise is white"),
        (vary(pattern="full", spacing=1, coils=1, calibration=(0, 0), whitened=True), "rss", "exact"),
        (vary(coils=1), "rss", "single coil"),
        (vary(calibration=(0, 0)), "rss", "no calibration"),
        (vary(calibration=(256, 4)), "rss", "256 x 4"),
        (vary(spacing=2, acceleration=1.8), "cg-sense", "8 coils"),
        (vary(spacing=2, acceleration=1.8, coils=2), "sparse", "1.8-fold uniform"),
        (SAMPLING, "sparse", "3.1-fold uniform"),
        (vary(pattern="irregular", spacing=0), "sparse", "irregular"),
        (vary(pattern="two-dimensional", spacing=0, acceleration=8), "sparse", "8.0-fold two-dimensional"),
    ],
)
def test_choice(sampling, name, reason):
    choice = selection.choose(sampling, registry.available())
    if name == "sparse":  # which one, measured and simulated scans say
        name = max(("l1-wavelet", "tv"), key=calibration().cell(sampling).ssim.get)
    assert choice.info.name == name
    assert reason in choice.reason
    assert "\n" not in choice.reason
    selection.check(choice.info, sampling)


def test_choice_of_a_described_mask():
    mask = np.zeros((64, 64), dtype=bool)
    mask[:, ::4] = True
    assert selection.choose(Sampling.of(mask, (0, 0), 8), registry.available()).info.name == "rss"


def test_load():
    for info in registry.available():
        assert loading.load(info.name).info is info
