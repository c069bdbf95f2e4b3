"""``recond triton export``: what lies in a model repository."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from google.protobuf import text_format
from model_files import state_file, weights_of
from tritonclient.grpc.model_config_pb2 import ModelConfig

from recond_models import registry
from recond_models.store import folders
from recond_models.store.add import AddRequest, add_model
from recond_service.backends.triton import interface
from recond_service.backends.triton.executor import Executor
from recond_service.commands.triton import triton


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RECOND_MODELS_DIR", str(tmp_path / "models"))
    return tmp_path / "models"


def export(*arguments: str | Path):
    return CliRunner().invoke(triton, ["export", *map(str, arguments)])


def config_of(repository: Path, model: str) -> ModelConfig:
    return text_format.Parse((repository / f"recond-{model}" / "config.pbtxt").read_text(), ModelConfig())


def parameters_of(config: ModelConfig) -> dict[str, str]:
    return {key: value.string_value for key, value in config.parameters.items()}


def test_every_model_is_written_if_none_is_named(tmp_path):
    done = export(tmp_path / "repository")
    assert done.exit_code == 0, done.output
    names = {f"recond-{info.name}" for info in registry.available()}
    assert {path.name for path in (tmp_path / "repository").iterdir()} == names


def test_the_configuration_is_one_that_triton_reads(tmp_path):
    export(tmp_path, "--model", "cg-sense", "--instances", "3", "--threads", "2", "--device", "gpu")
    config = config_of(tmp_path, "cg-sense")
    assert (config.name, config.backend, config.max_batch_size) == ("recond-cg-sense", "python", 0)
    assert [(group.count, group.kind) for group in config.instance_group] == [(3, 1)]
    assert {tensor.name for tensor in config.input} == set(interface.INPUTS)
    assert {tensor.name for tensor in config.input if tensor.optional} == set(interface.OPTIONAL_INPUTS)
    assert {tensor.name for tensor in config.output} == set(interface.OUTPUTS)
    info = registry.find("cg-sense")
    parameters = parameters_of(config)
    assert parameters[interface.VERSION] == info.version
    assert parameters[interface.THREADS] == "2"


def test_a_trained_model_lies_in_the_repository_and_runs_from_there(tmp_path, models):
    add_model(AddRequest(state_file(tmp_path), name="mine"))
    info = registry.find("mine")
    repository = tmp_path / "repository"
    export(repository, "--model", "mine")
    parameters = parameters_of(config_of(repository, "mine"))
    assert parameters[interface.WEIGHTS] == info.weights_sha256
    add_model(AddRequest(state_file(tmp_path, weights_of(seed=1)), name="mine", replace=True))
    version = repository / "recond-mine" / "1"
    executor = Executor(parameters, version, "cpu")
    assert executor._model.info.weights_sha256 == info.weights_sha256
    compile((version / "model.py").read_text(), "model.py", "exec")
    (version / "mine" / "weights.safetensors").write_bytes(b"something else")
    with pytest.raises(ValueError, match="SHA-256"):
        Executor(parameters, version, "cpu")


def test_a_model_is_replaced_whole(tmp_path):
    export(tmp_path, "--model", "rss")
    leftover = tmp_path / "recond-rss" / "1" / "old"
    leftover.write_text("")
    export(tmp_path, "--model", "rss", "--instances", "2")
    assert not leftover.exists()
    assert config_of(tmp_path, "rss").instance_group[0].count == 2
    assert [path.name for path in tmp_path.iterdir() if path.name != "models"] == ["recond-rss"]


def test_unknown_models_and_folders_that_cannot_be_written_are_refused(tmp_path):
    unknown = export(tmp_path / "r", "--model", "nothing")
    assert unknown.exit_code == 2
    assert "there is no model 'nothing'" in unknown.output
    assert not (tmp_path / "r").exists()
    (tmp_path / "file").write_text("")
    blocked = export(tmp_path / "file" / "r", "--model", "rss")
    assert blocked.exit_code == 3
    assert "cannot be written" in blocked.output


def test_names_of_models_are_names_in_a_configuration(tmp_path):
    folder = next(path for path in folders.SHIPPED.iterdir() if path.name == "unrolled-brain-fast")
    export(tmp_path, "--model", folder.name)
    manifest = json.loads((tmp_path / f"recond-{folder.name}" / "1" / folder.name / "manifest.json").read_text())
    assert manifest["name"] == folder.name
    assert config_of(tmp_path, folder.name).name == f"recond-{folder.name}"
