"""The demonstration runs, on a scan that is small enough for a test."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import pytest
from PIL import Image

DEMO = Path(__file__).parents[1] / "examples" / "demo.py"


def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    if importlib.util.find_spec("nilearn") is None:
        pytest.skip("the head is not installed: pip install --no-deps nilearn")
    spec = importlib.util.spec_from_file_location("demo", DEMO)
    assert spec is not None
    assert spec.loader is not None
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    small = dataclasses.replace(demo.SETTINGS, rows=96, columns=96, calibration_lines=16)
    monkeypatch.setattr(demo, "SETTINGS", small)
    monkeypatch.setattr(demo, "HEAD", dataclasses.replace(small, slices=3, phantom="head"))
    demo.main(tmp_path / "out")
    text = capsys.readouterr().out
    for word in (
        "SSIM in the object",
        "SSIM over the picture",
        "PSNR in the object",
        "NMSE",
        "compute, s",
        "total, s",
        "demo.png",
    ):
        assert word in text
    picture = Image.open(tmp_path / "out" / "demo.png")
    assert picture.width > 4 * 300
    brightest = [max(band) for band in picture.convert("RGB").getextrema()]
    assert brightest[0] > 200
