"""Versions of a model side by side: which one runs, going back, trying out, and what the disk holds meanwhile."""

import json
import multiprocessing
from pathlib import Path

import pytest
from click.testing import CliRunner
from model_files import state_file, weights_of

from recond_models import loading, registry
from recond_models.model import UnknownModelError
from recond_models.store import folders
from recond_models.store.add import AddRequest, add_model
from recond_models.store.catalogue import stored_models
from recond_models.store.commands import add as add_command
from recond_models.store.commands import remove as remove_command
from recond_models.store.errors import NameTakenError, VersionError
from recond_models.store.lineage import Lineage
from recond_models.store.manifest import Manifest
from recond_models.store.place import promoted_version, put_model, remove_model, versions_in
from recond_models.store.version_commands import canary_command, promote_command, rollback_command
from recond_models.store.versions import (
    Promotion,
    VersionState,
    promote,
    read_state,
    roll_back,
    start_canary,
    state_path,
)


def add(tmp_path: Path, version: str, seed: int = 0, name: str = "mine", **options) -> Manifest:
    path = state_file(tmp_path, weights_of(seed=seed))
    return add_model(AddRequest(path, name=name, version=version, **options)).packaged.manifest


def run(command, *arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_a_second_version_is_kept_beside_the_first(tmp_path, models):
    first, second = add(tmp_path, "1"), add(tmp_path, "2", seed=1)
    assert sorted(path.name for path in models.iterdir() if not path.name.startswith(".")) == ["mine", "mine@2"]
    assert registry.find("mine").version == "1"
    assert registry.find("mine@2").weights_sha256 == registry.find("mine", "2").weights_sha256 == second.weights_sha256
    assert [(info.version, info.promoted) for info in registry.versions("mine")] == [("1", True), ("2", False)]
    assert [info.version for info in registry.available() if info.name == "mine"] == ["1"]
    assert loading.load("mine@2").info.weights_sha256 == second.weights_sha256
    assert loading.load("mine").info.weights_sha256 == first.weights_sha256
    with pytest.raises(NameTakenError, match="a model mine 2 already"):
        add(tmp_path, "2", seed=2)
    with pytest.raises(UnknownModelError, match="in version '3'"):
        registry.find("mine@3")


def test_promote_and_roll_back(tmp_path, models):
    for number in (1, 2, 3):
        add(tmp_path, str(number), seed=number)
    for version in ("2", "3"):
        assert run(promote_command, "mine", version).exit_code == 0
        assert registry.find("mine").version == version
    result = run(rollback_command, "mine", "--json")
    assert json.loads(result.stdout) == {"name": "mine", "promoted": "2", "canary": None}
    assert registry.find("mine").version == "2"
    assert run(rollback_command, "mine").exit_code == 0
    assert registry.find("mine").version == "1"
    refused = run(rollback_command, "mine")
    assert (refused.exit_code, "MODEL_VERSION" in refused.stderr) == (3, True)
    actions = [(entry.action, entry.version) for entry in read_state(models, "mine").promotions]
    assert actions == [("added", "1"), ("promoted", "2"), ("promoted", "3"), ("rolled-back", "2"), ("rolled-back", "1")]
    assert run(promote_command, "mine", "3").exit_code == 0
    assert registry.find("mine").version == "3"
    assert read_state(models, "mine").earlier() == ["1"]  # what was rolled back from is not gone back to


@pytest.mark.parametrize(
    ("steps", "earlier"),
    [
        ([], []),
        (["+1", "+2"], ["1"]),
        (["+1", "+2", "+1"], ["2", "1"]),
        (["+1", "+2", "-1", "+3"], ["1"]),
        (["+1", "+2", "+3", "-2"], ["1"]),
    ],
)
def test_what_rolling_back_goes_to(steps, earlier):
    promotions = [Promotion(step[1:], "", "promoted" if step[0] == "+" else "rolled-back") for step in steps]
    assert VersionState(tuple(promotions)).earlier() == earlier


def test_refusals(tmp_path, models):
    add(tmp_path, "1")
    for arguments in (("mine", "7"), ("mine", "1"), ("rss", "1"), ("../up", "1"), ("mine", "../1")):
        result = run(promote_command, *arguments)
        assert result.exit_code == 3, arguments
    for arguments in (("mine",), ("mine", "1"), ("mine", "--share", "0.1"), ("mine", "1", "--share", "0.1", "--stop")):
        assert run(canary_command, *arguments).exit_code == 2, arguments
    add(tmp_path, "2", seed=1)
    for arguments in (
        ("mine", "2", "--share", "0"),
        ("mine", "2", "--share", "1.5"),
        ("mine", "1", "--share", "0.5"),
        ("mine", "--stop"),
    ):
        assert run(canary_command, *arguments).exit_code == 3, arguments
    assert registry.find_canary("mine") is None


def test_force_replaces_one_version_and_has_it_run(tmp_path, models):
    add(tmp_path, "1")
    kept = add(tmp_path, "2", seed=1)
    replaced = add(tmp_path, "1", seed=2, replace=True)
    assert registry.find("mine").weights_sha256 == replaced.weights_sha256
    assert registry.find("mine@2").weights_sha256 == kept.weights_sha256
    fresh = add(tmp_path, "2", seed=3, replace=True)
    assert (registry.find("mine").version, registry.find("mine").weights_sha256) == ("2", fresh.weights_sha256)
    assert sorted(versions_in(models, "mine")) == ["1", "2"]
    assert not [path for path in models.iterdir() if path.name.startswith((".new", ".old"))]


def test_remove_versions(tmp_path, models):
    for number in (1, 2, 3):
        add(tmp_path, str(number), seed=number)
    promote(models, "mine", "3", ["1", "2", "3"], "1")
    start_canary(models, "mine", ("2", 0.5), ["1", "2", "3"], "3")
    refused = run(remove_command, "mine@3")
    assert (refused.exit_code, "promote another one first" in refused.stderr) == (3, True)
    assert run(remove_command, "mine@2").exit_code == 0
    assert read_state(models, "mine").canary is None
    assert run(remove_command, "mine@1").exit_code == 0
    assert registry.find("mine").version == "3"
    with pytest.raises(VersionError, match="ran before"):
        roll_back(models, "mine", ["3"])
    assert run(remove_command, "mine@9").exit_code == 3
    assert run(remove_command, "mine").exit_code == 0
    assert not state_path(models, "mine").exists()
    with pytest.raises(FileNotFoundError):
        remove_model(models, "mine")


def test_a_canary_has_a_share_until_it_is_promoted_or_stopped(tmp_path, models):
    add(tmp_path, "1")
    add(tmp_path, "2", seed=1)
    assert registry.find_canary("mine") is None
    assert run(canary_command, "mine", "2", "--share", "0.25").exit_code == 0
    found = registry.find_canary("mine")
    assert (found.version, found.canary_share, found.promoted) == ("2", 0.25, False)
    assert registry.find("mine").version == "1"
    assert run(canary_command, "mine", "--stop").exit_code == 0
    assert registry.find_canary("mine") is None
    run(canary_command, "mine", "2", "--share", "1")
    run(promote_command, "mine", "2")
    assert registry.find_canary("mine") is None
    assert registry.find("mine").version == "2"


def test_a_damaged_state_leaves_the_first_version(tmp_path, models, caplog):
    add(tmp_path, "1")
    add(tmp_path, "2", seed=1)
    promote(models, "mine", "2", ["1", "2"], "1")
    state_path(models, "mine").write_text("{")
    assert registry.find("mine").version == "1"
    assert "which version of mine is promoted is not known" in caplog.text
    refused = run(promote_command, "mine", "2")
    assert (refused.exit_code, "remove it" in refused.stderr) == (3, True)


def test_lists_are_read_again_only_when_something_changes(tmp_path, models):
    add(tmp_path, "1")
    add(tmp_path, "2", seed=1)
    before = stored_models()
    assert stored_models() is before
    promote(models, "mine", "2", ["1", "2"], "1")
    assert stored_models() is not before


def test_lineage(tmp_path, models):
    told = {
        "parent": "mine@1",
        "hyperparameters": {"steps": 1000, "rates": [0.1, 0.01]},
        "metrics": {"ssim": 0.9},
        "data": [{"name": "heads", "licence": "CC0"}],
    }
    (tmp_path / "lineage.json").write_text(json.dumps(told))
    path = state_file(tmp_path, weights_of())
    result = run(
        add_command, path, "--as", "mine", "--lineage", tmp_path / "lineage.json", "--parent", "other@2", "--json"
    )
    assert result.exit_code == 0, result.stderr
    lineage = Manifest.read(models / "mine").lineage
    assert lineage == Lineage.from_json({**told, "parent": "other@2"})
    copy = add_model(AddRequest(models / "mine", name="copy"))
    assert copy.packaged.manifest.lineage == lineage
    for wrong in ('{"metrics": {"ssim": "good"}}', '{"unknown": 1}', "[]", '{"data": {}}', "{"):
        (tmp_path / "lineage.json").write_text(wrong)
        result = run(add_command, path, "--as", "wrong", "--lineage", tmp_path / "lineage.json")
        assert (result.exit_code, "lineage" in result.stderr) == (3, True), wrong


def test_manifests_without_lineage_are_read(tmp_path, models):
    """Those that were written before there was one, and those that ship."""
    add(tmp_path, "1")
    assert "lineage" not in json.loads((models / "mine" / "manifest.json").read_text())
    assert Manifest.read(models / "mine").lineage == Lineage()
    contract = json.loads((models / "mine" / "manifest.json").read_text())
    del contract["contract"]["required"]
    (models / "mine" / "manifest.json").write_text(json.dumps(contract))
    assert Manifest.read(models / "mine").contract.required == ()
    for folder in (Path(registry.__file__).parent / "weights").iterdir():
        if folder.is_dir():
            assert Manifest.read(folder).name == folder.name


def _put(place: str, number: int) -> None:
    source = Path(place) / "mine"
    files = {file.name: file.read_bytes() for file in source.iterdir()}
    manifest = json.loads(files["manifest.json"]) | {"version": str(number)}
    files["manifest.json"] = json.dumps(manifest).encode()
    put_model(Path(place), "mine", files, replace=False, version=str(number))
    known = list(versions_in(Path(place), "mine"))
    promote(Path(place), "mine", str(number), known, promoted_version(Path(place), "mine"))


def test_writers_do_not_get_in_each_others_way(tmp_path, models):
    add(tmp_path, "1")
    numbers = list(range(2, 10))
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.starmap(_put, [(str(models), number) for number in numbers])
    assert sorted(versions_in(models, "mine"), key=int) == [str(number) for number in range(1, 10)]
    state = read_state(models, "mine")
    assert sorted(int(entry.version) for entry in state.promotions) == list(range(1, 10))
    assert registry.find("mine").version == state.promotions[-1].version
    assert folders.models_folder() == models


def test_a_promotion_that_another_one_has_made_meanwhile_is_not_written_again(tmp_path, models):
    add(tmp_path, "1")
    add(tmp_path, "2", seed=1)
    promote(models, "mine", "2", ["1", "2"], "1")
    with pytest.raises(VersionError, match="runs already"):
        promote(models, "mine", "2", ["1", "2"], "1")  # looked up before the first had ended
    assert [promotion.version for promotion in read_state(models, "mine").promotions] == ["1", "2"]
