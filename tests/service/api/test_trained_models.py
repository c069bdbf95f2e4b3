"""Trained models over the wire: added while the service runs, verified, within and outside their contracts."""

from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from model_files import UNET, VARNET, state_file, weights_of
from recond_testing import fastmri_file, random_kspace, reconstruct, refused, requests_for
from waiting import eventually

from recond.v1 import model_pb2, model_pb2_grpc
from recond.v1 import reconstruction_pb2 as pb
from recond_models import loading
from recond_models.batch import PackedBatch
from recond_models.contract import Contract
from recond_models.finishing import magnitudes
from recond_models.simulate.scan import ScanSettings, simulate
from recond_models.store.add import AddRequest, add_model
from recond_models.store.package import Description, write_model
from recond_models.store.place import remove_model

SCAN = simulate(
    ScanSettings(
        phantom="shepp-logan",
        slices=2,
        rows=64,
        columns=48,
        coils=3,
        acceleration=3,
        calibration_lines=12,
        oversampling=1,
    )
)
KSPACE = SCAN.kspace.reshape(2, 3, 64, 48).astype(np.complex64)
DATA = fastmri_file(KSPACE, mask=SCAN.lines)


@pytest.fixture
def add(added_models, tmp_path):
    """Adds models, and removes them after the test."""
    names = []

    def run(name: str, architecture=VARNET, contract: Contract | None = None, seed: int = 0, **options) -> str:
        path = state_file(tmp_path, weights_of(architecture, seed))
        added = add_model(AddRequest(path, name=name, contract=contract or Contract(), **options))
        names.append(name)
        return added.packaged.manifest.weights_sha256

    yield run
    for name in dict.fromkeys(names):
        if (added_models / name).exists():
            remove_model(added_models, name)


@pytest.fixture(scope="module")
def models(service):
    with grpc.insecure_channel(service.address) as channel:
        yield model_pb2_grpc.ModelServiceStub(channel)


def warnings(summary: pb.Summary) -> dict[str, str]:
    return {finding.code: finding.message for finding in summary.findings if finding.severity == pb.SEVERITY_WARNING}


@pytest.mark.parametrize("architecture", [VARNET, UNET], ids=["varnet", "unet"])
def test_a_model_added_while_the_service_runs(stub, models, add, architecture):
    contract = Contract(
        ("irregular", "uniform"), (2, 8), (2, 20), None, (32, 400), (8, 4), anatomy="knee", contrast="PD"
    )
    assert "later" not in {model.name for model in models.ListModels(model_pb2.ListModelsRequest()).models}
    sha256 = add("later", architecture, contract, licence="MIT")
    shown = models.GetModel(model_pb2.GetModelRequest(name="later")).model
    assert (shown.kind, shown.origin, shown.family, shown.precision) == (
        "network",
        "added",
        architecture["family"],
        "float32",
    )
    assert (shown.weights_sha256, shown.licence, shown.version) == (sha256, "MIT", "1")
    assert list(shown.contract.patterns) == ["irregular", "uniform"]
    assert (shown.contract.acceleration.least, shown.contract.acceleration.most) == (2, 8)
    assert not shown.contract.HasField("rows")
    assert (shown.contract.calibration_rows, shown.contract.anatomy, shown.contract.contrast) == (8, "knee", "PD")

    answer = reconstruct(stub, DATA, model="later")
    assert (answer.summary.model, answer.summary.weights_sha256) == ("later", sha256)
    assert answer.plan[0].reason == "later was asked for"
    assert "outside-contract" not in warnings(answer.summary)
    mask = np.broadcast_to(SCAN.lines, (64, 48)).copy()
    batch = PackedBatch.pack(list(np.where(mask, KSPACE, 0)), [mask, mask])
    direct = magnitudes(loading.load("later").reconstruct(batch)).numpy()
    np.testing.assert_allclose(answer.volume, direct, atol=2e-4 * direct.max())


def health(service, name: str) -> int | None:
    with grpc.insecure_channel(service.address) as channel:
        try:
            return (
                health_pb2_grpc.HealthStub(channel)
                .Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
                .status
            )
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise
            return None


def test_added_models_have_a_health(service, added_models, add):
    def wait_for(status: int) -> None:
        eventually(lambda: health(service, "healthy") == status)

    add("healthy")
    wait_for(health_pb2.HealthCheckResponse.SERVING)
    remove_model(added_models, "healthy")
    wait_for(health_pb2.HealthCheckResponse.NOT_SERVING)
    assert health(service, "") == health_pb2.HealthCheckResponse.SERVING


def test_auto_picks_by_figures_within_the_contract_of_the_network_that_ships(stub):
    scan = simulate(
        ScanSettings(
            phantom="shepp-logan", slices=1, rows=96, columns=80, coils=4, acceleration=3, calibration_lines=16, oversampling=1
        )
    )  # fmt: skip
    data = fastmri_file(scan.kspace.reshape(1, 4, 96, 80).astype(np.complex64), mask=scan.lines)
    answer = reconstruct(stub, data)
    summary = answer.summary
    assert summary.model == answer.plan[0].model == "ensemble"
    assert "had the highest SSIM in the object" in answer.plan[0].reason
    assert summary.evidence.model == "ensemble"
    assert summary.evidence.not_tried
    assert not summary.evidence.candidates
    assert "anatomy-assumed" in {finding.code for finding in summary.findings}
    assert summary.figures.data_consistency_residual < 0.3
    # 48 columns are fewer than it has ever seen.
    summary = reconstruct(stub, DATA).summary
    assert summary.model in {"tv", "l1-wavelet"}
    assert not summary.HasField("evidence")
    assert "network-not-chosen" in {finding.code for finding in summary.findings}


def test_auto_does_not_pick_an_added_model(stub, add):
    add("unrolled-extra")
    assert reconstruct(stub, DATA).summary.model != "unrolled-extra"


def test_a_model_outside_its_contract_warns(stub, add):
    add("narrow", contract=Contract(acceleration=(6, 8), anatomy="knee"))
    found = warnings(reconstruct(stub, DATA, model="narrow").summary)
    assert found["outside-contract"].startswith("narrow was not made for these data: the acceleration is ")
    assert "it is made for 6 to 8" in found["outside-contract"]


def test_a_model_that_cannot_compute_is_refused(stub, added_models, add):
    contract = Contract(calibration=(8, 8), requires_calibration=True)
    described = Description("needy", "1", "", "", "", "", "")
    write_model(added_models, described, VARNET, weights_of(), contract)
    try:
        lines = SCAN.lines.copy()
        lines[20:28] = [True, False] * 4
        data = fastmri_file(np.where(lines, KSPACE, 0).astype(np.complex64), mask=lines)
        found = refused(stub.Reconstruct(requests_for(data, model="needy"), timeout=60))
        assert (found.code, found.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_UNSUITABLE")
        assert found.field == "spec.model"
        assert "use the model rss" in found.message
    finally:
        remove_model(added_models, "needy")


def test_frames_that_only_the_network_can_refuse(stub, add):
    add("picky")
    mask = np.random.default_rng(0).random((64, 48)) < 0.4
    data = fastmri_file(np.where(mask, random_kspace(1, 3, 64, 48), 0).astype(np.complex64), mask=mask)
    found = refused(stub.Reconstruct(requests_for(data, model="picky"), timeout=60))
    assert (found.code, found.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_UNSUITABLE")
    assert found.field == "spec.model"
    assert "whole phase-encoding lines" in found.message


def test_what_a_model_notices_is_a_warning(stub, add):
    add("noting")
    kspace = KSPACE.copy()
    kspace[1] = 0
    answer = reconstruct(stub, fastmri_file(kspace, mask=SCAN.lines), model="noting")
    mask = np.broadcast_to(SCAN.lines, (64, 48)).copy()
    noted = loading.load("noting").reconstruct(PackedBatch.pack([kspace[1]], [mask])).notes[0]
    assert noted
    for note in noted:
        assert warnings(answer.summary)[note.code] == note.message
    assert not answer.volume[1].any()
    assert answer.volume[0].any()


@pytest.mark.parametrize("file", ["weights.safetensors", "golden.safetensors"])
def test_a_model_that_was_changed_on_the_disk_is_refused(stub, added_models, add, file):
    add("changed")
    path: Path = added_models / "changed" / file
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)
    found = refused(stub.Reconstruct(requests_for(DATA, model="changed"), timeout=60))
    assert (found.code, found.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_DAMAGED")
    assert "add the model again" in found.message
    assert reconstruct(stub, DATA, model="rss").summary.images == 2


def test_a_replaced_model_is_used_at_once_and_a_removed_one_is_gone(stub, models, added_models, add):
    first = add("moving")
    before = reconstruct(stub, DATA, model="moving")
    second = add("moving", seed=1, replace=True)
    after = reconstruct(stub, DATA, model="moving")
    assert [answer.summary.weights_sha256 for answer in (before, after)] == [first, second]
    assert first != second
    assert not np.allclose(before.volume, after.volume)
    remove_model(added_models, "moving")
    found = refused(stub.Reconstruct(requests_for(DATA, model="moving"), timeout=60))
    assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "NO_SUCH_MODEL")
    with pytest.raises(grpc.RpcError, match="no model 'moving'"):
        models.GetModel(model_pb2.GetModelRequest(name="moving"))


def test_more_added_models_than_stay_in_memory(stub, add):
    names = [f"one-of-{number}" for number in range(6)]
    hashes = [add(name, UNET, seed=number) for number, name in enumerate(names)]
    for _ in range(2):
        found = [reconstruct(stub, DATA, model=name).summary.weights_sha256 for name in names]
        assert found == hashes
