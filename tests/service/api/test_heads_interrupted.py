"""Heads whose worker dies, and analyses whose client goes away: results come, or the room is given back."""

import gzip
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import nibabel
import numpy as np
import pytest
from head_packages import tissue_contract, write_brightness_head
from recond_testing import Service, running
from waiting import eventually

import recond_client
from recond.v1 import analysis_pb2, analysis_pb2_grpc
from recond_client.analysis import Analysis
from recond_models.store.place import remove_model

HEAD = "slow-tissue"
SHAPE = (120, 120, 80)  # five blocks


@pytest.fixture(scope="module")
def battered(added_models, tmp_path_factory) -> Iterator[Service]:
    """A service with a head of full size, whose worker is killed."""
    write_brightness_head(added_models, HEAD, tissue_contract(), full_size=True)
    with running(tmp_path_factory.mktemp("heads") / "log") as service:
        yield service
    remove_model(added_models, HEAD)


@pytest.fixture(scope="module")
def content() -> bytes:
    """A bright ball of 50 mm, cut off above and below, in a volume of many blocks."""
    axes = np.ogrid[tuple(slice(-size / 2, size / 2) for size in SHAPE)]
    ball = (sum(axis**2 for axis in axes) < 50**2).astype(np.float32) * 900
    return gzip.compress(nibabel.Nifti1Image(ball, np.diag([1.0, 1, 1, 1])).to_bytes(), 1)


def waiting(service: Service) -> float:
    return service.metrics()["recond_queue_frames"]


def held(service: Service) -> float:
    return service.metrics()["recond_bytes_in_flight"]


def descriptors(service: Service) -> int:
    return len(list(Path(f"/proc/{service.process.pid}/fd").iterdir()))


def test_a_worker_that_dies_between_blocks_costs_no_result(battered, content):
    with recond_client.Client(battered.address) as client:
        whole = client.analyze(content, heads=[HEAD])
        before, found = descriptors(battered), []
        thread = threading.Thread(target=lambda: found.append(client.analyze(content, heads=[HEAD], timeout=120)))
        thread.start()
        eventually(lambda: waiting(battered) > 0)
        battered.worker.kill()
        thread.join()
        (analysis,) = found
        assert isinstance(analysis, Analysis)
        assert np.array_equal(analysis.heads[HEAD].label_map, whole.heads[HEAD].label_map)
        assert battered.events("worker-lost")
        assert not [finding for finding in analysis.findings if finding.code == "head-failed"]
        assert (waiting(battered), held(battered)) == (0, 0)
        eventually(lambda: descriptors(battered) <= before + 2)  # those of the new worker and of a scan process


def test_blocks_of_a_client_that_went_away_leave_the_queue(battered, content):
    with recond_client.Client(battered.address) as client:
        client.analyze(content, heads=[HEAD])
        before = descriptors(battered)
        for _ in range(3):
            spec = analysis_pb2.AnalyzeSpec(heads=[HEAD])
            spec.parts.add(name="head.nii.gz", size_bytes=len(content))
            requests = [
                analysis_pb2.AnalyzeRequest(spec=spec),
                analysis_pb2.AnalyzeRequest(chunk={"part": 0, "offset": 0, "data": content}),
            ]
            with grpc.insecure_channel(battered.address) as channel:
                call = analysis_pb2_grpc.AnalysisServiceStub(channel).Analyze(iter(requests), timeout=60)
                eventually(lambda: waiting(battered) > 0)
                assert held(battered) > 0
                call.cancel()
            eventually(lambda: waiting(battered) == 0 and held(battered) == 0)
        assert client.analyze(content, heads=[HEAD]).heads[HEAD].label_map is not None
        eventually(lambda: descriptors(battered) <= before + 2)
