"""`recond evaluate`: volumes scored as fastMRI does, means over volumes, and nothing computed twice."""

from __future__ import annotations

import dataclasses
import json
import statistics
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from recond_testing import Service, rss_of

from recond_client.cli import main
from recond_client.errors import InputError
from recond_client.evaluation.scores import Score, ScoreFile
from recond_client.evaluation.summary import summarise
from recond_client.evaluation.volumes import find_volumes
from recond_models import masks, metrics
from recond_models.object_metrics import inside_object
from recond_models.simulate import write_fastmri
from recond_models.simulate.scan import ScanSettings, simulate

ACQUISITIONS = ("AXT2", "AXFLAIR", "AXT2")


def write(path: Path, **settings: object) -> None:
    base = {"phantom": "shepp-logan", "coils": 3, "slices": 2, "rows": 64, "columns": 72, "noise": 0.01}
    write_fastmri.write(simulate(ScanSettings(**base | settings)), path)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three fully sampled files, and others that are none."""
    folder = tmp_path_factory.mktemp("val")
    for number, acquisition in enumerate(ACQUISITIONS):
        path = folder / f"file{number}.h5"
        write(path, acceleration=1, seed=number, slices=number + 1)
        with h5py.File(path, "a") as file:
            file.attrs["acquisition"] = acquisition
    with h5py.File(folder / "reconstruction.h5", "w") as file:
        file["reconstruction"] = np.ones((2, 8, 8), np.float32)
    with h5py.File(folder / "test.h5", "w") as file:
        file["kspace"] = np.ones((1, 2, 16, 16), np.complex64)
    (folder / "broken.h5").write_bytes(b"no HDF5")
    (folder / "notes.txt").write_text("hello")
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def evaluate(service: Service, *arguments: object):
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments), "--server", service.address])


def expected(path: Path, kind: masks.Kind, acceleration: float, fraction: float) -> dict[str, float]:
    """Figures of the zero-filled images, straight from the definitions."""
    with h5py.File(path) as file:
        kspace, truth = file["kspace"][()], file["reconstruction_rss"][()]
    lines = masks.mask_for(kind, kspace.shape[-1], acceleration, fraction, path.name)
    image = rss_of(np.where(lines, kspace, 0))
    start = (image.shape[1] - truth.shape[1]) // 2
    image = image[:, start : start + truth.shape[1]]
    within = inside_object(truth, image)
    inside = {"ssim_object": within.ssim, "psnr_object": within.psnr, "nmse_object": within.nmse}
    return {name: getattr(metrics, name)(truth, image) for name in ("ssim", "psnr", "nmse")} | inside


@pytest.mark.parametrize("kind", ["random", "equispaced", "equispaced_fraction"])
def test_figures_are_those_of_the_definitions(service: Service, folder: Path, kind: masks.Kind) -> None:
    result = evaluate(
        service, folder, "--model", "rss", "--mask", kind, "--acceleration", 4, "--center-fraction", 0.1, "--json"
    )
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    wanted = [expected(folder / f"file{number}.h5", kind, 4, 0.1) for number in range(3)]
    for volume, figures in zip(found["volumes"], wanted, strict=True):
        for name, value in figures.items():
            assert volume[name] == pytest.approx(value, rel=1e-5)
    group = found["groups"][0]
    assert (group["model"], group["acquisition"], group["volumes"], group["slices"]) == ("rss", "all", 3, 6)
    assert group["sampling"] == f"{kind.replace('_', '-')}:4:0.1"
    for name in wanted[0]:
        values = [figures[name] for figures in wanted]
        assert group[name]["mean"] == pytest.approx(statistics.fmean(values), rel=1e-5)
        assert group[name]["two_std"] == pytest.approx(2 * np.std(values, ddof=1), rel=1e-3)
    assert [(group["acquisition"], group["volumes"]) for group in found["groups"][1:]] == [("AXFLAIR", 1), ("AXT2", 2)]
    assert found["groups"][1]["ssim"]["two_std"] is None
    assert [text.split()[0] for text in found["left_out"]] == ["broken.h5", "test.h5"]


def test_several_models_and_accelerations_in_one_table(service: Service, folder: Path) -> None:
    options = ("--mask", "equispaced", "--acceleration", 2, "--acceleration", 3)
    result = evaluate(service, folder, "--model", "rss", "--model", "cg-sense", *options)
    assert result.exit_code == 0, result.stderr
    assert "equispaced:2:0.16" in result.stdout
    assert "equispaced:3:0.106667" in result.stdout
    assert result.stdout.count("cg-sense") == 6
    assert "left out: test.h5 has no true images" in result.stdout


def test_what_was_scored_is_not_computed_again(service: Service, folder: Path, tmp_path: Path) -> None:
    options = (folder, "--model", "rss", "--mask", "random", "--json")
    first = evaluate(service, *options, "--first", 2)
    scores = tmp_path / f"{folder.name}-scores.jsonl"
    lines = scores.read_text().splitlines()
    assert len(lines) == 2
    assert first.exit_code == 0
    # A figure that no computation gives shows that it came from the file.
    scores.write_text(lines[0].replace(json.dumps(json.loads(lines[0])["ssim"]), "0.125") + "\n" + lines[1][:40])
    second = json.loads(evaluate(service, *options).stdout)
    assert second["volumes"][0]["ssim"] == 0.125
    assert second["volumes"][1] == json.loads(first.stdout)["volumes"][1] | {"seconds": second["volumes"][1]["seconds"]}
    assert len(second["volumes"]) == 3
    third = json.loads(evaluate(service, *options).stdout)
    assert third["volumes"] == second["volumes"]
    other = json.loads(evaluate(service, *options, "--acceleration", 5).stdout)
    assert not {volume["key"] for volume in other["volumes"]} & {volume["key"] for volume in third["volumes"]}
    assert ScoreFile(scores).get(other["volumes"][0]["key"]) is not None


def test_changed_files_are_scored_again(service: Service, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write(data / "file.h5", acceleration=1)
    options = (data, "--model", "rss", "--mask", "random", "--json")
    before = json.loads(evaluate(service, *options).stdout)["volumes"][0]
    write(data / "file.h5", acceleration=1, seed=9)
    after = json.loads(evaluate(service, *options).stdout)["volumes"][0]
    assert before["key"] != after["key"]
    assert before["ssim"] != after["ssim"]


def test_masks_of_the_files_and_filters(service: Service, tmp_path: Path) -> None:
    data = tmp_path / "test"
    data.mkdir()
    for acceleration in (4, 8):
        write(data / f"file{acceleration}.h5", acceleration=acceleration, calibration_lines=8)
    write(data / "full.h5", acceleration=1)
    options = (data, "--model", "rss", "--json")
    found = json.loads(evaluate(service, *options).stdout)
    assert [volume["file"] for volume in found["volumes"]] == ["file4.h5", "file8.h5"]
    assert {volume["sampling"] for volume in found["volumes"]} == {"own mask"}
    assert found["left_out"] == ["full.h5 has no mask: choose one with --mask"]
    found = json.loads(evaluate(service, *options, "--only-acceleration", 8).stdout)
    assert [volume["file"] for volume in found["volumes"]] == ["file8.h5"]
    none = evaluate(service, *options, "--acquisition", "AXT1POST")
    assert none.exit_code == 3
    assert "there is no fastMRI file to score" in none.stderr


def test_images_are_saved_and_score_the_same(service: Service, folder: Path, tmp_path: Path) -> None:
    result = evaluate(service, folder, "--model", "rss", "--mask", "random", "--save", tmp_path / "images", "--json")
    assert result.exit_code == 0, result.stderr
    for volume in json.loads(result.stdout)["volumes"]:
        with h5py.File(tmp_path / "images" / "rss" / "random-4-0.08" / volume["file"]) as file:
            image = file["reconstruction"][()]
        with h5py.File(folder / volume["file"]) as file:
            truth = file["reconstruction_rss"][()]
        assert metrics.ssim(truth, image) == pytest.approx(volume["ssim"], rel=1e-6)
        assert metrics.nmse(truth, image) == pytest.approx(volume["nmse"], rel=1e-6)


def test_volumes_that_cannot_be_scored_are_named(service: Service, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write(data / "a.h5", acceleration=1)
    write(data / "b.h5", acceleration=4)  # not fully sampled: cannot be undersampled
    result = evaluate(service, data, "--model", "rss", "--mask", "random", "--json")
    assert result.exit_code == 3
    found = json.loads(result.stdout)
    assert [volume["file"] for volume in found["volumes"]] == ["a.h5"]
    assert [failure["file"] for failure in found["failed"]] == ["b.h5"]
    assert "not fully sampled" in found["failed"][0]["message"]
    shown = evaluate(service, data, "--model", "rss", "--mask", "random")
    assert shown.exit_code == 3
    assert "b.h5" in shown.stdout


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--acceleration", "4"], 2),
        (["--mask", "random", "--acceleration", "4", "--acceleration", "8", "--center-fraction", "0.08"], 2),
        (["--mask", "random", "--acceleration", "1"], 2),
        (["--mask", "spiral"], 2),
        (["--mask", "random", "--model", "no-such-model"], 3),
    ],
)
def test_usage(service: Service, folder: Path, options: list[str], code: int) -> None:
    assert evaluate(service, folder, *options).exit_code == code


def test_no_folder(service: Service, tmp_path: Path) -> None:
    result = evaluate(service, tmp_path / "none")
    assert result.exit_code == 3
    assert "is not a folder" in result.stderr


# --- the parts ---

SCORE = Score("k", "a.h5", "AXT2", "rss", "1", "", "rss", "own mask", 3, 0.9, 30.0, 0.01, 1.5, ("zero-coil",))


def test_scores_survive_a_torn_line_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    ScoreFile(path).add(SCORE)
    whole = path.read_text()
    assert ScoreFile(path).get("k") == SCORE
    path.write_text(whole + whole[:30])
    scores = ScoreFile(path)
    assert scores.get("k") == SCORE
    scores.add(Score(**{name: getattr(SCORE, name) for name in SCORE.__slots__} | {"key": "second"}))
    assert path.read_text().count("\n") == 2
    assert ScoreFile(path).get("second") is not None
    path.write_text(f"{whole}{whole[:30]}\n{whole}")
    with pytest.raises(InputError, match=r"line 2 of .* is no score"):
        ScoreFile(path)
    path.write_text(whole.replace('"format": 1', '"format": 2'))
    with pytest.raises(InputError, match=r"line 1 of .*another version.*--results"):
        ScoreFile(path)
    path.write_bytes(b"\xff\xff\n")
    with pytest.raises(InputError, match=r"line 1 of .* is no score"):
        ScoreFile(path)
    with pytest.raises(InputError, match="cannot be read"):
        ScoreFile(tmp_path)
    with pytest.raises(InputError, match="cannot be written"):
        ScoreFile(tmp_path / "none" / "scores.jsonl").add(SCORE)


def test_scores_from_before_there_were_figures_in_the_object_are_read(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    old = {"format": 1} | {name: getattr(SCORE, name) for name in SCORE.__slots__ if not name.endswith("_object")}
    path.write_text(json.dumps(old) + "\n")
    assert ScoreFile(path).get("k") == SCORE
    new = dataclasses.replace(SCORE, key="second", ssim_object=0.95, psnr_object=31.0, nmse_object=0.008)
    scores = ScoreFile(path)
    scores.add(new)
    assert ScoreFile(path).get("second") == new
    [group] = summarise([SCORE, dataclasses.replace(new, acquisition="AXT2")])
    assert group.ssim_object is not None
    assert (group.ssim_object.mean, group.ssim_object.volumes) == (0.95, 1)
    path.write_text(json.dumps({name: value for name, value in old.items() if name != "ssim"}) + "\n")
    with pytest.raises(InputError, match="another version"):
        ScoreFile(path)


def test_figures_that_do_not_exist_are_left_out_of_the_mean() -> None:
    fields = {name: getattr(SCORE, name) for name in SCORE.__slots__}
    scores = [SCORE, Score(**fields | {"psnr": None, "ssim": 0.7}), Score(**fields | {"psnr": 34.0, "acquisition": ""})]
    everything, unnamed, axial = summarise(scores)
    assert (everything.acquisition, unnamed.acquisition, axial.acquisition) == ("all", "none", "AXT2")
    assert everything.psnr is not None
    assert (everything.psnr.mean, everything.psnr.volumes) == (32.0, 2)
    assert everything.ssim is not None
    assert everything.ssim.mean == pytest.approx(2.5 / 3)
    assert everything.seconds_per_slice == pytest.approx(0.5)


def test_single_coil_files_have_their_own_truth(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "sc.h5", "w") as file:
        file["kspace"] = np.ones((2, 16, 12), np.complex64)
        file["reconstruction_rss"] = np.ones((2, 8, 8), np.float32)
        file["reconstruction_esc"] = np.full((2, 8, 8), 2, np.float32)
        file.attrs["acquisition"] = np.bytes_("CORPD_FBK")
    volumes, left_out = find_volumes(tmp_path, acquisitions=["CORPD_FBK"])
    assert not left_out
    assert (volumes[0].reference, volumes[0].slices, volumes[0].masked) == ("reconstruction_esc", 2, False)
    assert volumes[0].truth()[0, 0, 0] == 2
