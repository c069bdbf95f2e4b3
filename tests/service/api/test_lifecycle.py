"""Start, overload, death of the service's processes, draining, TLS."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import h5py
import numpy as np
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from recond_testing import (
    Service,
    collect,
    fastmri_file,
    limited,
    random_kspace,
    reconstruct,
    refusal,
    refused,
    requests_for,
    rss_of,
    running,
)
from waiting import eventually

from recond.v1 import reconstruction_pb2_grpc as pb_grpc
from recond_client import Client, RecondError, RetryLaterError, RetryPolicy

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
KSPACE = random_kspace(5, 4, 160, 160)
SLOW = fastmri_file(KSPACE, mask=np.arange(160) % 2 == 0)


@contextlib.contextmanager
def stub_of(service):
    with grpc.insecure_channel(service.address) as channel:
        yield pb_grpc.ReconstructionServiceStub(channel)


def slow_call(stub, kspace=KSPACE, **spec):
    """Start a call that computes for some seconds, and return it once it computes."""
    call = stub.Reconstruct(requests_for(fastmri_file(kspace), model="l1-wavelet", **spec), timeout=120)
    answer = []
    while not any(response.WhichOneof("message") == "plan" for response in answer):
        answer.append(next(call))
    return call


def health_changes(address: str, name: str) -> tuple[grpc.Channel, list[int]]:
    channel = grpc.insecure_channel(address)
    seen: list[int] = []
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=name))

    def follow() -> None:
        with contextlib.suppress(grpc.RpcError):
            for answer in watch:
                seen.append(answer.status)  # noqa: PERF401 - one by one, as they come

    threading.Thread(target=follow, daemon=True).start()
    return channel, seen


def small_file_of_a_large_frame(coils: int) -> bytes:
    """A file of some kilobytes whose one frame has 8 MiB a coil."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        shape = (1, coils, 1024, 1024)
        file.create_dataset(
            "kspace", shape, np.complex64, compression="gzip", fillvalue=np.complex64(1), chunks=(1, 1, 1024, 1024)
        )
    return buffer.getvalue()


@pytest.fixture(scope="module")
def battered(tmp_path_factory) -> Iterator[Service]:
    """A service whose processes are killed, which it survives."""
    with running(tmp_path_factory.mktemp("battered") / "log") as service:
        yield service


@pytest.fixture(scope="module")
def narrow(tmp_path_factory) -> Iterator[Service]:
    """A service with little of everything."""
    options = [
        "--max-requests",
        "1",
        "--scan-memory-bytes",
        "64MiB",
        "--max-frame-bytes",
        "200MiB",
        "--max-images",
        "5",
    ]
    with running(tmp_path_factory.mktemp("narrow") / "log", *options, most_files=256) as service:
        yield service


def lost(service: Service) -> float:
    return service.metrics()['recond_server_lost_total{server="worker-0"}']


def test_killed_worker_costs_no_image(battered):
    before = lost(battered)
    with stub_of(battered) as stub:
        channel, seen = health_changes(battered.address, "l1-wavelet")
        eventually(lambda: seen == [SERVING])
        call = slow_call(stub)
        battered.worker.kill()
        answer = collect(call)
        assert answer.summary.images == 5
        assert sorted(answer.images) == list(range(5))
        assert seen == [SERVING, NOT_SERVING, SERVING]
        assert lost(battered) == before + 1
        assert battered.metrics()['recond_server_up{server="worker-0"}'] == 1
        channel.close()


def test_worker_that_hangs_is_replaced(battered):
    before = lost(battered)
    with stub_of(battered) as stub:
        call = slow_call(stub)
        battered.worker.suspend()
        assert collect(call).summary.images == 5
        assert lost(battered) == before + 1


def test_killed_parser_ends_one_request_and_can_be_tried_again(battered):
    with stub_of(battered) as stub:
        call = slow_call(stub)
        for process in battered.zygote.children():
            process.kill()
        with pytest.raises(grpc.RpcError) as caught:
            collect(call)
        found = refusal(caught.value)
        assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "SCAN_PROCESS_KILLED")
        assert found.retry_after is not None
        battered.zygote.kill()
        kspace = random_kspace(1, 2, 16, 16)
        eventually(lambda: battered.events("zygote-died"))
        np.testing.assert_allclose(
            reconstruct(stub, fastmri_file(kspace), model="rss").volume, rss_of(kspace), rtol=1e-5
        )


def test_full_service_says_when_to_come_back_and_then_takes_the_request(narrow):
    with stub_of(narrow) as stub:
        call = slow_call(stub)
        found = refused(stub.Reconstruct(requests_for(SLOW), timeout=60))
        assert (found.code, found.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
        assert found.retry_after > 0
        assert collect(call).summary.images == 5
        assert reconstruct(stub, SLOW, model="rss").summary.images == 5
        assert narrow.metrics()['recond_rejected_total{reason="OVERLOADED"}'] == 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (small_file_of_a_large_frame(coils=16), "SCAN_MEMORY"),
        (small_file_of_a_large_frame(coils=32), "FRAME_TOO_LARGE"),
        (fastmri_file(random_kspace(6, 1, 16, 16)), "TOO_MANY_IMAGES"),
    ],
    ids=["memory", "frame", "images"],
)
def test_limits_of_a_request_hold(narrow, data, reason):
    with stub_of(narrow) as stub:
        found = refused(stub.Reconstruct(requests_for(data, model="rss"), timeout=60))
        assert (found.code, found.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, reason)
        assert found.retry_after is None
        assert reconstruct(stub, fastmri_file(random_kspace(1, 2, 16, 16)), model="rss").summary.images == 1


def test_first_signal_drains(tmp_path):
    with running(tmp_path / "log") as service, stub_of(service) as stub:
        channel, seen = health_changes(service.address, "")
        eventually(lambda: seen == [SERVING])
        call = slow_call(stub)
        service.process.terminate()
        eventually(lambda: seen[-1] == NOT_SERVING)
        found = refused(stub.Reconstruct(requests_for(SLOW), timeout=60))
        assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        assert found.retry_after is not None
        assert collect(call).summary.images == 5
        assert service.process.wait(30) == 0
        channel.close()


def test_a_signal_to_the_whole_process_group_lets_a_request_finish(tmp_path):
    """As from Ctrl-C in a terminal, or from systemd, which signal the processes below the service, too."""
    with running(tmp_path / "log") as service, stub_of(service) as stub:
        call = slow_call(stub)
        family = psutil.Process(service.process.pid).children(recursive=True)
        assert {os.getpgid(each.pid) for each in family} == {service.process.pid}, "the signal reaches them all"
        os.killpg(service.process.pid, signal.SIGTERM)
        answer = collect(call)
        assert sorted(answer.images) == list(range(5))
        assert answer.summary.images == 5
        assert service.process.wait(30) == 0
    assert not [event for name in ("worker-lost", "zygote-died") for event in service.events(name)]


def test_services_restarted_in_turn_cost_a_client_that_knows_both_no_request(tmp_path):
    file = tmp_path / "scan.h5"
    file.write_bytes(fastmri_file(random_kspace(1, 2, 32, 32)))
    services = [Service(tmp_path / name) for name in ("one", "two")]
    addresses = [service.address for service in services]
    over, served, failed = threading.Event(), [], []

    def ask():
        with Client(f"ipv4:{','.join(addresses)}") as client:
            while not over.wait(0.05):  # or nothing would be left of two cores for the services that start
                try:
                    served.append(client.reconstruct(file, model="rss").images.shape)
                except RecondError as error:
                    failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    try:
        for thread in threads:
            thread.start()
        for place, address in enumerate(addresses):
            before = len(served)
            eventually(lambda before=before: len(served) > before + 3)
            services[place].stop()
            before = len(served)
            eventually(lambda before=before: len(served) > before + 3)
            services[place] = Service(tmp_path / f"again-{place}", "--listen", address)
    finally:
        over.set()
        for thread in threads:
            thread.join(60)
        for service in services:
            service.stop()
    assert not failed
    assert set(served) == {(1, 32, 32)}


def test_a_client_that_knows_two_services_leaves_the_one_that_drains(service, tmp_path):
    file = tmp_path / "scan.h5"
    file.write_bytes(fastmri_file(random_kspace(1, 2, 32, 32)))
    with running(tmp_path / "one") as one, stub_of(one) as stub:
        with Client(f"ipv4:{one.address},{service.address}", retry=RetryPolicy(attempts=1)) as client:
            client.wait_until_ready()
            call = slow_call(stub, np.repeat(KSPACE, 20, axis=0))
            one.process.terminate()

            def served() -> bool:
                try:
                    client.reconstruct(file, model="rss")
                except RetryLaterError:
                    return False
                return True

            # Until its word has come, every other request is still sent to the one that drains.
            eventually(lambda: all(served() for _ in range(6)))
            assert one.process.poll() is None
            assert one.events("draining")
        call.cancel()


def test_calls_that_meet_a_stopping_service_are_told_so(tmp_path):
    """None is cancelled without a word, as gRPC does with calls that come while its event loop is busy."""
    requests = list(requests_for(fastmri_file(random_kspace(1, 2, 16, 16)), model="rss"))
    over, codes = threading.Event(), []
    with running(tmp_path / "log") as service:

        def ask():
            with stub_of(service) as stub:
                while not over.is_set():
                    try:
                        collect(stub.Reconstruct(iter(requests), timeout=20))
                    except grpc.RpcError as error:
                        codes.append(error.code())
                        over.wait(0.2)

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        eventually(lambda: service.metrics().get('recond_requests_total{status="OK"}', 0) >= len(threads))
        service.stop()
        over.set()
        for thread in threads:
            thread.join(30)
    assert set(codes) == {grpc.StatusCode.UNAVAILABLE}


@pytest.mark.parametrize("way", ["second signal", "grace period"])
def test_drain_ends(tmp_path, way):
    """Begun by a signal, or by the parent, which closes stdin."""
    options = ["--drain-seconds", "0.5"] if way == "grace period" else ["--drain-seconds", "100"]
    with running(tmp_path / "log", *options) as service, stub_of(service) as stub:
        children = [service.worker, service.zygote, *service.zygote.children()]
        call = slow_call(stub, np.repeat(KSPACE, 12, axis=0))
        children += service.zygote.children()
        if way == "second signal":
            service.process.terminate()
            eventually(lambda: service.events("draining"))
            service.process.terminate()
        else:
            service.process.stdin.close()
        assert service.process.wait(20) == 0
        with pytest.raises(grpc.RpcError) as caught:
            collect(call)
        assert caught.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        eventually(lambda: not any(child.is_running() for child in children))


def test_no_process_outlives_a_killed_service(tmp_path):
    with running(tmp_path / "log") as service, stub_of(service) as stub:
        call = slow_call(stub)
        children = [service.worker, service.zygote, *service.zygote.children()]
        assert len(children) >= 3
        service.process.kill()
        service.process.wait(10)
        eventually(lambda: not any(child.is_running() for child in children))
        with pytest.raises(grpc.RpcError) as caught:
            collect(call)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def serve(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "recond_service", "serve", *options],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )


def test_too_few_descriptors_are_refused_and_just_enough_serve(narrow):
    command = [*limited(100), sys.executable, "-m", "recond_service", "serve", "--listen", "127.0.0.1:0"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert "may have 100 files open" in result.stderr
    assert "ulimit -n" in result.stderr
    kspace = random_kspace(3, 2, 16, 16)
    with stub_of(narrow) as stub:
        assert psutil.Process(narrow.process.pid).rlimit(psutil.RLIMIT_NOFILE) == (256, 256)
        np.testing.assert_allclose(
            reconstruct(stub, fastmri_file(kspace), model="rss").volume, rss_of(kspace), rtol=1e-5
        )


def test_port_in_use_is_told(service):
    result = serve("--listen", service.address, "--metrics-listen", "")
    assert result.returncode == 2
    assert f"{service.address}: the port is taken" in result.stderr
    assert "Traceback" not in result.stderr


def test_settings_are_shown_from_all_sources_and_redacted(tmp_path: Path):
    key, certificate = tmp_path / "secret-key.pem", tmp_path / "certificate.pem"
    for file in (key, certificate):
        file.write_text("k")
    config = tmp_path / "recond.toml"
    config.write_text(f'tls_key = "{key}"\ntls_certificate = "{certificate}"\nmax_requests = 7\nmax_images = 9\n')
    result = serve("--config", str(config), "--show-config", "--max-images", "11", RECOND_MAX_REQUESTS="8")
    shown = json.loads(result.stdout)
    assert (shown["max_requests"], shown["max_images"], shown["tls_key"]) == (8, 11, "<set>")
    assert key.name not in result.stdout


def test_interrupted_start_leaves_nothing():
    process = subprocess.Popen(
        [sys.executable, "-m", "recond_service", "serve", "--listen", "127.0.0.1:0", "--metrics-listen", ""],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    family = psutil.Process(process.pid)

    def zygotes() -> list[psutil.Process]:
        found = []
        for child in family.children():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                found += [child] * any(word.endswith(".zygote") for word in child.cmdline())
        return found

    eventually(zygotes)  # by now signals are handled
    started = family.children(recursive=True)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert psutil.wait_procs(started, 10)[1] == []
