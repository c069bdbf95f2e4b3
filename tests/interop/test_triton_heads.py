"""Heads on workers of the service, beside Triton servers that reconstruct."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from click.testing import CliRunner
from head_packages import tissue_contract, write_brightness_head
from recond_testing import Service, running
from triton_server import INSTALLED, MISSING, TritonServer, triton_server
from waiting import eventually

import recond_client
from recond_models.simulate.commands import simulate
from recond_service.commands.triton import triton

pytestmark = [pytest.mark.skipif(not INSTALLED, reason=MISSING), pytest.mark.timeout(600)]

HEAD = "bright-tissue"
ANALYSIS = "recond.v1.AnalysisService"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("models")
    write_brightness_head(folder, HEAD, tissue_contract(anatomy=""))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECOND_MODELS_DIR", str(folder))
        yield


@pytest.fixture(scope="module")
def server(models: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    folder = tmp_path_factory.mktemp("triton")
    done = CliRunner().invoke(triton, ["export", str(folder / "repository"), "--model", "rss"])
    assert done.exit_code == 0, done.output
    with triton_server(folder / "repository", folder / "log", wait=False) as server:
        server.wait_ready(240)
        yield server


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "scan.h5"
    options = ["--phantom", "shepp-logan", "--slices", "4", "--coils", "3", "--matrix", "96", "--acceleration", "1"]
    assert CliRunner().invoke(simulate, ["-o", str(path), *options]).exit_code == 0
    return path


def head_worker(service: Service) -> psutil.Process:
    """The worker for heads, as soon as it is there."""

    def find() -> psutil.Process | None:
        found = psutil.Process(service.process.pid).children(recursive=True)
        return next((each for each in found if each.name() == "recond-heads-0"), None)

    return eventually(find)


def test_images_from_triton_and_heads_from_a_worker(server, scan, tmp_path):
    options = ("--backend", "triton", "--triton", server.address)
    with running(tmp_path / "log", *options) as service, recond_client.Client(service.address) as client:
        eventually(lambda: client.health(ANALYSIS) == "SERVING", 60)
        assert client.health() == "SERVING"
        first = client.reconstruct(scan, model="rss", heads=[HEAD], outputs=(".nii.gz",))
        assert first.heads[HEAD].label_map.shape == first.images.shape
        assert not [finding for finding in first.findings if "head" in finding.code]
        assert all(head.ready for head in client.heads())
        metrics = service.metrics()
        assert metrics['recond_server_up{server="heads-0"}'] == 1
        assert metrics[f'recond_server_up{{server="{server.address}"}}'] == 1
        worker = head_worker(service)
        assert not [child for child in psutil.Process(service.process.pid).children(True) if "worker-" in child.name()]

        # A worker that dies costs neither images nor answers.
        worker.send_signal(signal.SIGKILL)
        again = client.reconstruct(scan, model="rss", heads=[HEAD])
        assert np.array_equal(again.heads[HEAD].label_map, first.heads[HEAD].label_map)
        assert head_worker(service).pid != worker.pid
        assert service.metrics()['recond_server_lost_total{server="heads-0"}'] == 1

        # Without Triton there are no images, and heads on images of files go on.
        server.kill()
        eventually(lambda: client.health() == "NOT_SERVING", 30)
        eventually(lambda: client.health(ANALYSIS) == "SERVING", 30)
        assert not any(model.ready for model in client.models())
        assert all(head.ready for head in client.heads())
        first.save(tmp_path / "images.nii.gz")
        assert client.analyze(tmp_path / "images.nii.gz", heads=[HEAD]).heads[HEAD].label_map.max() > 0
        server.process.wait(30)
        server.start(0)
        server.wait_ready(240)
        eventually(lambda: client.health() == "SERVING", 60)


def test_without_a_worker_heads_are_refused_and_images_come(server, scan, tmp_path):
    options = ("--backend", "triton", "--triton", server.address, "--head-workers", "0")
    with running(tmp_path / "log", *options) as service, recond_client.Client(service.address) as client:
        result = client.reconstruct(scan, model="rss", heads=[HEAD], outputs=(".nii.gz",))
        assert result.images.max() > 0
        assert "--head-workers" in result.head_results[0].problem
        assert client.health(ANALYSIS) == "NOT_SERVING"
        assert not any(head.ready for head in client.heads())
        assert all(model.ready for model in client.models())
        (tmp_path / "images.nii.gz").write_bytes(result.files[".nii.gz"])
        begun = time.monotonic()
        with pytest.raises(recond_client.RecondError) as caught:
            client.analyze(tmp_path / "images.nii.gz", heads=[HEAD])
        assert caught.value.reason == "NO_WORKER_FOR_HEADS"
        assert time.monotonic() - begun < 30
