"""Which requests share the process that parses their scans: those of one connection, and no others."""

import time

import grpc
import numpy as np
import pytest
from recond_testing import collect, fastmri_file, random_kspace, reconstruct, requests_for, rss_of, running

from recond.v1 import reconstruction_pb2 as pb
from recond.v1 import reconstruction_pb2_grpc as pb_grpc

SMALL = random_kspace(1, 2, 16, 16)


def processes(service) -> set[int]:
    """Return the parsing processes, once their number stands still."""
    seen: list[set[int]] = []
    while len(seen) < 4 or any(each != seen[-1] for each in seen[-4:]):
        seen.append({child.pid for child in service.zygote.children()})
        assert len(seen) < 200
        time.sleep(0.05)
    return seen[-1]


def other_stub(service):
    """Return a stub with a connection of its own: gRPC shares one between channels of equal options."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    return pb_grpc.ReconstructionServiceStub(grpc.insecure_channel(service.address, options=options))


def test_requests_of_a_connection_share_a_process_and_others_do_not(tmp_path):
    with running(tmp_path / "log") as service:
        first, second = other_stub(service), other_stub(service)
        reconstruct(first, fastmri_file(SMALL), model="rss")
        before = processes(service)
        for _ in range(3):
            kspace = random_kspace(2, 4, 64, 48, seed=3)
            answer = reconstruct(first, fastmri_file(kspace), model="rss")  # larger than the first
            np.testing.assert_allclose(answer.volume, rss_of(kspace), rtol=1e-5)
        assert processes(service) == before, "the same connection got another process"
        reconstruct(second, fastmri_file(SMALL), model="rss")
        assert len(processes(service)) == len(before) + 1, "another connection got a process that had served this one"
        reconstruct(first, fastmri_file(SMALL), model="rss", priority=pb.PRIORITY_RESEARCH)
        assert len(processes(service)) == len(before) + 2, "a process that steps back was not one of its own"


def test_a_process_that_met_bad_data_is_not_used_again(tmp_path):
    with running(tmp_path / "log") as service:
        stub = other_stub(service)
        reconstruct(stub, fastmri_file(SMALL), model="rss")
        before = processes(service)
        with pytest.raises(grpc.RpcError):
            collect(stub.Reconstruct(requests_for(b"no scan at all", model="rss"), timeout=60))
        after = processes(service)
        assert len(after) == len(before) - 1, "the process is still there"


@pytest.mark.parametrize(("most", "kept"), [("1", 0), ("2", 1)])
def test_how_often_a_process_is_used_is_a_setting(tmp_path, most, kept):
    with running(tmp_path / "log", "--scan-process-requests", most) as service:
        stub = other_stub(service)
        spares = len(processes(service))
        reconstruct(stub, fastmri_file(SMALL), model="rss")
        assert len(processes(service)) == spares + kept
        reconstruct(stub, fastmri_file(SMALL), model="rss")
        assert len(processes(service)) == spares


def test_a_process_that_waits_for_nobody_ends(tmp_path):
    with running(tmp_path / "log") as service:
        spares = len(processes(service))
        reconstruct(other_stub(service), fastmri_file(SMALL), model="rss")
        assert len(processes(service)) == spares + 1
        end = time.monotonic() + 20
        while len(processes(service)) > spares:
            assert time.monotonic() < end
