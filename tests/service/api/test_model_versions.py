"""Over the wire: plug-ins, exported programs, versions of a model and one that is tried out."""

import os
from pathlib import Path

import grpc
import numpy as np
import pytest
from exported_programs import unrolled_file
from model_files import UNET, state_file, weights_of
from plugin_packages import install_example, write_package
from recond_testing import fastmri_file, reconstruct, refused, requests_for, running

from recond.v1 import reconstruction_pb2_grpc as pb_grpc
from recond_client import Client
from recond_models import loading
from recond_models.batch import PackedBatch
from recond_models.finishing import magnitudes
from recond_models.sampling import centre_block
from recond_models.simulate.scan import ScanSettings, simulate
from recond_models.store.add import AddRequest, add_model
from recond_models.store.lineage import Lineage
from recond_models.store.place import remove_model
from recond_models.store.versions import promote, start_canary

SCAN = simulate(
    ScanSettings(
        phantom="shepp-logan", slices=1, rows=64, columns=56, coils=6, acceleration=2, calibration_lines=20, oversampling=1
    )
)  # fmt: skip
KSPACE = SCAN.kspace.reshape(1, 6, 64, 56).astype(np.complex64)
MASK = np.broadcast_to(SCAN.lines, (64, 56)).copy()
DATA = fastmri_file(KSPACE, mask=SCAN.lines)
BROKEN = """
class Model:
    def __init__(self, info, device):
        pass

    def reconstruct(self, batch):
        raise AttributeError("no")
"""


@pytest.fixture(scope="module")
def own(added_models, tmp_path_factory):
    """A service with the example package, one that fails at work and one that cannot be imported."""
    folder = tmp_path_factory.mktemp("plugins")
    install_example(folder, tmp_path_factory.mktemp("source"))
    write_package(folder, "failing", "PLUGIN = plugin('failing', 'failing.work:Model')", BROKEN)
    write_package(folder, "unreadable", "import nothing_of_that_name")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        with running(tmp_path_factory.mktemp("service") / "log") as service:
            yield service


@pytest.fixture(scope="module")
def stub(own):
    with grpc.insecure_channel(own.address) as channel:
        yield pb_grpc.ReconstructionServiceStub(channel)


@pytest.fixture(scope="module")
def client(own):
    with Client(own.address) as each:
        yield each


def direct(name: str) -> np.ndarray:
    kspace = np.where(MASK, KSPACE[0], 0)
    batch = PackedBatch.pack([kspace], [MASK], [centre_block(kspace, (64, 20)).copy()])
    return magnitudes(loading.load(name).reconstruct(batch)).numpy()


def test_a_plugin_is_served_and_one_that_fails_harms_nobody(own, stub, client):
    shown = client.model("grappa")
    assert (shown.origin, shown.package, shown.kind) == ("plug-in", "recond-grappa 0.1", "classical")
    assert "unreadable" in own.log.read_text()
    answer = reconstruct(stub, DATA, model="grappa")
    assert (answer.summary.model, answer.summary.version) == ("grappa", "1")
    reference = reconstruct(stub, fastmri_file(simulated_whole()), model="rss").volume
    zero_filled = reconstruct(stub, DATA, model="rss").volume
    assert np.square(answer.volume - reference).sum() < 0.1 * np.square(zero_filled - reference).sum()
    found = refused(stub.Reconstruct(requests_for(DATA, model="failing"), timeout=60))
    assert (found.code, found.reason) == (grpc.StatusCode.INTERNAL, "MODEL_FAILED")
    assert "AttributeError: no" in found.message
    assert reconstruct(stub, DATA, model="grappa").summary.images == 1
    assert not [name for name, count in own.metrics().items() if name.startswith("recond_server_lost_total") and count]


def simulated_whole() -> np.ndarray:
    settings = ScanSettings(
        phantom="shepp-logan", slices=1, rows=64, columns=56, coils=6, acceleration=1, oversampling=1
    )
    return simulate(settings).kspace.reshape(1, 6, 64, 56).astype(np.complex64)


def test_an_exported_program_is_served(stub, client, added_models, tmp_path):
    add_model(AddRequest(unrolled_file(tmp_path / "unrolled.pt2"), name="exported"))
    try:
        assert client.model("exported").contract.required == ("coils", "rows", "columns")
        answer = reconstruct(stub, DATA, model="exported")
        expected = direct("exported")
        # The service takes a line more for calibration than the simulation meant, so that the sensitivities differ a little.
        assert np.linalg.norm(answer.volume - expected) < 0.02 * np.linalg.norm(expected)
        with_phase = client.reconstruct(kspace=KSPACE, mask=MASK, model="exported", complex_images=True).complex_images
        np.testing.assert_allclose(np.abs(with_phase), answer.volume, atol=1e-4 * expected.max())
        assert np.ptp(np.angle(with_phase[expected > 0.5 * expected.max()])) > 0
        large = fastmri_file(np.ones((1, 6, 300, 56), np.complex64) * KSPACE.max())
        found = refused(stub.Reconstruct(requests_for(large, model="exported"), timeout=60))
        assert (found.code, found.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_UNSUITABLE")
        assert "the number of rows is 300, it takes 16 to 256" in found.message
    finally:
        remove_model(added_models, "exported")


def test_versions_and_a_canary(own, stub, client, added_models, tmp_path):
    for version in ("1", "2"):
        path = state_file(tmp_path, weights_of(UNET, seed=int(version)))
        lineage = Lineage(parent=f"mine@{int(version) - 1}", metrics={"ssim": 0.9}, hyperparameters={"steps": 100})
        add_model(AddRequest(path, name="mine", version=version, lineage=lineage))
    known = ["1", "2"]
    try:
        images = {name: reconstruct(stub, DATA, model=name) for name in ("mine", "mine@1", "mine@2")}
        assert [each.summary.version for each in images.values()] == ["1", "1", "2"]
        assert not np.allclose(images["mine"].volume, images["mine@2"].volume)
        start_canary(added_models, "mine", ("2", 1.0), known, "1")
        tried = reconstruct(stub, DATA, model="mine")
        assert tried.summary.version == "2"
        assert "2 is tried out on 100% of requests" in tried.plan[0].reason
        weights = added_models / "mine@2" / "weights.safetensors"
        sound = weights.read_bytes()

        promote(added_models, "mine", "2", known, "1")
        assert reconstruct(stub, DATA, model="mine").summary.version == "2"
        start_canary(added_models, "mine", ("1", 1.0), known, "2")
        assert reconstruct(stub, DATA, model="mine").summary.version == "1"

        add_damaged(added_models, tmp_path)
        start_canary(added_models, "mine", ("3", 1.0), [*known, "3"], "2")
        answer = reconstruct(stub, DATA, model="mine")
        assert answer.summary.version == "2"
        (finding,) = [finding for finding in answer.summary.findings if finding.code == "canary-failed"]
        assert "mine 3, which is being tried out, failed" in finding.message
        assert np.allclose(answer.volume, images["mine@2"].volume)
        assert weights.read_bytes() == sound

        history = client.model_history("mine")
        rows = {version.model.version: version for version in history.versions}
        assert history.versions[0].model.promoted
        assert history.versions[0].model.version == "2"
        assert [(entry.action, entry.version) for entry in history.promotions] == [("added", "1"), ("promoted", "2")]
        assert rows["3"].model.canary_share == 1.0
        assert rows["1"].lineage.parent == "mine@0"
        assert (rows["2"].lineage.metrics, rows["2"].lineage.hyperparameters) == ({"ssim": 0.9}, {"steps": 100})
        assert (rows["1"].use.requests, rows["2"].use.requests, rows["3"].use.requests) == (3, 4, 1)
        assert (rows["1"].use.failures, rows["2"].use.failures, rows["3"].use.failures) == (0, 0, 1)
        assert rows["2"].use.mean_seconds > 0
        shown = own.metrics()
        assert shown['recond_model_requests_total{model="mine",outcome="done",version="2"}'] == 4
        assert shown['recond_model_requests_total{model="mine",outcome="failed",version="3"}'] == 1
        assert [model.version for model in client.models() if model.name == "mine"] == ["2"]
    finally:
        remove_model(added_models, "mine")


def add_damaged(place: Path, scratch: Path) -> None:
    """A version whose weights changed after it was added."""
    add_model(AddRequest(state_file(scratch, weights_of(UNET, seed=3)), name="mine", version="3"))
    weights = place / "mine@3" / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-3] ^= 4
    weights.write_bytes(data)
