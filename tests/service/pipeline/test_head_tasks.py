"""Heads of a request by name, and what a call ends with when none of them had a result."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from head_packages import lesion_contract, tissue_contract, write_brightness_head

from recond_models.heads.contract import HeadClass, HeadContract, HeadGroup, HeadInfo
from recond_models.heads.framing import Framing
from recond_service.pipeline import HeadTasks, named_heads, named_structures
from recond_service.pipeline.events import HeadReady
from recond_service.processes import SliceLayout
from recond_service.scan.messages import HeadFinished, SlicesFailed, SlicesPrepared
from recond_service.telemetry import Metrics
from recond_service.types import (
    DeadlineExceededError,
    DefectError,
    HeadRequest,
    HeadResult,
    InvalidInputError,
    ModelNotFoundError,
    RecondError,
    UnavailableError,
    UnsupportedDataError,
)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("RECOND_MODELS_DIR", str(tmp_path))
    write_brightness_head(tmp_path, "bright", tissue_contract())
    write_brightness_head(tmp_path, "spots", lesion_contract())
    return tmp_path


def wanted(requests) -> dict[str, bool]:
    return {request.info.name: request.wanted for request in requests}


def test_heads_are_found_once_each(place):
    found = wanted(named_heads(["bright", "spots", "bright@1", "bright"], "heads"))
    assert found == {"bright": True, "spots": True, "series": False}


def test_the_guard_comes_along_where_a_contract_asks_for_it(place):
    assert wanted(named_heads(["bright"], "heads")) == {"bright": True, "series": False}
    assert wanted(named_heads(["spots"], "heads")) == {"spots": True}
    assert wanted(named_heads(["series", "bright"], "heads")) == {"series": True, "bright": True}


@pytest.mark.parametrize("name", ["", "@", "@1", "bright@2", "rss", " bright", "../bright", "bright\0"])
def test_what_is_no_head_is_named_with_its_place(place, name):
    with pytest.raises(ModelNotFoundError, match=r"there are .*spots") as caught:
        named_heads(["spots", name], "spec.heads")
    assert (caught.value.reason, caught.value.field) == ("NO_SUCH_HEAD", "spec.heads[1]")


def test_two_versions_of_a_head_are_refused(place, monkeypatch):
    infos = {name: HeadInfo("bright", name[-1], "", tissue_contract()) for name in ("bright@1", "bright@2")}
    monkeypatch.setattr(
        "recond_models.registry.find_head", lambda name, version="": SimpleNamespace(head_info=infos[name])
    )
    with pytest.raises(InvalidInputError) as caught:
        named_heads(["bright@1", "bright@2"], "spec.heads")
    assert (caught.value.reason, caught.value.field) == ("HEAD_VERSIONS", "spec.heads[1]")


def test_structures_of_a_head_by_name(place):
    assert named_structures("bright") == {"grey matter": 1, "white matter": 2}
    assert named_structures("spots") == {}
    assert named_structures("nothing") == {}


CONTRACT = HeadContract("classification", (HeadGroup("anatomy", (HeadClass("head"), HeadClass("other"))),))
INFO = HeadInfo("series", "1", "", CONTRACT)


class Trial:
    """Head tasks whose model servers and sandbox are scripted."""

    def __init__(self, error: RecondError | None = None, heads: Sequence[HeadRequest] = (HeadRequest(INFO),)) -> None:
        self.sent: list[object] = []
        self.events: list[object] = []

        async def run_head(info, slices):
            raise error or AssertionError("not to be called")

        async def send(message, fds=()):
            self.sent.append(message)

        async def sink(event):
            self.events.append(event)

        self.tasks = HeadTasks(
            heads,
            SimpleNamespace(run_head=run_head),
            SimpleNamespace(send=send),
            sink,
            SimpleNamespace(hold=lambda size: None, worked=lambda seconds: None),
            Metrics(),
        )

    def fail_a_block(self, place) -> None:
        layout = SliceLayout(1, 0, Framing((32, 32), (32, 32), (0, 0), (32, 32), 1.0), 2, "slices")
        prepared = SlicesPrepared(7, "bright", "1", layout)
        asyncio.run(self.tasks.run(prepared, SimpleNamespace(layout=layout)))

    def give(self, refusal: str, head: str = "series") -> None:
        result = HeadResult(head, "1", "", "classification", refusal=refusal, problem="it says why" if refusal else "")
        asyncio.run(self.tasks.hand_out(HeadFinished(result), SimpleNamespace()))


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        ("IMAGE_EMPTY", InvalidInputError),
        ("SPACING_UNKNOWN", InvalidInputError),
        ("WRONG_CONTRAST", UnsupportedDataError),
        ("WRONG_ANATOMY", UnsupportedDataError),
        ("TOO_COARSE", UnsupportedDataError),
        ("HEAD_FAILED", DefectError),
    ],
)
def test_without_any_result_the_first_refusal_is_the_error(refusal, kind):
    trial = Trial()
    trial.tasks.require_result()  # nothing was refused
    trial.give(refusal)
    with pytest.raises(kind, match="series did not run: it says why") as caught:
        trial.tasks.require_result()
    assert caught.value.reason == refusal
    trial.give("")
    trial.tasks.require_result()
    assert [type(event) for event in trial.events] == [HeadReady, HeadReady]


@pytest.mark.parametrize(
    "error",
    [DeadlineExceededError("too late", reason="DEADLINE"), UnavailableError("draining", reason="DRAINING")],
    ids=["deadline", "draining"],
)
def test_what_keeps_all_heads_from_the_servers_is_no_defect(place, error):
    trial = Trial(error)
    trial.fail_a_block(place)
    assert trial.sent == [SlicesFailed(7, error.message)]
    trial.give("HEAD_FAILED")
    with pytest.raises(type(error)) as caught:
        trial.tasks.require_result()
    assert caught.value.reason == error.reason


def test_the_error_of_a_head_names_its_place(place):
    """Loaders and schedulers know models alone."""
    heads = named_heads(["spots", "bright"], "spec.heads")
    assert [head.field for head in heads[:2]] == ["spec.heads[0]", "spec.heads[1]"]
    damaged = UnsupportedDataError("the files are damaged", reason="MODEL_HASH", field="spec.model")
    trial = Trial(damaged, heads)
    trial.fail_a_block(place)
    trial.give("HEAD_FAILED", "bright")
    with pytest.raises(UnsupportedDataError) as caught:
        trial.tasks.require_result()
    assert (caught.value.reason, caught.value.field) == ("MODEL_HASH", "spec.heads[1]")
    assert damaged.field == "spec.model"  # others may have it, too
    trial = Trial(heads=heads)
    trial.give("WRONG_CONTRAST", "spots")
    with pytest.raises(UnsupportedDataError) as caught:
        trial.tasks.require_result()
    assert caught.value.field == "spec.heads[0]"


def test_places_of_heads_that_are_some_of_those_asked_for(place):
    (head,) = (each for each in named_heads(["bright"], "spec.heads", [3]) if each.wanted)
    assert head.field == "spec.heads[3]"
    with pytest.raises(ModelNotFoundError) as caught:
        named_heads(["nothing"], "spec.heads", [2])
    assert caught.value.field == "spec.heads[2]"


def test_a_size_that_a_program_does_not_take_is_a_refusal(place):
    large = UnsupportedDataError("bright: 160 x 96 pixels", reason="FIELD_TOO_LARGE", field="spec.heads")
    trial = Trial(large, named_heads(["spots", "bright"], "spec.heads"))
    trial.fail_a_block(place)
    assert trial.sent == [SlicesFailed(7, "160 x 96 pixels", "FIELD_TOO_LARGE")]
    trial.give("FIELD_TOO_LARGE", "bright")
    with pytest.raises(UnsupportedDataError) as caught:
        trial.tasks.require_result()
    assert (caught.value.reason, caught.value.field) == ("FIELD_TOO_LARGE", "spec.heads[1]")


def test_a_head_that_was_removed_meanwhile_is_not_found():
    trial = Trial()
    layout = SliceLayout(1, 0, Framing((32, 32), (32, 32), (0, 0), (32, 32), 1.0), 2, "slices")
    asyncio.run(trial.tasks.run(SlicesPrepared(1, "gone", "1", layout), SimpleNamespace(layout=layout)))
    trial.give("HEAD_FAILED")
    with pytest.raises(ModelNotFoundError):
        trial.tasks.require_result()


def test_a_result_that_nobody_asked_for_is_a_defect_of_the_sandbox():
    result = HeadResult("other", "1", "", "classification")
    with pytest.raises(ValueError, match="not asked for"):
        asyncio.run(Trial().tasks.hand_out(HeadFinished(result), SimpleNamespace()))
