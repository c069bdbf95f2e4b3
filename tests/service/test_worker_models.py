"""Which models a worker has, without a process around it."""

from pathlib import Path

import pytest
import structlog
from model_files import VARNET, state_file, weights_of

from recond_models import registry
from recond_models.store import folders
from recond_models.store.add import Wish, add_model
from recond_models.store.contract import Contract
from recond_models.store.package import Description, write_model
from recond_service.backends.embedded.worker import Worker
from recond_service.types import ModelNotFoundError, UnavailableError, UnsupportedDataError


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RECOND_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setattr(folders, "SHIPPED", tmp_path / "shipped")
    return tmp_path / "models"


@pytest.fixture
def worker() -> Worker:
    return Worker(None, 1.0, "cpu")  # type: ignore[arg-type] # nothing here is sent


def ship(folder: Path, name: str) -> registry.ModelInfo:
    write_model(folder, Description(name, "1", "", "", "", "", ""), VARNET, weights_of(), Contract())
    return registry.find(name)


def test_a_damaged_network_that_ships_does_not_keep_the_others_from_working(tmp_path, worker):
    sound, damaged = ship(tmp_path / "shipped", "sound"), ship(tmp_path / "shipped", "damaged")
    (tmp_path / "shipped" / "damaged" / "weights.safetensors").write_bytes(b"something else")
    with structlog.testing.capture_logs() as logs:
        for info in (damaged, sound):
            worker._warm(info)
    assert [(entry["event"], entry["model"]) for entry in logs] == [("model-out-of-order", "damaged")]
    assert "add the model again" in logs[0]["problem"]
    assert worker._model("sound", "1", sound.weights_sha256).info == sound
    with pytest.raises(UnsupportedDataError, match="SHA-256") as refusal:
        worker._model("damaged", "1", damaged.weights_sha256)
    assert refusal.value.reason == "MODEL_DAMAGED"


def test_a_request_gets_the_weights_that_it_was_planned_with_or_none(tmp_path, worker):
    add_model(Wish(state_file(tmp_path), name="mine"))
    planned = registry.find("mine")
    model = worker._model("mine", "1", planned.weights_sha256)
    assert worker._model("mine", "1", planned.weights_sha256) is model
    add_model(Wish(state_file(tmp_path, weights_of(seed=1)), name="mine", replace=True))
    assert worker._model("mine", "1", planned.weights_sha256) is model  # still in memory: the request ends as it began
    fresh = registry.find("mine")
    assert worker._model("mine", "1", fresh.weights_sha256).info == fresh
    with pytest.raises(UnavailableError, match="mine was replaced") as replaced:
        worker._model("mine", "1", planned.weights_sha256)
    assert replaced.value.retry_after is not None
    with pytest.raises(ModelNotFoundError, match="no model 'other'"):
        worker._model("other", "1", "")


def test_added_models_leave_memory_the_one_unused_longest_first(tmp_path, worker):
    path = state_file(tmp_path)
    for name in "abcdef":
        add_model(Wish(path, name=name))
    sha256 = registry.find("a").weights_sha256
    first = worker._model("a", "1", sha256)
    for name in "bcd":
        worker._model(name, "1", sha256)
    assert worker._model("a", "1", sha256) is first
    worker._model("rss", "1", "")
    worker._model("e", "1", sha256)
    assert [name for name in worker._models if name != "rss"] == ["c", "d", "a", "e"]
    assert worker._model("a", "1", sha256) is first
