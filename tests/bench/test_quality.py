"""`make quality`: the grid, the columns that are made again, and the page."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

QUALITY = Path(__file__).parents[2] / "bench" / "quality"
NAMES = ("compare", "methods", "report", "results", "scenes", "tables")


@pytest.fixture(scope="module")
def bench() -> dict[str, ModuleType]:
    """Return the modules of the bench, which is no package; nothing else sees them."""
    before = set(sys.modules)
    sys.path.insert(0, str(QUALITY))
    try:
        return {name: __import__(name) for name in NAMES}
    finally:
        sys.path.remove(str(QUALITY))
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(QUALITY)):
                del sys.modules[name]


def test_every_pattern_has_every_acceleration_number_of_coils_and_noise(bench: dict[str, ModuleType]) -> None:
    scenes = bench["scenes"]
    cells = scenes.cells()
    assert len(cells) == len({cell.key for cell in cells}) == 60
    for mask in scenes.MASKS:
        mine = [cell for cell in cells if cell.mask == mask]
        assert {cell.acceleration for cell in mine} == {2, 4, 6, 8, 10}
        for factor in (4, 8):
            assert {cell.coils for cell in mine if cell.acceleration == factor} == {4, 8, 16, 32}
            assert {cell.noise for cell in mine if cell.acceleration == factor} == {0.001, 0.005, 0.02}
    assert {scenes.tuning_cell(cell).coils for cell in cells} == {8}
    assert {scenes.tuning_cell(cell).noise == cell.noise for cell in cells} == {True}


@pytest.mark.parametrize("acceleration", [2, 4, 6, 8, 10])
def test_masks_are_as_dense_as_they_say(bench: dict[str, ModuleType], acceleration: int) -> None:
    for mask in bench["scenes"].MASKS:
        drawn = [bench["scenes"].draw_mask(mask, acceleration, (224, 192), f"{n}") for n in range(20)]
        assert 1 / np.mean(drawn) == pytest.approx(acceleration, rel=0.1)
        height, width = bench["scenes"].calibration_extent(drawn[0])
        assert min(height, width) >= 8
        assert drawn[0][:, 144:].any() == (mask != "partial")


def test_detail_is_wrong_where_its_mean_is_off(bench: dict[str, ModuleType]) -> None:
    truth = np.ones((64, 64), np.float32)
    inside = np.ones((64, 64), bool)
    checkered = truth + 0.3 * (-1.0) ** np.indices((64, 64)).sum(axis=0)
    assert bench["compare"].wrong_detail(truth, checkered, inside) == 0
    image = truth.copy()
    image[20:30, 20:30] = 0.7
    assert bench["compare"].wrong_detail(truth, image, inside) == pytest.approx(100 / 4096, rel=0.25)
    assert bench["compare"].wrong_detail(truth, 1.1 * truth, inside) == 0


def zero_filled(bench: dict[str, ModuleType], name: str, factor: float) -> object:
    """Return a method that scales the zero-filled image, and notes its calls."""
    from recond_models.training.fields import to_images

    def run(scene, _weight):
        calls.append(name)
        image = bench["scenes"].root_sum_of_squares(to_images(scene.kspace.copy()))
        return bench["methods"].Outcome((factor * image).astype(np.float32), 0.1, None)

    calls: list[str] = []
    method = bench["methods"].Method(name, "1", run, None, "classical")
    return method, calls


def test_only_what_changed_is_made_again(bench: dict[str, ModuleType], tmp_path: Path) -> None:
    scenes = bench["scenes"]
    image = np.random.default_rng(1).random(scenes.SHAPE).astype(np.float32)

    class Drawn(bench["compare"].Slices):
        """One slice of noise, with coils."""

        def __init__(self) -> None:
            self._images = [(image, ("axial", 0.0, "t1"))]
            self._with_coils = {}

    cells = [scenes.Cell("equispaced", 4, 2, 0.001), scenes.Cell("poisson", 4, 2, 0.001)]
    (first, first_calls), (second, second_calls) = zero_filled(bench, "a", 1.0), zero_filled(bench, "b", 0.9)
    path = tmp_path / "quality.json"
    bench["compare"].compare(bench["results"].Results(path), cells, [first, second], Drawn(), Drawn())
    made = len(first_calls), len(second_calls)
    entries = json.loads(path.read_text())["cells"]
    assert set(entries) == {cell.key for cell in cells}
    assert all(len(entry["a"]["ssim_object"]) == 1 for entry in entries.values())
    changed = dataclasses.replace(second, identity="2")
    bench["compare"].compare(bench["results"].Results(path), cells, [first, changed], Drawn(), Drawn())
    assert (len(first_calls), len(second_calls)) == (made[0], 2 * made[1])
    assert json.loads(path.read_text())["cells"][cells[0].key]["b"]["identity"] == "2"


def test_results_of_another_machine_fill_what_is_missing(bench: dict[str, ModuleType], tmp_path: Path) -> None:
    mine, other = (bench["results"].Results(tmp_path / f"{name}.json") for name in ("mine", "other"))
    mine.entry("cells", "one")["tv"] = {"identity": "1", "ssim": [0.5]}
    mine.save()
    other.entry("cells", "one")["tv"] = {"identity": "1", "ssim": [0.9], "psnr": [30.0]}
    other.entry("cells", "one")["rss"] = {"identity": "1", "ssim": [0.2]}
    other.entry("cells", "two")["tv"] = {"identity": "1", "ssim": [0.7]}
    other.entry("weights", "two")["tv 1"] = 0.3
    other.save()
    mine.merge(tmp_path / "other.json")
    kept = json.loads((tmp_path / "mine.json").read_text())
    assert kept["cells"]["one"]["tv"] == {"identity": "1", "ssim": [0.5]}
    assert kept["cells"]["one"]["rss"]["ssim"] == [0.2]
    assert kept["cells"]["two"]["tv"]["ssim"] == [0.7]
    assert kept["weights"] == {"two": {"tv 1": 0.3}}


def entry(ssim: float, psnr: float) -> dict[str, list[float]]:
    both = {"ssim": [ssim - 0.1], "psnr": [psnr - 1], "nmse": [0.1]}
    inside = {"ssim_object": [ssim], "psnr_object": [psnr], "nmse_object": [0.05]}
    return both | inside | {"wrong_detail": [0.02], "residual": [0.1], "seconds": [0.5]}


def test_differences_are_to_the_best_rival_of_each_cell(bench: dict[str, ModuleType]) -> None:
    tables = bench["tables"]
    groups = [
        {"tv": entry(0.9, 30), "l1-wavelet": entry(0.91, 29), "net": entry(0.93, 31)},
        {"tv": entry(0.8, 28), "l1-wavelet": entry(0.7, 27), "net": entry(0.79, 28.5)},
        {"tv": entry(0.8, 28)},
    ]
    assert tables.differences(groups, "net", tables.AS_SERVED, "ssim_object") == pytest.approx([0.02, -0.01])
    assert tables.differences(groups, "net", tables.AS_SERVED, "psnr_object") == pytest.approx([1, 0.5])
    row = tables.summary(groups[:2], ["net"])[-1]
    assert row == "| net | 2 | 0.860 / 29.8 | 0.760 / 28.8 | +0.005 / +0.75 | -0.010 / +0.50 | 1 of 2 | 2.0 |"
    shown = tables.twice([("cell", groups[0]), ("last", groups[2])], ["tv", "net"], "ssim", ".3f", max)
    assert shown[2:] == ["| cell | 0.900 (0.800) | **0.930** (0.830) |", "| last | **0.800** (0.700) | - |"]


def test_the_page_says_where_networks_lose_and_keeps_what_was_written_by_hand(
    bench: dict[str, ModuleType], tmp_path: Path
) -> None:
    results = bench["results"].Results(tmp_path / "quality.json")
    won, lost = bench["scenes"].Cell("random", 4, 8, 0.005), bench["scenes"].Cell("poisson", 8, 8, 0.005)
    results.data["cells"] = {
        won.key: {"tv": entry(0.9, 30), "unrolled-brain": entry(0.93, 31)},
        lost.key: {"tv": entry(0.9, 30), "unrolled-brain": entry(0.89, 29)},
    }
    page = tmp_path / "docs" / "quality.md"
    bench["report"].write(results, page)
    text = page.read_text()
    said = f"+0.010 SSIM and +0.00 dB beside the best classical as served, below it in 1 ({lost.key})."
    assert f"  * 2 simulated cells: {said}" in text
    assert (page.parent / "images" / "quality.png").is_file()
    page.write_text(text + "\n## By hand\n\nKept.\n")
    bench["report"].write(results, page)
    assert page.read_text() == text + "\n## By hand\n\nKept.\n"
