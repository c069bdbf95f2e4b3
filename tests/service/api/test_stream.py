"""Acquisitions while they are measured."""

import itertools
import queue
from pathlib import Path

import grpc
import h5py
import numpy as np
import pytest
from recond_testing import Answer, collect, reconstruct, refused

from recond.v1 import reconstruction_pb2 as pb
from recond_models.simulate import write_ismrmrd
from recond_models.simulate.scan import ScanSettings, simulate


@pytest.fixture(scope="module")
def scan_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "scan.h5"
    settings = ScanSettings(
        phantom="shepp-logan", slices=3, rows=48, columns=40, acceleration=2, coils=4, calibration_lines=12
    )
    write_ismrmrd.write(simulate(settings), path)
    return path


def messages_of(path: Path, batch: int = 7) -> tuple[bytes, list[pb.AcquisitionBatch], list[int]]:
    """Return the header, the readouts in batches, and the slice of the last readout of each batch."""
    with h5py.File(path) as file:
        xml, data = bytes(file["dataset/xml"][0]), file["dataset/data"][:]
    batches, slices = [], []
    for first in range(0, len(data), batch):
        part = data[first : first + batch]
        samples = b"".join(np.asarray(values, "<f4").tobytes() for values in part["data"])
        batches.append(pb.AcquisitionBatch(count=len(part), headers=part["head"].tobytes(), samples=samples))
        slices.append(int(part["head"]["idx"]["slice"][-1]))
    return xml, batches, slices


def spec(**values) -> pb.ReconstructRequest:
    return pb.ReconstructRequest(spec=pb.ReconstructSpec(acquisition_stream=pb.AcquisitionStream(), **values))


def header(xml: bytes) -> pb.ReconstructRequest:
    return pb.ReconstructRequest(mrd_header=pb.MrdHeader(xml=xml))


def readouts(batches) -> list[pb.ReconstructRequest]:
    return [pb.ReconstructRequest(acquisitions=batch) for batch in batches]


@pytest.mark.parametrize("batch", [1, 7, 10_000])
def test_stream_gives_the_images_of_the_file(stub, scan_file, batch):
    xml, batches, _ = messages_of(scan_file, batch)
    streamed = collect(stub.Reconstruct(iter([spec(model="cg-sense"), header(xml), *readouts(batches)]), timeout=60))
    uploaded = reconstruct(stub, scan_file.read_bytes(), model="cg-sense")
    np.testing.assert_array_equal(streamed.volume, uploaded.volume)
    assert [finding.code for finding in streamed.summary.findings] == [
        finding.code for finding in uploaded.summary.findings
    ]


def test_first_slice_is_back_before_the_last_one_is_sent(stub, scan_file):
    xml, batches, slices = messages_of(scan_file, 1)
    first_of_last = slices.index(2)
    sent: queue.Queue[pb.ReconstructRequest | None] = queue.Queue()
    call = stub.Reconstruct(iter(sent.get, None), timeout=60)
    for request in [spec(model="cg-sense"), header(xml), *readouts(batches[:first_of_last])]:
        sent.put(request)
    answer = Answer()
    while len(answer.images) < 2:  # the last slice is held back all this time
        answer.take(next(call))
    assert [message.index.slice for message in answer.messages] == [0, 1]
    for request in readouts(batches[first_of_last:]):
        sent.put(request)
    sent.put(None)
    for response in call:
        answer.take(response)
    assert sorted(message.index.slice for message in answer.messages) == [0, 1, 2]
    assert answer.summary.images == 3


def test_stream_out_of_order_or_cut_off_is_refused(stub, scan_file):
    xml, batches, _ = messages_of(scan_file)
    wrong = [
        ([spec(), *readouts(batches)], "WRONG_ORDER"),
        ([spec(), header(xml), header(xml)], "WRONG_ORDER"),
        ([spec()], "INPUT_INCOMPLETE"),
        ([spec(), header(xml)], None),
        ([spec(), header(b"<ismrmrdHeader"), *readouts(batches)], None),
    ]
    for requests, reason in wrong:
        found = refused(stub.Reconstruct(iter(requests), timeout=60))
        assert found.code is grpc.StatusCode.INVALID_ARGUMENT
        assert reason in {None, found.reason}
        assert found.message


def test_batch_whose_sizes_do_not_fit_is_refused(stub, scan_file):
    xml, batches, _ = messages_of(scan_file)
    good = batches[0]
    wrong = [
        pb.AcquisitionBatch(count=0),
        pb.AcquisitionBatch(count=good.count + 1, headers=good.headers, samples=good.samples),
        pb.AcquisitionBatch(count=good.count, headers=good.headers[:-1], samples=good.samples),
        pb.AcquisitionBatch(count=good.count, headers=good.headers, samples=good.samples[:-8]),
        pb.AcquisitionBatch(count=good.count, headers=good.headers, samples=good.samples + bytes(8)),
        pb.AcquisitionBatch(count=good.count, headers=good.headers, samples=good.samples, trajectories=bytes(4)),
    ]
    for batch in wrong:
        found = refused(stub.Reconstruct(iter([spec(), header(xml), *readouts([batch])]), timeout=60))
        assert found.code is grpc.StatusCode.INVALID_ARGUMENT
        assert found.field.startswith("acquisitions")


def test_stream_without_end_is_cut_off_by_the_limit(tmp_path, scan_file):
    from recond_testing import running

    from recond.v1 import reconstruction_pb2_grpc as pb_grpc

    xml, batches, _ = messages_of(scan_file)
    with (
        running(tmp_path / "log", "--max-scan-bytes", "1MiB") as small,
        grpc.insecure_channel(small.address) as channel,
    ):
        endless = itertools.chain([spec(model="rss"), header(xml)], itertools.cycle(readouts(batches)))
        found = refused(pb_grpc.ReconstructionServiceStub(channel).Reconstruct(endless, timeout=60))
    assert (found.code, found.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "SCAN_TOO_LARGE")
    assert found.retry_after is None
