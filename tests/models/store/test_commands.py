"""`recond models add` and `remove` as people call them: what they print, and the exit codes of refusals."""

import hashlib
import json
import pickle
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
import torch
from click.testing import CliRunner
from model_files import UNET, state_file, weights_of

from recond_client.cli import main
from recond_models import registry


def recond(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_add_list_remove(tmp_path, models):
    path = state_file(tmp_path, name="knee_state_dict.pt")
    result = recond("models", "add", path, "--sha256", sha256(path))
    assert result.exit_code == 0, result.stderr
    assert "knee 1: varnet, 16552 weights" in result.stdout
    assert f"wrote {models / 'knee'}" in result.stdout
    assert "--model knee" in result.stdout
    assert registry.find("knee").contract.anatomy == ""
    result = recond("models", "remove", "knee")
    assert (result.exit_code, result.stdout) == (0, "removed knee\n")
    result = recond("models", "remove", "knee")
    assert result.exit_code == 3
    assert "no model knee was added" in result.stderr
    assert recond("models", "remove", "../models").exit_code == 3


def test_json_and_the_contract(tmp_path):
    path = state_file(
        tmp_path, {f"unet.{name}": tensor for name, tensor in weights_of(UNET).items()} | {"loss.w": torch.ones(1)}
    )
    result = recond(
        *("models", "add", path, "--as", "mine", "--version", "2.1", "--json", "--licence", "MIT"),
        *("--anatomy", "knee", "--contrast", "PD", "--acceleration", "4:8", "--coils", "15"),
        *("--pattern", "irregular", "--pattern", "uniform"),
    )
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["name"], found["version"], found["architecture"]) == ("mine", "2.1", UNET)
    assert (found["prefix"], found["left_out"], found["precision"]) == ("unet.", ["loss.w"], "float32")
    info = registry.find("mine", "2.1")
    assert info.weights_sha256 == found["weights_sha256"]
    assert info.licence == "MIT"
    contract = info.contract
    assert (contract.patterns, contract.acceleration, contract.coils) == (("irregular", "uniform"), (4, 8), (15, 15))
    assert (contract.anatomy, contract.contrast) == ("knee", "PD")


@pytest.mark.parametrize(
    ("case", "reason", "message"),
    [
        ("code", "MODEL_HAS_CODE", "would run code that the file names (builtins.print)"),
        ("keys", "MODEL_WRONG_KEYS", "1 missing (cascades.1.dc_weight)"),
        ("nan", "MODEL_NOT_FINITE", "1 of 1 weights of cascades.0.dc_weight are NaN or infinite"),
        ("hash", "MODEL_HASH", "expected 0000"),
        ("taken", "MODEL_NAME_TAKEN", "replace it with --force"),
        ("ours", "MODEL_NAME_TAKEN", "rss comes with recond"),
        ("name", "MODEL_NAME", "'../up' cannot be the name of a model"),
        ("folder", "MODEL_UNREADABLE", "is a folder"),
        ("missing", "MODEL_UNREADABLE", "does not exist"),
    ],
)
def test_refusals(tmp_path, models, case, reason, message):
    state = weights_of()
    options = ["--as", "mine"]
    path = tmp_path / "net.pt"
    if case == "keys":
        del state["cascades.1.dc_weight"]
    if case == "nan":
        state["cascades.0.dc_weight"].fill_(float("nan"))
    state_file(tmp_path, state, "net.pt")
    if case == "code":
        path.write_bytes(pickle.dumps({"a": print}))
    if case == "taken":
        assert recond("models", "add", path, "--as", "mine").exit_code == 0
    if case == "hash":
        options += ["--sha256", "0" * 64]
    if case in {"ours", "name"}:
        options = ["--as", {"ours": "rss", "name": "../up"}[case]]
    if case == "folder":
        path = tmp_path
    if case == "missing":
        path = tmp_path / "none.pt"
    result = recond("models", "add", path, *options)
    assert result.exit_code == 3
    assert message in result.stderr
    assert result.stderr.endswith(f"({reason})\n")
    assert result.stdout == ""
    if case == "taken":
        assert recond("models", "add", path, "--as", "mine", "--force").exit_code == 0
    else:
        assert not models.exists()


@pytest.mark.parametrize(
    "options", [["--acceleration", "8:4"], ["--acceleration", "x"], ["--coils", "1:2:3"], ["--pattern", "spiral"]]
)
def test_usage(tmp_path, options):
    assert recond("models", "add", state_file(tmp_path), *options).exit_code == 2


def test_help_loads_no_torch():
    code = (
        "import sys; from click.testing import CliRunner; from recond_client.cli import main;"
        "help = CliRunner().invoke(main, ['models', '--help']).output; assert 'add' in help and 'remove' in help;"
        "assert '--sha256' in CliRunner().invoke(main, ['models', 'add', '--help']).output;"
        "print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_without_the_server_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [
        name
        for name in sys.modules
        if name.startswith("recond_models.store.") and name.split(".")[-1] in {"add", "package"}
    ]:
        monkeypatch.delitem(sys.modules, name)
    result = recond("models", "add", tmp_path / "net.pt")
    assert result.exit_code == 2
    assert "pip install 'recond[server]'" in result.stderr


def test_an_added_network_reconstructs_a_fastmri_file(tmp_path):
    """The whole way: weights, a simulated scan, a service of its own, an image."""
    scan, out = tmp_path / "scan.h5", tmp_path / "out.h5"
    assert recond("models", "add", state_file(tmp_path), "--as", "tiny", "--acceleration", "2:8").exit_code == 0
    options = ("--phantom", "shepp-logan", "--slices", 2, "--matrix", "64x56", "--coils", 4, "--calibration-lines", 12)
    assert recond("simulate", "-o", scan, "--format", "fastmri", *options).exit_code == 0
    result = recond("reconstruct", scan, "--model", "tiny", "-o", out, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["model"], found["shape"]) == ("tiny", [2, 64, 56])
    assert found["weights_sha256"] == registry.find("tiny").weights_sha256
    assert set(found["figures"]) >= {"ssim", "psnr", "nmse"}
    with h5py.File(out) as file:
        assert file["reconstruction"].shape == (2, 64, 56)
        assert file["reconstruction"][()].max() > 0
    shown = recond("models", "show", "tiny")
    assert "varnet" in shown.stdout
    assert "2 to 8" in shown.stdout
