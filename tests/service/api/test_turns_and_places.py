"""Whose turn it is, and who loses a place: clients that are urgent, silent, or do not read."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import numpy as np
import pytest
import pytest_asyncio
from local_front_end import LocalFrontEnd, local_front_end
from raw_builders import Encoding, Phantom, block_of, cartesian, header_xml
from recond_testing import Answer, fastmri_file, random_kspace, refusal, requests_for, rss_of
from waiting import eventually_async

from recond.v1 import reconstruction_pb2 as pb
from recond.v1 import reconstruction_pb2_grpc as pb_grpc
from recond_service.config import Settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

IDLE_SECONDS = 1.0
KSPACE = random_kspace(1, 2, 16, 16)
ENCODING = Encoding()
SLICE = cartesian(ENCODING.kspace(Phantom()), ENCODING)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared_house() -> AsyncIterator[LocalFrontEnd]:
    async with local_front_end(Settings(max_requests=3, upload_idle_seconds=IDLE_SECONDS)) as house:
        yield house


@pytest_asyncio.fixture(loop_scope="module")
async def house(shared_house) -> AsyncIterator[LocalFrontEnd]:
    yield shared_house
    shared_house.backend.gate.set()
    await shared_house.idle()
    shared_house.backend.batches.clear()


@pytest.fixture
def stub(house) -> pb_grpc.ReconstructionServiceStub:
    return pb_grpc.ReconstructionServiceStub(house.channel)


async def collect(call) -> Answer:
    answer = Answer()
    async for response in call:
        answer.take(response)
    return answer


async def refused(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await collect(call)
    return refusal(caught.value)


async def expect_image(stub) -> None:
    answer = await collect(stub.Reconstruct(requests_for(fastmri_file(KSPACE), model="rss")))
    np.testing.assert_allclose(answer.volume, rss_of(KSPACE), rtol=1e-5)


def silent_after(stub, *requests: pb.ReconstructRequest, until: asyncio.Event | None = None):
    """Start a call that sends this much and then nothing, until it half-closes, if ever."""

    async def send() -> AsyncIterator[pb.ReconstructRequest]:
        for request in requests:
            yield request
        await (until or asyncio.Event()).wait()

    return stub.Reconstruct(send())


async def first_image(call) -> Answer:
    answer = Answer()
    async for response in call:
        answer.take(response)
        if answer.images:
            break
    return answer


def upload_spec(size: int) -> pb.ReconstructRequest:
    part = pb.Part(role=pb.PART_ROLE_KSPACE, size_bytes=size)
    return pb.ReconstructRequest(spec=pb.ReconstructSpec(parts=pb.Parts(parts=[part]), model="rss"))


def stream_spec() -> pb.ReconstructRequest:
    return pb.ReconstructRequest(spec=pb.ReconstructSpec(acquisition_stream=pb.AcquisitionStream(), model="rss"))


def one_slice() -> list[pb.ReconstructRequest]:
    count, headers, trajectories, samples = block_of(SLICE)
    batch = pb.AcquisitionBatch(count=count, headers=headers, trajectories=trajectories, samples=samples)
    header = pb.MrdHeader(xml=header_xml(ENCODING).encode())
    return [stream_spec(), pb.ReconstructRequest(mrd_header=header), pb.ReconstructRequest(acquisitions=batch)]


async def test_priority_of_a_request_reaches_the_scheduler(house, stub):
    house.backend.gate.clear()

    def start(columns: int, priority: int) -> asyncio.Future[Answer]:
        data = fastmri_file(random_kspace(1, 2, 16, columns))
        return asyncio.ensure_future(collect(stub.Reconstruct(requests_for(data, model="rss", priority=priority))))

    calls = [start(16, pb.PRIORITY_CLINICAL)]
    await eventually_async(lambda: house.backend.batches)
    for waiting, (columns, priority) in enumerate(((24, pb.PRIORITY_RESEARCH), (32, pb.PRIORITY_STAT)), 1):
        calls.append(start(columns, priority))
        await eventually_async(lambda waiting=waiting: house.services.scheduler.waiting == waiting)
    house.backend.gate.set()
    await asyncio.gather(*calls)
    assert [batch.frames[0].layout.columns for batch in house.backend.batches] == [16, 32, 24]


async def test_a_client_that_never_reads_its_images_is_ended_and_its_place_is_free(house, stub):
    data = fastmri_file(random_kspace(6, 1, 512, 512))
    call = stub.Reconstruct(requests_for(data, model="rss"))
    errors = house.services.metrics.errors.labels("DEADLINE_EXCEEDED", "CLIENT_NOT_READING")
    await eventually_async(lambda: house.services.admission.requests)
    await eventually_async(lambda: errors._value.get() == 1)
    assert house.services.admission.requests == 0
    await expect_image(stub)
    found = await refused(call)  # now it reads
    assert (found.code, found.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "CLIENT_NOT_READING")


async def test_an_upload_that_falls_silent_is_ended(house, stub):
    chunk = pb.ReconstructRequest(chunk=pb.Chunk(data=bytes(100)))
    found = await refused(silent_after(stub, upload_spec(1000), chunk))
    assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "CLIENT_SILENT")


async def test_an_upload_that_trickles_is_ended(house, stub):
    async def trickle() -> AsyncIterator[pb.ReconstructRequest]:
        yield upload_spec(1000)
        for offset in range(1000):
            yield pb.ReconstructRequest(chunk=pb.Chunk(offset=offset, data=b"x"))
            await asyncio.sleep(IDLE_SECONDS / 20)

    found = await refused(stub.Reconstruct(trickle()))
    assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "UPLOAD_TOO_SLOW")


async def test_a_stream_that_is_silent_right_after_its_spec_is_ended(house, stub):
    found = await refused(silent_after(stub, stream_spec()))
    assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "CLIENT_SILENT")


async def test_a_stream_that_pauses_keeps_its_place_until_another_needs_it(house, stub):
    pausing = silent_after(stub, *one_slice())
    await first_image(pausing)
    # It outlives one that is silent from the start and began later.
    found = await refused(silent_after(stub, stream_spec()))
    assert found.reason == "CLIENT_SILENT"
    assert house.services.admission.requests == 1
    # All places are taken, the others by requests that have work to do: until the pause is long, the next is sent away.
    house.backend.gate.clear()
    busy = [asyncio.ensure_future(expect_image(stub)) for _ in range(2)]
    await eventually_async(lambda: house.services.scheduler.running + house.services.scheduler.waiting == 2)
    turned_away = await refused(stub.Reconstruct(requests_for(fastmri_file(KSPACE), model="rss")))
    assert (turned_away.code, turned_away.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    house.ahead += 30.0
    let_in = asyncio.ensure_future(expect_image(stub))
    evicted = await refused(pausing)
    assert (evicted.code, evicted.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "STREAM_EVICTED")
    assert evicted.retry_after is not None
    house.backend.gate.set()
    await asyncio.gather(*busy, let_in)


async def test_a_stream_that_pauses_gets_the_rest_of_its_images_afterwards(house, stub):
    end = asyncio.Event()
    call = silent_after(stub, *one_slice(), until=end)
    answer = await first_image(call)
    found = await refused(silent_after(stub, stream_spec()))  # so long is the pause at least
    assert found.reason == "CLIENT_SILENT"
    end.set()
    async for response in call:
        answer.take(response)
    assert answer.summary.images == 1
