"""Which requests share the process that parses their scans: those of one connection, and no others."""

from collections.abc import AsyncIterator

import grpc
import numpy as np
import pytest
import pytest_asyncio
from local_front_end import LocalFrontEnd, local_front_end
from recond_testing import Answer, fastmri_file, random_kspace, requests_for, rss_of
from waiting import eventually_async

from recond.v1 import reconstruction_pb2 as pb
from recond.v1 import reconstruction_pb2_grpc as pb_grpc
from recond_service.api import Server
from recond_service.config import Settings
from recond_service.sandbox import Sandbox, pool

pytestmark = pytest.mark.asyncio(loop_scope="module")

SMALL = random_kspace(1, 2, 16, 16)
SPARES = pool._SPARES


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def house() -> AsyncIterator[LocalFrontEnd]:
    async with local_front_end(Settings()) as found:
        yield found


class Connection:
    """A connection of its own to a front end, and the processes that are kept for it."""

    def __init__(self, house: LocalFrontEnd) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]  # gRPC shares one between channels of equal options
        self._channel = grpc.aio.insecure_channel(house.address, options=options)
        self._sandboxes = house.services.sandboxes
        self._others = set(self._sandboxes._kept)

    async def reconstruct(self, kspace: np.ndarray = SMALL, **spec) -> None:
        answer = await self.send(fastmri_file(kspace), **spec)
        np.testing.assert_allclose(answer.volume, rss_of(kspace), rtol=1e-5)

    async def send(self, data: bytes, **spec) -> Answer:
        answer = Answer()
        stub = pb_grpc.ReconstructionServiceStub(self._channel)
        async for response in stub.Reconstruct(requests_for(data, model="rss", **spec)):
            answer.take(response)
        return answer

    @property
    def kept(self) -> list[Sandbox]:
        return [each for each in self._sandboxes._kept if each not in self._others]

    async def __aenter__(self) -> "Connection":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()


async def test_requests_of_a_connection_share_a_process_and_others_do_not(house):
    async with Connection(house) as first:
        await first.reconstruct()
        (process,) = first.kept
        for _ in range(3):
            await first.reconstruct(random_kspace(2, 4, 64, 48, seed=3))  # larger than the first
        assert first.kept == [process]
        assert process.served == 4
        async with Connection(house) as second:
            await second.reconstruct()
            assert len(second.kept) == 1, "another connection got a process that had served this one"
        assert process.served == 4
        before = len(first.kept)
        await first.reconstruct(priority=pb.PRIORITY_RESEARCH)
        assert len(first.kept) == before + 1, "a process that steps back was not one of its own"


async def test_a_process_that_met_bad_data_is_not_used_again(house):
    async with Connection(house) as connection:
        await connection.reconstruct()
        (process,) = connection.kept
        with pytest.raises(grpc.aio.AioRpcError):
            await connection.send(b"no scan at all")
        assert process.served == 2
        assert connection.kept == []
        await eventually_async(lambda: process.dead)


async def test_a_process_that_waits_for_nobody_ends(house, monkeypatch):
    monkeypatch.setattr(pool, "_KEPT_SECONDS", 0.1)
    async with Connection(house) as connection:
        await connection.reconstruct()
    sandboxes = house.services.sandboxes
    await eventually_async(lambda: not sandboxes._kept and sandboxes.running == SPARES)


@pytest.mark.parametrize(("most", "kept"), [(1, 0), (2, 1)])
async def test_how_often_a_process_is_used_is_a_setting(most, kept):
    async with local_front_end(Settings(scan_process_requests=most)) as house, Connection(house) as connection:
        await connection.reconstruct()
        assert len(connection.kept) == kept
        await connection.reconstruct()
        assert connection.kept == []


async def test_the_service_takes_that_setting():
    server = Server(Settings(scan_process_requests=7))
    assert server.sandboxes._most_requests == 7
    await server.stop()
