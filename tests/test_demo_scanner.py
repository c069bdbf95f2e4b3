"""The demonstration of the gateway runs, on a scan that is small and short enough for a test."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from recond_testing import Service

DEMO = Path(__file__).parents[1] / "examples" / "demo_scanner.py"


def test_demo_scanner(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("demo_scanner", DEMO)
    assert spec is not None
    assert spec.loader is not None
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    small = dataclasses.replace(demo.SETTINGS, phantom="shepp-logan", slices=3, coils=4, rows=64, columns=64)
    monkeypatch.setattr(demo, "SETTINGS", small)
    monkeypatch.setattr(demo, "MODEL", "rss")
    monkeypatch.setattr(demo, "LINE_MS", 5.0)
    demo.main(tmp_path / "out", service.address)
    text = capsys.readouterr().out
    arrived = [int(number) for number in re.findall(r"slice (\d) is here", text)]
    assert arrived == [1, 2, 3]
    assert len(re.findall(r"^ +\d +\d+\.\d\d s +\d+\.\d\d s +\d+ ms *$", text, re.MULTILINE)) == 3
    assert "of 3 images were there before the scan ended" in text
    with Image.open(tmp_path / "out" / "demo-scanner.png") as picture:
        levels = np.asarray(picture.convert("L"))
    tiles = [
        levels[demo.GAP :, demo.GAP + place * (demo.TILE + demo.GAP) :][: demo.TILE, : demo.TILE] for place in range(3)
    ]
    assert all(tile.max() > 120 for tile in tiles)
    assert all(tile.std() > 15 for tile in tiles)
