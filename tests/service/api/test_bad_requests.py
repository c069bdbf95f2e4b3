"""What a client gets for bad requests, and that the next good one works."""

import math
import threading

import grpc
import numpy as np
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from recond_testing import collect, fastmri_file, random_kspace, reconstruct, refused, requests_for, rss_of
from waiting import eventually

from recond.v1 import reconstruction_pb2 as pb

GOOD = fastmri_file(random_kspace(1, 2, 16, 16))
SIZE = len(GOOD)
INVALID, EXHAUSTED, NOT_FOUND = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.NOT_FOUND,
)


@pytest.fixture(autouse=True)
def works_afterwards(stub):
    """Whatever a test did, the next request gets its image."""
    yield
    kspace = random_kspace(1, 2, 16, 16)
    np.testing.assert_allclose(reconstruct(stub, GOOD, model="rss").volume, rss_of(kspace), rtol=1e-5)


def request(**parts) -> pb.ReconstructRequest:
    return pb.ReconstructRequest(**parts)


def chunk(offset=0, data=GOOD, part=0) -> pb.ReconstructRequest:
    return request(chunk=pb.Chunk(part=part, offset=offset, data=data))


def announced(size=SIZE, **values) -> pb.ReconstructRequest:
    part = pb.Part(role=pb.PART_ROLE_KSPACE, size_bytes=size, **values)
    return request(spec=pb.ReconstructSpec(parts=pb.Parts(parts=[part]), model="rss"))


@pytest.mark.parametrize(
    ("requests", "reason", "field"),
    [
        ([], "NO_SPEC", "spec"),
        ([chunk()], "WRONG_ORDER", "message"),
        ([request()], "WRONG_ORDER", "message"),
        ([announced(), announced()], "WRONG_ORDER", "message"),
        ([announced(), chunk(offset=1)], "CHUNK_ORDER", "chunk.offset"),
        ([announced(), chunk(data=GOOD[:10]), chunk(offset=20, data=GOOD[20:])], "CHUNK_ORDER", "chunk.offset"),
        ([announced(), chunk(data=GOOD[:10]), chunk(offset=0)], "CHUNK_ORDER", "chunk.offset"),
        ([announced(), chunk(part=1)], "CHUNK_ORDER", "chunk.part"),
        ([announced(), chunk(data=b"")], "CHUNK_SIZE", "chunk.data"),
        ([announced(size=10), chunk()], "CHUNK_SIZE", "chunk.data"),
        ([announced(), chunk(data=GOOD[:-1])], "INPUT_INCOMPLETE", "spec.parts.parts[0].size_bytes"),
        ([announced()], "INPUT_INCOMPLETE", "spec.parts.parts[0].size_bytes"),
        ([announced(), chunk(), chunk(offset=len(GOOD), data=b"x")], "TOO_MUCH_DATA", "message"),
        ([announced(size=0)], "EMPTY_PART", "spec.parts.parts[0].size_bytes"),
        ([announced(format=99), chunk()], "UNKNOWN_VALUE", "spec.parts.parts[0].format"),
        ([announced(format=pb.PART_FORMAT_ARRAY, shape=[3, 3]), chunk()], "ARRAY_SIZE", "spec.parts.parts[0].shape"),
    ],
)
def test_wrong_order_or_size_is_refused_with_the_field(stub, requests, reason, field):
    found = refused(stub.Reconstruct(iter(requests), timeout=30))
    assert (found.code, found.reason, found.field) == (INVALID, reason, field)
    assert found.request_id
    assert found.retry_after is None


def conditioned(**values) -> pb.ReconstructSpec:
    return pb.ReconstructSpec(
        acquisition_stream=pb.AcquisitionStream(), model="rss", conditioning=pb.Conditioning(**values)
    )


@pytest.mark.parametrize(
    ("spec", "code", "reason", "field"),
    [
        (pb.ReconstructSpec(), INVALID, "NO_SOURCE", "spec"),
        (pb.ReconstructSpec(parts=pb.Parts()), INVALID, "NO_KSPACE", "spec.parts.parts"),
        (
            pb.ReconstructSpec(parts=pb.Parts(parts=[pb.Part(role=pb.PART_ROLE_KSPACE, size_bytes=8)] * 2)),
            INVALID,
            "DUPLICATE_PART",
            "spec.parts.parts",
        ),
        (
            pb.ReconstructSpec(parts=pb.Parts(parts=[pb.Part(role=pb.PART_ROLE_KSPACE, size_bytes=1 << 60)])),
            EXHAUSTED,
            "SCAN_TOO_LARGE",
            "spec.parts.parts[0].size_bytes",
        ),
        (
            pb.ReconstructSpec(acquisition_stream=pb.AcquisitionStream(expected_bytes=1 << 60)),
            EXHAUSTED,
            "SCAN_TOO_LARGE",
            "spec.acquisition_stream",
        ),
        (
            pb.ReconstructSpec(acquisition_stream=pb.AcquisitionStream(), model="magic"),
            NOT_FOUND,
            "NO_SUCH_MODEL",
            "spec.model",
        ),
        (
            pb.ReconstructSpec(acquisition_stream=pb.AcquisitionStream(), model="rss", model_version="9"),
            NOT_FOUND,
            "NO_SUCH_MODEL",
            "spec.model",
        ),
        (
            pb.ReconstructSpec(acquisition_stream=pb.AcquisitionStream(), heads=["tumour"]),
            NOT_FOUND,
            "NO_SUCH_HEAD",
            "spec.heads[0]",
        ),
        (
            pb.ReconstructSpec(acquisition_stream=pb.AcquisitionStream(), outputs=[77]),
            INVALID,
            "UNKNOWN_VALUE",
            "spec.outputs[0]",
        ),
        (
            pb.ReconstructSpec(
                acquisition_stream=pb.AcquisitionStream(), undersampling=pb.Undersampling(kind=1, acceleration=1)
            ),
            INVALID,
            "UNDERSAMPLING",
            "spec.undersampling.acceleration",
        ),
        (conditioned(partial_fourier=9), INVALID, "UNKNOWN_VALUE", "spec.conditioning.partial_fourier"),
        (conditioned(virtual_coils=65536), INVALID, "VIRTUAL_COILS", "spec.conditioning.virtual_coils"),
        (conditioned(coil_energy=1.5), INVALID, "COIL_ENERGY", "spec.conditioning.coil_energy"),
        (conditioned(coil_energy=-0.5), INVALID, "COIL_ENERGY", "spec.conditioning.coil_energy"),
        (conditioned(coil_energy=math.nan), INVALID, "COIL_ENERGY", "spec.conditioning.coil_energy"),
    ],
)
def test_wrong_spec_is_refused_before_the_upload(stub, spec, code, reason, field):
    found = refused(stub.Reconstruct(iter([request(spec=spec)]), timeout=30))
    assert (found.code, found.reason, found.field) == (code, reason, field)


def test_client_that_goes_away_leaves_nothing_behind(service, stub):
    reconstruct(stub, GOOD, model="rss")
    front_end = psutil.Process(service.process.pid)

    def state() -> tuple[float, float, int, int]:
        """Return requests, bytes, descriptors and processes."""
        metrics = service.metrics()
        in_flight = metrics["recond_requests_in_flight"], metrics["recond_bytes_in_flight"]
        return *in_flight, front_end.num_fds(), len(front_end.children(recursive=True))

    eventually(lambda: state()[:2] == (0, 0))
    before = state()
    for _ in range(5):
        call = stub.Reconstruct(unfinished(), timeout=30)
        assert next(call).WhichOneof("message") == "accepted"
        call.cancel()
    for _ in range(3):
        call = stub.Reconstruct(
            requests_for(fastmri_file(random_kspace(8, 4, 128, 128)), model="l1-wavelet"), timeout=0.3
        )
        assert refused(call).code is grpc.StatusCode.DEADLINE_EXCEEDED
    eventually(lambda: all(now <= then for now, then in zip(state(), before, strict=True)))


def unfinished():
    yield announced()
    yield chunk(data=GOOD[:100])
    threading.Event().wait(3)  # gRPC waits for this thread only while the call is open


def test_deadline_that_cannot_be_met_is_told(stub):
    data = fastmri_file(random_kspace(8, 4, 128, 128), mask=np.arange(128) % 2 == 0)
    found = refused(stub.Reconstruct(requests_for(data, model="rss"), timeout=0.001))
    assert found.code is grpc.StatusCode.DEADLINE_EXCEEDED


def many_lengths() -> pb.ReconstructSpec:
    part = pb.Part(role=pb.PART_ROLE_KSPACE, size_bytes=8, format=pb.PART_FORMAT_ARRAY, shape=[(1 << 62) + 1] * 60_000)
    return pb.ReconstructSpec(parts=pb.Parts(parts=[part]), model="rss")


def many_parts() -> pb.ReconstructSpec:
    parts = [pb.Part(role=pb.PART_ROLE_KSPACE, size_bytes=8)] * 100_000
    return pb.ReconstructSpec(parts=pb.Parts(parts=parts), model="rss")


def many_outputs() -> pb.ReconstructSpec:
    stream = pb.AcquisitionStream()
    return pb.ReconstructSpec(acquisition_stream=stream, model="rss", outputs=[pb.OUTPUT_FORMAT_PNG] * 1_000_000)


@pytest.mark.parametrize(
    ("build", "reason", "field"),
    [
        (many_lengths, "ARRAY_SIZE", "spec.parts.parts[0].shape"),
        (many_parts, "TOO_MANY_PARTS", "spec.parts.parts"),
        (many_outputs, "TOO_MANY_OUTPUTS", "spec.outputs"),
    ],
)
def test_spec_of_endless_lists_is_refused_and_others_are_served_meanwhile(service, stub, build, reason, field):
    with grpc.insecure_channel(service.address) as channel:
        calls = [stub.Reconstruct(iter([request(spec=build())]), timeout=30) for _ in range(4)]
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
    for call in calls:
        found = refused(call)
        assert (found.code, found.reason, found.field) == (INVALID, reason, field)


def test_model_that_cannot_take_the_data_is_refused(stub):
    found = refused(
        stub.Reconstruct(requests_for(fastmri_file(random_kspace(1, 1, 32, 32)), model="cg-sense"), timeout=30)
    )
    assert (found.code, found.field) == (grpc.StatusCode.FAILED_PRECONDITION, "spec.model")
    assert "rss" in found.message


def test_nothing_of_the_data_is_lost_when_many_bad_requests_come_at_once(stub):
    good = random_kspace(2, 2, 32, 32)
    calls = [
        stub.Reconstruct(
            requests_for(b"not a scan" * 100 if number % 2 else fastmri_file(good), model="rss"), timeout=60
        )
        for number in range(12)
    ]
    for number, call in enumerate(calls):
        if number % 2:
            assert refused(call).reason == "NOT_HDF5"
        else:
            np.testing.assert_allclose(collect(call).volume, rss_of(good), rtol=1e-5)
