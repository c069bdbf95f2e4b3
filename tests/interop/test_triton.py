"""Batches on real Triton Inference Servers: the same images as in this process, and what happens when a server dies.

Both sides run the same code on the same kind of processor, so images agree to 1e-5 of their norm, of networks in bfloat16 too.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as tritonclient
import trustme
from click.testing import CliRunner
from recond_testing import fastmri_file, reconstruct, running
from triton_frames import batch_of, frame, here, images, relative
from triton_server import INSTALLED, MISSING, TritonServer, triton_server
from tritonclient.grpc import service_pb2, service_pb2_grpc
from waiting import eventually_async

from recond.v1.reconstruction_pb2_grpc import ReconstructionServiceStub
from recond_models import registry
from recond_service.backends import ServerLostError
from recond_service.backends.triton import interface, regions
from recond_service.backends.triton.backend import TritonBackend
from recond_service.backends.triton.regions import FOLDER, NAME_PREFIX
from recond_service.backends.triton.server import Patience, TritonModelServer
from recond_service.commands.triton import triton
from recond_service.scheduling import FrameJob, Scheduler
from recond_service.types import DefectError, Priority, UnsupportedDataError

pytestmark = pytest.mark.skipif(not INSTALLED, reason=MISSING)

MODELS = ("rss", "l1-wavelet", "unrolled-brain-fast")
TOLERANCE = 1e-5
PATIENCE = Patience(probe_seconds=10, idle_seconds=0.5)


def ours() -> list[str]:
    return [path.name for path in FOLDER.glob(f"{NAME_PREFIX}*")]


def registered(server: TritonServer) -> set[str]:
    """Return the names of the regions that a server has mapped."""
    with server.channel() as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        return set(stub.SystemSharedMemoryStatus(service_pb2.SystemSharedMemoryStatusRequest(), timeout=5).regions)


def computed(server: TritonServer, model: str) -> float:
    """Return the seconds that a server has computed with a model, requests that failed included."""
    with server.channel() as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        (model_stats,) = stub.ModelStatistics(service_pb2.ModelStatisticsRequest(name=model), timeout=5).model_stats
    return model_stats.inference_stats.compute_infer.ns / 1e9


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("triton") / "repository"
    names = [word for name in MODELS for word in ("--model", name)]
    done = CliRunner().invoke(triton, ["export", str(folder), *names])
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def servers(
    repository: Path, secure: TritonServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[TritonServer, TritonServer]]:
    log = tmp_path_factory.mktemp("log")
    explicit = ("--model-control-mode=explicit", "--load-model=*")
    with (
        triton_server(repository, log / "1", options=explicit, wait=False) as one,
        triton_server(repository, log / "2", wait=False) as two,
    ):
        for server in (one, two):
            server.wait_ready(240)
        yield one, two


class Changes:
    """Waits until a server is up or down."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task] = set()

    def __call__(self, server: TritonModelServer) -> None:
        task = asyncio.ensure_future(self._tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def wait(self, server: TritonModelServer, *, up: bool, seconds: float = 30) -> None:
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: server.up == up)


@pytest.fixture
def changes() -> Changes:
    return Changes()


@pytest.fixture
async def backend(servers: tuple[TritonServer, TritonServer], changes: Changes) -> AsyncIterator[TritonBackend]:
    addresses = [server.address for server in servers]
    backend = TritonBackend(addresses, batch_seconds=30, on_change=changes, patience=PATIENCE)
    await backend.start()
    for server in backend.servers:
        await changes.wait(server, up=True)
    yield backend
    await backend.close()
    assert ours() == []


@pytest.mark.parametrize("model", MODELS)
async def test_mixed_coils_in_one_batch_give_the_images_of_this_process(backend, model):
    frames = [frame(4), frame(7, apart=True, seed=1), frame(2, seed=2)]
    batch = batch_of(frames, model)
    wanted = here(batch)
    for server in backend.servers:
        assert server.by_shared_memory
        outcome = await server.run(batch)
        assert relative(images(outcome), wanted) < TOLERANCE
        assert outcome.seconds > 0
        fits = registry.find(model).fits_samples
        assert all(
            (residual is not None and 0 < residual < 1) == fits
            for residual in (each.residual for each in outcome.frames)
        )
    for number, one in enumerate(frames):
        alone = await backend.servers[0].run(batch_of([one], model))
        assert relative(images(alone)[0], wanted[number]) < TOLERANCE


async def test_frames_that_travel_give_the_images_of_frames_in_shared_memory(backend, servers, changes):
    batch = batch_of([frame(5), frame(3, apart=True)], "l1-wavelet")
    shared = images(await backend.servers[0].run(batch))
    inline = TritonBackend([servers[0].address], batch_seconds=30, shared_memory="off", on_change=changes)
    await inline.start()
    await asyncio.wait_for(inline.wait_ready(), 120)
    try:
        assert not inline.servers[0].by_shared_memory
        assert np.array_equal(images(await inline.servers[0].run(batch)), shared)
    finally:
        await inline.close()


async def test_a_server_that_does_not_see_our_memory_gets_its_frames_along(servers, changes, tmp_path, monkeypatch):
    monkeypatch.setattr(regions, "FOLDER", tmp_path)
    backend = TritonBackend([servers[0].address], batch_seconds=30, on_change=changes)
    await backend.start()
    await asyncio.wait_for(backend.wait_ready(), 120)
    try:
        assert not backend.servers[0].by_shared_memory
        batch = batch_of([frame(4)], "rss")
        assert relative(images(await backend.servers[0].run(batch)), here(batch)) < TOLERANCE
    finally:
        await backend.close()
    assert list(tmp_path.iterdir()) == []


SABOTAGE = """
import recond_service.backends.triton.executor as executor

class Failing:
    def __init__(self, model):
        self.info = model.info

    def reconstruct(self, batch):
        raise RuntimeError("no such instruction")

load = executor._load
executor._load = lambda *arguments: Failing(load(*arguments))
"""


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """A server with a certificate, one model, and another one that fails on every frame."""
    folder = tmp_path_factory.mktemp("secure")
    done = CliRunner().invoke(triton, ["export", str(folder / "repository"), "--model", "rss", "--model", "tv"])
    assert done.exit_code == 0, done.output
    with (folder / "repository" / "recond-tv" / "1" / "model.py").open("a") as model:
        model.write(SABOTAGE)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    options = (
        "--grpc-use-ssl=true",
        f"--grpc-server-cert={folder / 'cert.pem'}",
        f"--grpc-server-key={folder / 'key.pem'}",
    )
    with triton_server(folder / "repository", folder / "log", 0, options, folder / "ca.pem", wait=False) as server:
        yield server


async def test_a_model_that_fails_is_its_own_matter(secure, changes):
    await asyncio.to_thread(secure.wait_ready, 240)
    backend = TritonBackend([secure.address], batch_seconds=30, ca=secure.ca, on_change=changes, patience=PATIENCE)
    await backend.start()
    await asyncio.wait_for(backend.wait_ready(), 120)
    (server,) = backend.servers
    with pytest.raises(DefectError, match="no such instruction") as failure:
        await server.run(batch_of([frame(4)], "tv"))
    assert failure.value.reason == "MODEL_FAILED"
    assert server.up
    assert [measured.model for measured in backend.measurements()] == ["rss"]
    await backend.close()


async def test_servers_are_checked_by_their_certificates(secure, changes, tmp_path):
    await asyncio.to_thread(secure.wait_ready, 240)
    batch = batch_of([frame(4)], "rss")
    backend = TritonBackend([secure.address], batch_seconds=30, ca=secure.ca, on_change=changes)
    await backend.start()
    await asyncio.wait_for(backend.wait_ready(), 120)
    assert relative(images(await backend.servers[0].run(batch)), here(batch)) < TOLERANCE
    await backend.close()
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    for ca in (None, tmp_path / "other.pem"):
        stranger = TritonBackend([secure.address], batch_seconds=30, ca=ca, on_change=changes)
        await stranger.start()
        await eventually_async(lambda stranger=stranger: stranger.servers[0].problem)
        assert not stranger.servers[0].up
        await stranger.close()


async def test_what_a_model_refuses_comes_back_typed_and_harms_nobody(backend):
    server = backend.servers[0]
    with pytest.raises(UnsupportedDataError, match="use the model rss") as refusal:
        await server.run(batch_of([frame(1)], "l1-wavelet"))
    assert refusal.value.reason == "MODEL_UNSUITABLE"
    assert server.up
    await server.run(batch_of([frame(4)], "l1-wavelet"))


async def test_a_model_that_a_server_lacks_is_named_with_the_server_and_the_remedy(backend):
    server = backend.servers[0]
    with pytest.raises(
        UnsupportedDataError, match=rf"{server.name}, which does not have it.* recond triton export"
    ) as missing:
        await server.run(batch_of([frame(4)], "tv"))
    assert missing.value.reason == "MODEL_NOT_ON_SERVER"
    assert server.up


async def test_frames_go_to_the_servers_that_have_their_model(backend, servers):
    one, two = backend.servers
    model = registry.find("l1-wavelet")
    name = interface.PREFIX + model.name
    scheduler = Scheduler(backend.servers, asyncio.get_running_loop().time)

    async def reconstruct(count: int) -> None:
        inputs = batch_of([frame(4, seed=seed) for seed in range(count)], model.name).frames
        futures = [asyncio.get_running_loop().create_future() for _ in inputs]
        for each, done in zip(inputs, futures, strict=True):
            scheduler.submit(FrameJob(model, each, "somebody", Priority.CLINICAL, None, done))
        for outcome in await asyncio.gather(*futures):
            outcome.frame.image.close()

    with servers[0].channel() as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        stub.RepositoryModelUnload(service_pb2.RepositoryModelUnloadRequest(model_name=name), timeout=30)
        await eventually_async(lambda: not one.has(model))
        assert two.has(model)
        await reconstruct(4)
        await asyncio.to_thread(
            lambda: stub.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name=name), timeout=60)
        )
    await eventually_async(lambda: one.has(model) and one.up)
    await reconstruct(2)
    await scheduler.close()


DYING = """
import asyncio, os, sys
from recond_service.backends.triton.connection import Connection
from recond_service.backends.triton.regions import Region

async def main():
    region = Region(1 << 20)
    await Connection(sys.argv[1], None).register(region)
    print(region.name, flush=True)
    os._exit(1)

asyncio.run(main())
"""


async def test_what_a_process_that_died_left_behind_is_removed(servers, changes):
    server = servers[0]
    command = [sys.executable, "-c", DYING, server.address]
    died = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
    name = died.stdout.strip()
    assert name in ours(), died.stderr
    assert name in registered(server)
    backend = TritonBackend([server.address], batch_seconds=30, on_change=changes)
    await backend.start()
    await asyncio.wait_for(backend.wait_ready(), 120)
    assert name not in ours()
    assert name not in registered(server)
    await backend.close()
    assert registered(server) == set()


async def test_a_server_killed_with_a_batch_is_down_until_it_makes_images_again(backend, servers, changes):
    one, two = backend.servers
    batch = batch_of([frame(8, 192, 160, seed=n) for n in range(6)], "l1-wavelet")
    lost = asyncio.ensure_future(one.run(batch))
    await asyncio.sleep(0.3)
    servers[0].kill()
    with pytest.raises(ServerLostError) as error:
        await lost
    assert error.value.begun
    assert not one.up
    with pytest.raises(ServerLostError) as refused:
        await one.run(batch)
    assert not refused.value.begun
    assert relative(images(await two.run(batch), 192, 160), here(batch)) < TOLERANCE
    servers[0].start(60)
    await changes.wait(one, up=True)
    assert one.by_shared_memory
    small = batch_of([frame(4)], "rss")
    assert relative(images(await one.run(small)), here(small)) < TOLERANCE


async def test_a_server_that_stands_still_loses_its_batch_and_comes_back(servers, changes):
    backend = TritonBackend([servers[1].address], batch_seconds=1.0, on_change=changes, patience=PATIENCE)
    await backend.start()
    await asyncio.wait_for(backend.wait_ready(), 120)
    (server,) = backend.servers
    os.kill(servers[1].process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(ServerLostError, match="took longer than"):
            await server.run(batch_of([frame(4)], "rss", predicted_seconds=0.01))
        assert not server.up
    finally:
        os.kill(servers[1].process.pid, signal.SIGCONT)
    await changes.wait(server, up=True)
    await server.run(batch_of([frame(4)], "rss"))
    await backend.close()


async def test_nothing_is_computed_for_a_batch_that_nobody_waits_for(backend, servers):
    server = backend.servers[0]
    frames = [frame(8, 192, 160, seed=n) for n in range(10)]
    whole = (await server.run(batch_of(frames, "l1-wavelet"))).seconds
    before = computed(servers[0], "recond-l1-wavelet")
    long, queued = batch_of(frames, "l1-wavelet"), batch_of(frames, "l1-wavelet")
    running, waiting = asyncio.ensure_future(server.run(long)), asyncio.ensure_future(server.run(queued))
    await asyncio.sleep(0.2)
    for batch in (queued, long):
        for number in range(10):
            batch.withdraw(number)
    assert (await waiting).frames == (await running).frames == (None,) * 10
    partly = batch_of([frame(4), frame(5), frame(6)], "l1-wavelet")
    partly.withdraw(1)
    outcome = await server.run(partly)
    assert [computed is None for computed in outcome.frames] == [False, True, False]
    assert server.up
    # The batch that ran was given up between two iterations, and the one that was queued never began.
    assert computed(servers[0], "recond-l1-wavelet") - before < outcome.seconds + 0.8 * whole
    # Neither of the regions that were given up stays with the server, which could not let go of that in use at first.
    await eventually_async(lambda: registered(servers[0]) <= set(ours()))


async def test_a_dead_python_process_is_noticed_and_started_anew_though_triton_says_that_it_is_ready(
    backend, servers, changes
):
    server = backend.servers[0]
    (process,) = servers[0].stubs("recond-rss")
    process.kill()
    await changes.wait(server, up=False)
    assert servers[0].says_ready()
    with pytest.raises(ServerLostError, match=r"is down: .*not healthy"):
        await server.run(batch_of([frame(4)], "rss"))
    await changes.wait(server, up=True)
    batch = batch_of([frame(4)], "rss")
    assert relative(images(await server.run(batch)), here(batch)) < TOLERANCE


async def test_a_server_that_shuts_down_ends_what_it_has_and_takes_no_more(servers, changes):
    backend = TritonBackend([servers[0].address], batch_seconds=30, on_change=changes, patience=PATIENCE)
    await backend.start()
    await asyncio.wait_for(backend.wait_ready(), 120)
    (server,) = backend.servers
    batch = batch_of([frame(8, 192, 160, seed=n) for n in range(6)], "l1-wavelet")
    running = asyncio.ensure_future(server.run(batch))
    await asyncio.sleep(0.3)
    servers[0].process.terminate()
    await asyncio.sleep(0.2)
    with pytest.raises(ServerLostError) as refused:
        await server.run(batch_of([frame(4)], "rss"))
    assert not refused.value.begun
    assert not server.up
    assert relative(images(await running, 192, 160), here(batch)) < TOLERANCE
    await backend.close()
    assert ours() == []
    servers[0].process.wait(30)
    servers[0].start(0)


def test_a_service_loses_no_request_when_a_triton_server_is_killed(servers, tmp_path):
    servers[0].wait_ready(240)
    kspace = np.stack([frame(8, 192, 160, seed=n).kspace for n in range(4)])
    wanted = here(batch_of([frame(8, 192, 160, seed=n) for n in range(4)], "l1-wavelet"))
    addresses = ",".join(server.address for server in servers)
    with (
        running(tmp_path / "log", "--backend", "triton", "--triton", addresses) as service,
        grpc.insecure_channel(service.address) as channel,
        ThreadPoolExecutor(6) as pool,
    ):
        stub = ReconstructionServiceStub(channel)
        calls = [pool.submit(reconstruct, stub, fastmri_file(kspace), model="l1-wavelet") for _ in range(6)]
        while service.metrics().get('recond_images_total{model="l1-wavelet"}', 0) < 1 and not calls[0].done():
            time.sleep(0.05)
        servers[0].kill()
        for call in calls:
            assert relative(call.result().volume, wanted) < 1e-4  # scaled by another power of two, and back
        assert service.metrics()['recond_frames_again_total{why="lost"}'] > 0
        # The same service, as any server of the KServe protocol.
        with tritonclient.InferenceServerClient(service.address) as client:
            assert client.is_model_ready("l1-wavelet")
            tensor = tritonclient.InferInput("KSPACE", (1, 8, 192, 160, 2), "FP32")
            tensor.set_data_from_numpy(kspace[:1].view(np.float32).reshape(1, 8, 192, 160, 2))
            image = client.infer("l1-wavelet", [tensor], priority=1).as_numpy("IMAGE")
        assert relative(image, wanted[:1]) < 1e-4
    assert ours() == []


async def test_a_server_with_a_dead_python_process_stays_down_where_nobody_may_start_it_anew(servers, changes):
    backend = TritonBackend([servers[1].address], batch_seconds=30, on_change=changes, patience=PATIENCE)
    await backend.start()
    await asyncio.wait_for(backend.wait_ready(), 120)
    (server,) = backend.servers
    (process,) = servers[1].stubs("recond-rss")
    process.kill()
    with pytest.raises(ServerLostError, match="not healthy"):
        await server.run(batch_of([frame(4)], "rss"))
    assert not server.up
    await eventually_async(lambda: "--model-control-mode=explicit" in server.problem)
    assert servers[1].says_ready()
    assert not server.up
    await backend.close()
