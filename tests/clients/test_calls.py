"""Both clients against a scripted peer over real connections."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
import trustme
from grpc_health.v1 import health_pb2

import recond_client
from recond.v1 import model_pb2
from recond.v1 import reconstruction_pb2 as pb
from recond_client import InputError, Progress, RecondError, RetryLaterError, RetryPolicy, ServiceError

KSPACE = np.ones((2, 2, 4, 3), np.complex64)
Call = Callable[..., Any]


@pytest.fixture(params=["sync", "aio"])
def call(request: pytest.FixtureRequest) -> Call:
    """Calls a method of either client, with its own connection, and tells what it slept."""

    def of_sync(target: str, method: str, *arguments: Any, slept: list[float] | None = None, **options: Any) -> Any:
        connection = {name: options.pop(name) for name in ("ca", "certificate", "key", "retry") if name in options}
        sleep = time.sleep if slept is None else slept.append
        with recond_client.Client(target, sleep=sleep, **connection) as client:
            return getattr(client, method)(*arguments, **options)

    def of_aio(target: str, method: str, *arguments: Any, slept: list[float] | None = None, **options: Any) -> Any:
        connection = {name: options.pop(name) for name in ("ca", "certificate", "key", "retry") if name in options}

        async def sleep(seconds: float) -> None:
            if slept is None:
                await asyncio.sleep(seconds)
            else:
                slept.append(seconds)

        async def run() -> Any:
            async with recond_client.aio.Client(target, sleep=sleep, **connection) as client:
                return await getattr(client, method)(*arguments, **options)

        return asyncio.run(run())

    return of_sync if request.param == "sync" else of_aio


async def good(peer: Any) -> None:
    await peer.accept()
    await peer.receive_all()
    await peer.plan(2)
    await peer.image(0, np.full((4, 3), 1.0), slice=1)
    await peer.image(1, np.full((4, 3), 2.0), slice=0)
    await peer.summary([1, 0], 4, 3, figures=pb.Figures(noise_level=0.1))


def data_of(conversation: Any, part: int = 0) -> bytes:
    return b"".join(m.chunk.data for m in conversation.received if m.HasField("chunk") and m.chunk.part == part)


def test_arrays_come_back_as_a_volume(peer: Any, call: Call) -> None:
    peer.scripts = [good]
    result = call(peer.target, "reconstruct", kspace=KSPACE, mask=[1, 0, 1], model="rss", priority="stat")
    assert result.images.shape == (2, 4, 3)
    assert result.images[:, 0, 0].tolist() == [2, 1]
    assert [index.slice for index in result.index] == [0, 1]
    assert (result.model, result.reason, result.request_id) == ("rss", "because", "r-1")
    assert result.seconds.compute == 0.25
    (conversation,) = peer.calls
    spec = conversation.received[0].spec
    assert (spec.model, spec.priority) == ("rss", pb.PRIORITY_STAT)
    assert data_of(conversation) == KSPACE.tobytes()
    assert data_of(conversation, 1) == bytes([1, 0, 1])


def test_large_file_in_chunks_with_progress(peer: Any, call: Call, tmp_path: Path) -> None:
    peer.scripts = [good]
    path = tmp_path / "scan.h5"
    path.write_bytes(np.random.default_rng(0).bytes(5_500_000))
    seen: list[Progress] = []
    call(peer.target, "reconstruct", path, on_progress=seen.append)
    (conversation,) = peer.calls
    assert data_of(conversation) == path.read_bytes()
    assert max(m.ByteSize() for m in conversation.received) < (1 << 20) + 100
    sent = [progress.sent_bytes for progress in seen]
    assert sent == sorted(sent)
    assert seen[-1] == Progress(5_500_000, 5_500_000, 2, 2, "rss")


def test_no_data_before_the_request_is_admitted(peer: Any, call: Call) -> None:
    early: list[Any] = []

    async def slow_to_accept(conversation: Any) -> None:
        await conversation.receive()
        waiting = asyncio.ensure_future(conversation.receive())
        await asyncio.sleep(0.15)
        early.append(waiting.done())
        await conversation.send(accepted=pb.Accepted(request_id="r-1"))
        await waiting
        await conversation.receive_all()
        await conversation.plan(0)
        await conversation.summary([], 0, 0)

    peer.scripts = [slow_to_accept]
    assert call(peer.target, "reconstruct", kspace=KSPACE).images.shape == (0, 0, 0)
    assert early == [False]


def test_rejection_in_the_middle_of_an_upload(peer: Any, call: Call, details: SimpleNamespace) -> None:
    async def reject(conversation: Any) -> None:
        await conversation.accept("r-5")
        await conversation.receive()
        await conversation.abort(
            grpc.StatusCode.INVALID_ARGUMENT,
            "not HDF5: send an ISMRMRD or fastMRI file",
            details.reason("NOT_HDF5"),
            details.bad_field("parts[0]"),
        )

    peer.scripts = [reject]
    seen: list[Progress] = []
    with pytest.raises(InputError) as caught:
        call(peer.target, "reconstruct", bytes(64 << 20), on_progress=seen.append)
    error = caught.value
    assert (error.status, error.reason, error.field) == ("INVALID_ARGUMENT", "NOT_HDF5", "parts[0]")
    assert error.request_id == "r-5"
    assert str(error) == "parts[0]: not HDF5: send an ISMRMRD or fastMRI file"
    assert seen[-1].sent_bytes < 48 << 20
    assert len(peer.calls) == 1


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_status_of_the_service_survives_failed_writes(peer: Any, kind: str, details: SimpleNamespace) -> None:
    """A write that fails because the call has just ended must not hide why it ended, whatever comes first."""

    async def reject(conversation: Any) -> None:
        await conversation.accept()
        await conversation.receive()
        await conversation.abort(grpc.StatusCode.FAILED_PRECONDITION, "no", details.reason("NOT_CARTESIAN"))

    peer.scripts = [reject]
    reasons: list[str] = []
    data = bytes(6 << 20)

    async def many() -> None:
        async with recond_client.aio.Client(peer.target) as client:
            for _ in range(60):
                with pytest.raises(InputError) as caught:
                    await client.reconstruct(data)
                reasons.append(caught.value.reason)

    if kind == "aio":
        asyncio.run(many())
    else:
        with recond_client.Client(peer.target) as client:
            for _ in range(60):
                with pytest.raises(InputError) as caught:
                    client.reconstruct(data)
                reasons.append(caught.value.reason)
    assert set(reasons) == {"NOT_CARTESIAN"}


def test_answer_before_the_end_of_the_upload(peer: Any, call: Call) -> None:
    async def impatient(conversation: Any) -> None:
        await conversation.accept()
        await conversation.receive()
        await conversation.plan(1)
        await conversation.image(0, np.ones((4, 3)))
        await conversation.summary([0], 4, 3)

    peer.scripts = [impatient]
    for _ in range(20):
        assert call(peer.target, "reconstruct", bytes(6 << 20)).shape == (1, 4, 3)


def test_overload_is_retried_after_the_hint(peer: Any, call: Call, details: SimpleNamespace) -> None:
    async def full(conversation: Any) -> None:
        await conversation.receive()
        await conversation.abort(
            grpc.StatusCode.RESOURCE_EXHAUSTED, "full", details.reason("OVERLOAD"), details.retry_in(7)
        )

    peer.scripts = [full, full, good]
    slept: list[float] = []
    assert call(peer.target, "reconstruct", kspace=KSPACE, slept=slept).images.shape == (2, 4, 3)
    assert len(slept) == 2
    assert all(7 < seconds < 9 for seconds in slept)
    assert data_of(peer.calls[0]) == b""


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
def test_lost_before_any_image_starts_again_from_the_first_byte(
    peer: Any, call: Call, tmp_path: Path, code: grpc.StatusCode
) -> None:
    async def lose(conversation: Any) -> None:
        await conversation.accept("first")
        await conversation.receive()
        await conversation.plan(2)
        await conversation.abort(code, "lost")

    peer.scripts = [lose, good]
    path = tmp_path / "scan.h5"
    path.write_bytes(b"0123456789" * 300_000)
    assert call(peer.target, "reconstruct", path, slept=[]).request_id == "r-1"
    assert data_of(peer.calls[1]) == path.read_bytes()


def test_lost_after_an_image_is_not_retried(peer: Any, call: Call) -> None:
    async def lose(conversation: Any) -> None:
        await conversation.accept()
        await conversation.receive_all()
        await conversation.plan(2)
        await conversation.image(0, np.ones((4, 3)))
        await conversation.abort(grpc.StatusCode.UNAVAILABLE, "worker lost")

    peer.scripts = [lose, good]
    slept: list[float] = []
    with pytest.raises(RetryLaterError) as caught:
        call(peer.target, "reconstruct", kspace=KSPACE, slept=slept)
    assert caught.value.request_id == "r-1"
    assert not slept
    assert len(peer.calls) == 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.FAILED_PRECONDITION, InputError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, InputError),
        (grpc.StatusCode.INTERNAL, ServiceError),
        (grpc.StatusCode.UNAUTHENTICATED, ServiceError),
    ],
)
def test_never_retried(
    peer: Any, call: Call, details: SimpleNamespace, code: grpc.StatusCode, kind: type[RecondError]
) -> None:
    async def fail(conversation: Any) -> None:
        await conversation.receive()
        await conversation.abort(code, "no", details.reason("WHY"))

    peer.scripts = [fail]
    slept: list[float] = []
    with pytest.raises(kind) as caught:
        call(peer.target, "reconstruct", kspace=KSPACE, slept=slept)
    assert caught.value.reason == "WHY"
    assert not slept


def test_deadline(peer: Any, call: Call) -> None:
    remaining: list[float] = []

    async def hang(conversation: Any) -> None:
        await conversation.accept()
        remaining.append(conversation.context.time_remaining())
        await asyncio.sleep(30)

    peer.scripts = [hang]
    with pytest.raises(RetryLaterError, match="within the timeout") as caught:
        call(peer.target, "reconstruct", kspace=KSPACE, timeout=0.4)
    assert caught.value.status == "DEADLINE_EXCEEDED"
    assert 0 < remaining[0] <= 0.5
    assert peer.ended.wait(5)


def test_service_that_goes_away(running: Any, call: Call) -> None:
    async def hang(conversation: Any) -> None:
        await conversation.accept()
        await conversation.receive_all()
        threading.Thread(target=running.stop).start()
        await asyncio.sleep(30)

    running.peer.scripts = [hang]
    with pytest.raises(RetryLaterError) as caught:
        call(running.peer.target, "reconstruct", kspace=KSPACE, retry=RetryPolicy(attempts=1))
    assert caught.value.status in {"UNAVAILABLE", "CANCELLED"}


def test_nobody_there(call: Call) -> None:
    slept: list[float] = []
    with pytest.raises(RetryLaterError, match=r"127\.0\.0\.1:1 cannot be reached"):
        call("127.0.0.1:1", "reconstruct", kspace=KSPACE, slept=slept, retry=RetryPolicy(attempts=3))
    assert len(slept) == 2


def test_broken_contract_cancels_the_call(peer: Any, call: Call) -> None:
    async def confused(conversation: Any) -> None:
        await conversation.receive()
        await conversation.plan(1)
        await asyncio.sleep(30)

    peer.scripts = [confused]
    with pytest.raises(ServiceError, match="plan while opened"):
        call(peer.target, "reconstruct", kspace=KSPACE)
    assert peer.ended.wait(5)


def test_what_a_progress_callback_raises_comes_out(peer: Any, call: Call) -> None:
    peer.scripts = [good]

    def stop(progress: Progress) -> None:
        if progress.sent_bytes:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        call(peer.target, "reconstruct", kspace=KSPACE, on_progress=stop)
    assert peer.ended.wait(5)


def test_file_that_shrinks_during_the_upload(peer: Any, call: Call, tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    path.write_bytes(bytes(50 << 20))

    async def shrink(conversation: Any) -> None:
        await conversation.accept()
        path.write_bytes(b"")
        await conversation.receive_all()
        await asyncio.sleep(30)

    peer.scripts = [shrink]
    with pytest.raises(InputError, match="became shorter"):
        call(peer.target, "reconstruct", path)
    assert peer.ended.wait(5)


def test_models(peer: Any, call: Call) -> None:
    peer.models = [model_pb2.Model(name="rss", version="1", kind="classical", ready=True)]
    (model,) = call(peer.target, "models")
    assert (model.name, model.version, model.kind, model.ready) == ("rss", "1", "classical", True)
    assert call(peer.target, "model", "rss") == model
    with pytest.raises(InputError) as caught:
        call(peer.target, "model", "none")
    assert (caught.value.status, caught.value.reason) == ("NOT_FOUND", "MODEL_NOT_FOUND")


def test_health(peer: Any, call: Call) -> None:
    assert call(peer.target, "health") == "SERVING"
    with pytest.raises(InputError):
        call(peer.target, "health", "none")


def test_wait_until_ready(peer: Any, call: Call) -> None:
    no, yes = health_pb2.HealthCheckResponse.NOT_SERVING, health_pb2.HealthCheckResponse.SERVING
    peer.serving = [no, no, yes]
    call(peer.target, "wait_until_ready", 10)
    peer.serving = [no]
    with pytest.raises(RetryLaterError, match="not ready after"):
        call(peer.target, "wait_until_ready", 0.3)


def test_tls(start_peer: Callable[..., Any], call: Call) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    ours = authority.issue_cert("127.0.0.1")
    credentials = grpc.ssl_server_credentials(
        [(ours.private_key_pem.bytes(), b"".join(blob.bytes() for blob in ours.cert_chain_pems))]
    )
    peer = start_peer(credentials).peer
    assert call(peer.target, "health", ca=authority.cert_pem.bytes()) == "SERVING"
    with pytest.raises(ServiceError, match="no TLS connection"):
        call(peer.target, "health", ca=stranger.cert_pem.bytes())
    with pytest.raises(RecondError):
        call(peer.target, "health")


def test_mutual_tls(start_peer: Callable[..., Any], call: Call, tmp_path: Path) -> None:
    authority = trustme.CA()
    ours, theirs = authority.issue_cert("127.0.0.1"), authority.issue_cert("gateway@ward.example")
    credentials = grpc.ssl_server_credentials(
        [(ours.private_key_pem.bytes(), ours.cert_chain_pems[0].bytes())],
        root_certificates=authority.cert_pem.bytes(),
        require_client_auth=True,
    )
    peer = start_peer(credentials).peer
    files = {"ca": authority.cert_pem, "certificate": theirs.cert_chain_pems[0], "key": theirs.private_key_pem}
    for name, blob in files.items():
        blob.write_to_path(str(tmp_path / name))
    assert call(peer.target, "health", **{name: tmp_path / name for name in files}) == "SERVING"
    with pytest.raises(RecondError):
        call(peer.target, "health", ca=tmp_path / "ca", timeout=3)
