"""A share of the requests tries a version out; where it fails, the promoted one makes the image and the result says so."""

import asyncio

import pytest
from model_files import state_file, weights_of

from recond_models import registry
from recond_models.contract import Contract
from recond_models.sampling import Sampling
from recond_models.store.add import AddRequest, add_model
from recond_models.store.place import remove_model
from recond_models.store.versions import start_canary
from recond_service.backends import ComputedFrame, FrameInput
from recond_service.pipeline import ModelChoice, TriedComputation, canary_for
from recond_service.processes import FrameLayout, SharedBlock
from recond_service.scheduling import FrameOutcome
from recond_service.telemetry import Metrics
from recond_service.types import DefectError, FindingList, UnavailableError, UnsupportedDataError

SAMPLING = Sampling(4, 64, 48, 4.0, "uniform", 4, (12, 12))


@pytest.fixture
def mine(added_models, tmp_path):
    """Two versions of a model, the second for other accelerations only and tried out on a tenth of the requests."""
    for version in ("1", "2"):
        path = state_file(tmp_path, weights_of(seed=int(version)))
        add_model(AddRequest(path, name="mine", version=version, contract=Contract(anatomy="knee")))
    start_canary(added_models, "mine", ("2", 0.1), ["1", "2"], "1")
    yield registry.find("mine")
    remove_model(added_models, "mine")


def test_requests_are_chosen_by_their_id(mine):
    ids = [f"request-{number}" for number in range(4000)]
    chosen = [request for request in ids if canary_for(mine, "mine", "", request) is not None]
    assert 0.08 < len(chosen) / len(ids) < 0.12
    assert chosen == [request for request in ids if canary_for(mine, "mine", "", request) is not None]
    assert canary_for(mine, "mine", "", chosen[0]).version == "2"


def test_who_names_a_version_gets_it(mine, added_models):
    start_canary(added_models, "mine", ("2", 1.0), ["1", "2"], "1")
    assert canary_for(mine, "mine", "", "a").version == "2"
    assert canary_for(mine, "mine", "1", "a") is None
    assert canary_for(mine, "mine@1", "", "a") is None
    assert canary_for(None, "", "", "a") is None
    assert canary_for(registry.find("rss"), "rss", "", "a") is None


class Frames:
    """Takes frames as `FrameComputation` does, closes them as the scheduler does, and fails for one version."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.computed: list[tuple[str, bytes]] = []

    async def compute(self, number, model, frame) -> FrameOutcome:
        await asyncio.sleep(0)
        with frame.block as block:
            self.computed.append((model.version, block.read(0, 4)))
        if self.error is not None and model.version == "2":
            raise self.error
        return FrameOutcome(ComputedFrame(SharedBlock.create("image", 4), None, ()), 0.0, 0.0)


def frame() -> FrameInput:
    layout = FrameLayout(1, 2, 2)
    block = SharedBlock.create("frame", layout.size)
    block.write(b"data", 0)
    return FrameInput(layout, block)


async def computed(mine, error):
    findings, metrics = FindingList(), Metrics()
    choice = ModelChoice(mine, findings, "spec.model", canary=canary_for(mine, "mine", "", "a"))
    frames = Frames(error)
    tried = TriedComputation(frames, choice, metrics)
    return choice, findings, metrics, frames, tried


async def test_what_the_tried_version_fails_on_the_promoted_one_makes(mine, added_models):
    start_canary(added_models, "mine", ("2", 1.0), ["1", "2"], "1")
    choice, findings, metrics, frames, tried = await computed(mine, DefectError("bad weights", reason="MODEL_FAILED"))
    model = choice.for_frame(SAMPLING)
    assert model.version == "2"
    assert "2 is tried out on 100% of requests" in choice.reason
    for number in range(2):
        outcome = await tried.compute(number, model, frame())
        outcome.frame.image.close()
    assert frames.computed == [("2", b"data"), ("1", b"data")] * 2  # the frame is whole for the second
    assert choice.for_frame(SAMPLING).version == "1"
    (finding,) = [finding for finding in findings if finding.code == "canary-failed"]
    assert "mine 2, which is being tried out, failed (bad weights); 1 made the image instead" in finding.message
    assert metrics.model_uses["mine", "2"].failures == 1  # a request, not its frames
    assert ("mine", "1") not in metrics.model_uses
    failed = metrics.registry.get_sample_value
    assert failed("recond_model_requests_total", {"model": "mine", "version": "2", "outcome": "failed"}) == 1


async def test_overload_is_not_the_doing_of_a_version(mine, added_models):
    start_canary(added_models, "mine", ("2", 1.0), ["1", "2"], "1")
    choice, findings, metrics, frames, tried = await computed(mine, UnavailableError("no worker", reason="NO_WORKER"))
    with pytest.raises(UnavailableError):
        await tried.compute(0, choice.for_frame(SAMPLING), frame())
    assert [version for version, _ in frames.computed] == ["2"]
    assert not len(findings)
    assert not metrics.model_uses


async def test_failures_of_the_promoted_version_are_counted_and_raised(mine):
    findings, metrics = FindingList(), Metrics()
    choice = ModelChoice(registry.find("mine@2"), findings, "spec.model")
    tried = TriedComputation(Frames(DefectError("bad", reason="MODEL_FAILED")), choice, metrics)
    with pytest.raises(DefectError):
        await tried.compute(0, choice.for_frame(SAMPLING), frame())
    assert metrics.model_uses["mine", "2"].failures == 1


def test_a_version_that_cannot_take_the_data_is_not_tried_on_them(added_models, tmp_path):
    for version, calibration in (("1", (8, 8)), ("2", (40, 40))):
        contract = Contract(calibration=calibration, requires_calibration=True)
        add_model(AddRequest(state_file(tmp_path, weights_of()), name="picky", version=version, contract=contract))
    try:
        start_canary(added_models, "picky", ("2", 1.0), ["1", "2"], "1")
        promoted = registry.find("picky")
        findings = FindingList()
        choice = ModelChoice(promoted, findings, "spec.model", canary=canary_for(promoted, "picky", "", "a"))
        assert choice.for_frame(SAMPLING).version == "1"
        assert "canary-failed" in findings
        named = ModelChoice(registry.find("picky@2"), FindingList(), "spec.model")
        with pytest.raises(UnsupportedDataError):
            named.for_frame(SAMPLING)
    finally:
        remove_model(added_models, "picky")


def test_means_are_over_requests_that_went_well():
    metrics = Metrics()
    for seconds, residual in ((1.0, 0.1), (3.0, 0.3), (2.0, None)):
        metrics.model_ended("mine", "2", seconds, residual)
    metrics.model_failed("mine", "2")
    use = metrics.model_uses["mine", "2"]
    assert (use.requests, use.failures, use.residuals) == (4, 1, 2)
    assert use.mean_seconds == pytest.approx(2.0)
    assert use.mean_residual == pytest.approx(0.2)
