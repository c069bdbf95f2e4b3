"""Which models a worker has, without a process around it."""

import threading
from pathlib import Path

import pytest
import structlog
from model_files import VARNET, state_file, weights_of

from recond_models import loading, registry
from recond_models.batch import Reconstructor
from recond_models.contract import Contract
from recond_models.model import ModelInfo
from recond_models.store import folders
from recond_models.store.add import AddRequest, add_model
from recond_models.store.errors import WrongKeysError
from recond_models.store.package import Description, write_model
from recond_models.store.versions import promote, start_canary
from recond_service.backends.embedded.models import LoadedModels
from recond_service.types import ModelNotFoundError, UnavailableError, UnsupportedDataError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RECOND_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setattr(folders, "SHIPPED", tmp_path / "shipped")
    return tmp_path / "models"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def models(clock) -> LoadedModels:
    return LoadedModels("cpu", clock)


def ship(folder: Path, name: str) -> ModelInfo:
    write_model(folder, Description(name, "1", "", "", "", "", ""), VARNET, weights_of(), Contract())
    return registry.find(name)


def add(folder: Path, name: str, seed: int = 0, *, replace: bool = False) -> ModelInfo:
    add_model(AddRequest(state_file(folder, weights_of(seed=seed)), name=name, replace=replace))
    return registry.find(name)


def get(models: LoadedModels, info: ModelInfo) -> Reconstructor:
    return models.get(info.name, info.version, info.weights_sha256)


def test_a_damaged_network_that_ships_does_not_keep_the_others_from_working(tmp_path, models):
    sound, damaged = ship(tmp_path / "shipped", "sound"), ship(tmp_path / "shipped", "damaged")
    (tmp_path / "shipped" / "damaged" / "weights.safetensors").write_bytes(b"something else")
    with structlog.testing.capture_logs() as logs:
        assert [models.warm(info) for info in (damaged, sound)] == [False, True]
    assert [(entry["event"], entry["model"]) for entry in logs] == [("model-out-of-order", "damaged")]
    assert "add the model again" in logs[0]["problem"]
    assert get(models, sound).info == sound
    with pytest.raises(UnsupportedDataError, match="SHA-256") as refusal:
        get(models, damaged)
    assert refusal.value.reason == "MODEL_DAMAGED"


def test_a_request_gets_the_weights_that_it_was_planned_with_or_none(tmp_path, models, clock):
    old = add(tmp_path, "mine")
    model = get(models, old)
    assert get(models, old) is model
    new = add(tmp_path, "mine", seed=1, replace=True)
    assert get(models, old) is model  # still in memory: the request ends as it began
    assert get(models, new).info == new
    assert get(models, old) is model
    clock.now = 59
    models.refresh()
    assert get(models, old) is model
    clock.now = 120
    get(models, new)
    models.refresh()
    assert models.keys == (("mine", "1", new.weights_sha256),)
    with pytest.raises(UnavailableError, match="mine was replaced") as replaced:
        get(models, old)
    assert replaced.value.retry_after is not None
    assert replaced.value.reason == "MODEL_REPLACED"
    with pytest.raises(ModelNotFoundError, match="no model 'other'"):
        models.get("other", "1", "")


def test_a_replacement_is_loaded_while_the_old_one_serves(tmp_path, models, monkeypatch):
    old = add(tmp_path, "mine")
    model = get(models, old)
    new = add(tmp_path, "mine", seed=1, replace=True)
    begun, go_on = threading.Event(), threading.Event()
    load = loading.load

    def slowly(*arguments, **options):
        begun.set()
        assert go_on.wait(30)
        return load(*arguments, **options)

    monkeypatch.setattr(loading, "load", slowly)
    thread = threading.Thread(target=models.refresh)
    thread.start()
    assert begun.wait(30)
    assert get(models, old) is model
    go_on.set()
    thread.join(30)
    monkeypatch.setattr(loading, "load", None)  # it is there now
    assert get(models, new).info == new
    assert get(models, old) is model


def test_a_replacement_that_makes_other_images_is_refused_once_and_the_old_one_serves(tmp_path, models, monkeypatch):
    old = add(tmp_path, "mine")
    model = get(models, old)
    new = add(tmp_path, "mine", seed=1, replace=True)
    golden = tmp_path / "models" / "mine" / "golden.safetensors"
    recorded = golden.read_bytes()
    golden.write_bytes(recorded[:-64] + bytes(64))
    loads = []
    load = loading.load
    monkeypatch.setattr(loading, "load", lambda *args, **options: loads.append(args) or load(*args, **options))
    with structlog.testing.capture_logs() as logs:
        models.refresh()
        models.refresh()
    assert [entry["event"] for entry in logs] == ["model-out-of-order"]
    for _ in range(2):
        with pytest.raises(UnsupportedDataError):
            get(models, new)
    assert len(loads) == 1
    assert get(models, old) is model


def test_added_models_leave_memory_the_one_unused_longest_first(tmp_path, models):
    infos = {name: add(tmp_path, name) for name in "abcdef"}
    first = get(models, infos["a"])
    for name in "bcd":
        get(models, infos[name])
    assert get(models, infos["a"]) is first
    models.get("rss", "1", "")
    get(models, infos["e"])
    assert [name for name, _, _ in models.keys if name != "rss"] == ["c", "d", "a", "e"]
    assert get(models, infos["a"]) is first


def test_a_model_that_is_asked_for_from_two_threads_is_loaded_once(tmp_path, models, monkeypatch):
    info = add(tmp_path, "mine")
    loads, found = [], []
    load = loading.load
    monkeypatch.setattr(loading, "load", lambda *args, **options: loads.append(args) or load(*args, **options))
    threads = [threading.Thread(target=lambda: found.append(get(models, info))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(loads) == 1
    assert len({id(model) for model in found}) == 1


def test_a_version_that_is_promoted_or_tried_out_is_loaded_before_it_is_asked_for(tmp_path, models, monkeypatch):
    first = add(tmp_path, "mine")
    second = add_version(tmp_path, "2", seed=1)
    third = add_version(tmp_path, "3", seed=2)
    model = get(models, first)
    models.refresh()
    assert [key[1] for key in models.keys] == ["1"]  # nobody asked for the others
    place, known = tmp_path / "models", ["1", "2", "3"]
    promote(place, "mine", "2", known, "1")
    start_canary(place, "mine", ("3", 0.1), known, "2")
    models.refresh()
    assert sorted(key[1] for key in models.keys) == known
    monkeypatch.setattr(loading, "load", None)
    assert get(models, first) is model
    assert [get(models, info).info.weights_sha256 for info in (second, third)] == [
        second.weights_sha256,
        third.weights_sha256,
    ]


def add_version(tmp_path, version: str, seed: int) -> ModelInfo:
    add_model(AddRequest(state_file(tmp_path, weights_of(seed=seed)), name="mine", version=version))
    return registry.find("mine", version)


def test_weights_of_another_network_are_refused_in_one_line_that_says_what_to_do(folder, models, monkeypatch):
    info = ship(folder, "other")

    def refuse(*_: object, **__: object) -> None:
        raise WrongKeysError('other: Missing key(s):\n\t"a.weight", "a.bias". ')

    monkeypatch.setattr(loading, "load", refuse)
    for _ in range(2):  # the second time from memory
        with pytest.raises(UnsupportedDataError) as caught:
            models.get(info.name, info.version, info.weights_sha256)
        assert caught.value.reason == "MODEL_WRONG_KEYS"
        assert "\n" not in caught.value.message
        assert caught.value.message.endswith("add it again")
