"""What goes over the wires: to KServe, over HTTP, to a real recond."""

from __future__ import annotations

import base64
import http.server
import io
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from gateway_process import gateway_process
from recond_testing import Service, rss_of
from waiting import eventually

from recond_gateway.mrd import writer
from recond_loadtest import (
    Scenario,
    ScenarioError,
    TargetSettings,
    WireError,
    open_target,
    prepare,
    prepare_inputs,
    run,
)
from recond_loadtest.arrivals import Arrivals
from recond_loadtest.inputs import faulty
from recond_loadtest.request_class import Faults, InputSettings, RequestClass
from recond_loadtest.scenario import GeneratorSettings, Peak
from recond_loadtest.target_settings import Event
from recond_loadtest.wires import Call, End, Job, MrdWire
from recond_loadtest.wires.mrd import EncodedScan

_SMALL = InputSettings(coils=3, rows=32, columns=48, calibration_lines=8)


def scenario(target: TargetSettings, *classes: RequestClass, **changes: object) -> Scenario:
    settings = {
        "name": "test",
        "classes": classes or (RequestClass("a", (_SMALL,)),),
        "arrivals": Arrivals(process="constant", rate=20.0),
        "duration": 1.0,
        "warm_up": 0.2,
        "model": "rss",
        "target": target,
        "generator": GeneratorSettings(bound=30.0, lag_seconds=0.5),
    }
    return Scenario(**{**settings, **changes})


def test_inputs_are_the_same_every_time_and_faults_are_faults() -> None:
    settings = scenario(TargetSettings(address="nowhere"))
    (scan,), (again,) = (prepare_inputs(settings).values() for _ in range(2))
    assert np.array_equal(scan.kspace, again.kspace)
    assert scan.kspace.shape == (1, 3, 32, 48)
    assert not scan.kspace[..., ~scan.lines].any()
    poison = faulty(scan, "poison")
    assert np.isnan(poison.kspace).any()
    assert np.isfinite(scan.kspace).all(), "the good one is left alone"
    cut = faulty(scan, "truncate")
    assert cut.file.startswith(b"\x89HDF")
    assert cut.size == len(cut.file) > 0


def test_what_cannot_be_simulated_is_named() -> None:
    bad = RequestClass("a", (InputSettings(rows=8),))
    with pytest.raises(ScenarioError, match=r"classes\.a\.inputs\[0\]: rows must be from 16"):
        prepare_inputs(scenario(TargetSettings(address="nowhere"), bad))
    missing = RequestClass("a", (InputSettings(file=Path("none.h5")),))
    with pytest.raises(ScenarioError, match=r"classes\.a\.inputs\[0\]: .*none\.h5"):
        prepare_inputs(scenario(TargetSettings(address="nowhere"), missing))


@pytest.mark.parametrize("in_shared_memory", [False, True])
def test_kserve_gets_frames_with_padded_coils(kserve, in_shared_memory: bool) -> None:
    target = TargetSettings(
        kind="kserve",
        address=kserve.address,
        model="recon_{rows}x{columns}",
        pad_coils=4,
        shared_memory=in_shared_memory,
    )
    volume = RequestClass("volume", (InputSettings(coils=3, slices=3, rows=32, columns=48, calibration_lines=8),))
    settings = scenario(target, volume)
    inputs = prepare_inputs(settings)
    with open_target(target, settings.clients) as opened:
        load = prepare(settings, opened, inputs)
        result = run(settings, opened, inputs=inputs)
    ((scan,), (images,)) = inputs.values(), load.expected.values()
    assert np.allclose(np.stack(images), rss_of(scan.kspace), rtol=1e-5)
    assert set(kserve.shapes) == {(1, 4, 32, 48, 2)}
    assert set(kserve.models) == {"recon_32x48"}
    outcomes = result.outcomes()
    assert outcomes.ok == outcomes.compared == 20
    assert outcomes.wrong == 0
    assert result.records[0].frames == 3
    assert result.rates().frames == pytest.approx(3 * result.rates().throughput)
    assert not list(Path("/dev/shm").glob("recond-loadtest-*"))  # noqa: S108


def test_files_are_for_recond_only(kserve) -> None:
    target = TargetSettings(kind="kserve", address=kserve.address)
    file = RequestClass("file", (InputSettings(rows=32, columns=32, calibration_lines=8, format="fastmri"),))
    with pytest.raises(WireError, match="a KServe server takes arrays"):
        run(scenario(target, file))


class _Posted(http.server.BaseHTTPRequestHandler):
    """Root sum of squares behind HTTP; every seventh request is turned away."""

    protocol_version = "HTTP/1.1"
    count = 0

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(200, b"ok")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).count += 1
        if type(self).count % 7 == 0:
            self._answer(503, b"busy", ("Retry-After", "2"))
            return
        if self.headers["Content-Type"] == "application/json":
            fields = json.loads(body)
            kspace = np.frombuffer(base64.b64decode(fields["kspace"]), np.complex64).reshape(fields["shape"])
            image = rss_of(kspace)
            answer = {"images": base64.b64encode(image.tobytes()).decode(), "shape": image.shape}
            self._answer(200, json.dumps(answer).encode())
        else:
            buffer = io.BytesIO()
            np.save(buffer, rss_of(np.load(io.BytesIO(body))["kspace"]))
            self._answer(200, buffer.getvalue())

    def _answer(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (("Content-Length", str(len(body))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def posting() -> Iterator[str]:
    _Posted.count = 0
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Posted)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/predict"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("encoding", ["npz", "json"])
def test_http(posting: str, encoding: str) -> None:
    result = run(scenario(TargetSettings(kind="http", address=posting, encoding=encoding)))
    outcomes = result.outcomes()
    assert outcomes.requests == 20
    assert outcomes.errors == {("HTTP 503", ""): outcomes.error}
    assert 2 <= outcomes.error <= 3
    assert {one.retry_after for one in result.measured if one.outcome == "error"} == {2.0}
    assert outcomes.ok == outcomes.compared == 20 - outcomes.error
    assert outcomes.wrong == 0


def test_recond_answers_every_request_once(service: Service) -> None:
    """Arrays and files, volumes, poison, cut files, cancellations and slow uploads beside each other."""
    target = TargetSettings(address=service.address)
    faults = Faults(poison=0.1, truncate=0.1, cancel=0.15, cancel_within=0.02, slow=0.1, slow_bytes_per_second=30_000)
    classes = (
        RequestClass("arrays", (_SMALL,), weight=3, priority="stat", deadline=20.0),
        RequestClass(
            "volume", (InputSettings(coils=2, slices=3, rows=32, columns=32, calibration_lines=8),), client="two"
        ),
        RequestClass(
            "file",
            (InputSettings(coils=2, rows=32, columns=32, calibration_lines=8, format="fastmri"),),
            outputs=("h5",),
        ),
    )
    settings = scenario(target, *classes, faults=faults, duration=3.0, arrivals=Arrivals(rate=25.0), seed=12)
    result = run(settings)
    assert [record.number for record in result.records] == list(range(len(result.records)))
    outcomes = result.outcomes()
    assert outcomes.ok + outcomes.error + outcomes.cancelled == outcomes.requests
    assert outcomes.lost == outcomes.innocent_failures == outcomes.accepted_faults == outcomes.wrong == 0
    assert outcomes.compared == outcomes.ok
    assert {status for status, _ in outcomes.errors} == {"INVALID_ARGUMENT"}
    by_fault = {
        fault: [one for one in result.measured if one.fault == fault] for fault in ("poison", "truncate", "slow")
    }
    assert all(by_fault.values())
    assert all(one.outcome == "error" and one.reason for fault in ("poison", "truncate") for one in by_fault[fault])
    size = 3 * 32 * 48 * 8
    slow = [one.latency or 0 for one in by_fault["slow"] if one.kind == "arrays"]
    assert slow
    assert min(slow) > 0.9 * size / 30_000
    volumes = [one for one in result.measured if one.kind == "volume"]
    assert all(one.frames == 3 for one in volumes)
    assert all(one.first_image is not None for one in volumes if one.outcome == "ok")


def test_recond_gives_one_image_over_both_wires(service: Service) -> None:
    own, facade = (TargetSettings(kind=kind, address=service.address) for kind in ("recond", "kserve"))
    settings = scenario(own)
    inputs = prepare_inputs(settings)
    with open_target(own, settings.clients) as opened:
        expected = prepare(settings, opened, inputs).expected
    result = run(scenario(facade), inputs=inputs, expected=expected)
    outcomes = result.outcomes()
    assert outcomes.ok == outcomes.compared == outcomes.requests
    assert outcomes.wrong == 0


def test_processes_are_stopped_continued_restarted_and_ended() -> None:
    target = TargetSettings(
        kind="http", command="python -m http.server --bind 127.0.0.1 {port}", address="http://127.0.0.1:{port}/"
    )
    with open_target(target, ["client"]) as opened:
        process = opened.process
        with pytest.raises(WireError, match="no process of the target fits"):
            process.hurt("stop", r"http\.server")  # the target itself is not below the target
        before = process.usage()
        assert before.processes == 1
        assert before.rss_bytes > 1e6
        first = psutil.Process().children()
        pid = process.restart()
        assert pid not in {child.pid for child in first}
        assert process.usage().cpu_seconds >= before.cpu_seconds
        eventually(opened.wire.ready)
    assert not psutil.pid_exists(pid)
    # A shell that waits for its child: below the target there is a process to hurt.
    nested = replace(target, command=f"sh -c '{target.command}; true'")
    with open_target(nested, ["client"]) as opened:
        pid = opened.process.hurt("stop", r"http\.server")
        child = psutil.Process(pid)
        eventually(lambda: child.status() == psutil.STATUS_STOPPED)
        assert opened.process.hurt("continue", r"http\.server") == pid
        opened.process.hurt("stop", r"http\.server")
    assert not psutil.pid_exists(pid), "a stopped process is ended, too"


def test_a_target_started_for_the_run_is_measured_refuses_and_is_hurt() -> None:
    target = TargetSettings(
        command="python -m recond_service serve --stop-with-stdin --compute-threads 1 --max-requests 2 "
        "--listen 127.0.0.1:{port} --metrics-listen 127.0.0.1:{metrics_port}",
        metrics="http://127.0.0.1:{metrics_port}/metrics",
        environment={"OMP_WAIT_POLICY": "PASSIVE"},
    )
    burst = Arrivals(process="bursts", rate=60.0, burst=20)
    crowded = scenario(target, arrivals=burst, duration=1.2)
    events = (Event(0.5, "kill", "recond-worker|embedded.worker"), Event(1.0, "kill", "no-such-process"))
    hurt = scenario(target, arrivals=Arrivals(process="constant", rate=5.0), duration=6.0, events=events)
    begin = time.monotonic()
    with open_target(target, crowded.clients) as opened:
        refused = run(crowded, opened)
        result = run(hurt, opened)

    # Refused before the upload: at once, and with the time to wait.
    outcomes = refused.outcomes()
    assert {status for status, _ in outcomes.errors} == {"RESOURCE_EXHAUSTED"}
    assert outcomes.ok > 0
    assert all((one.retry_after or 0) > 0 for one in refused.measured if one.outcome == "error")
    assert outcomes.lost == outcomes.wrong == 0

    assert result.outcomes().lost == result.outcomes().wrong == 0
    killed, missing = result.recoveries()
    assert killed.event.pid > 0
    assert killed.first_success is not None
    assert "no process of the target fits" in missing.event.error
    assert any("a fault was not carried out" in reason for reason in result.void)
    assert 0 < (result.usage.start_to_ready or 0) < time.monotonic() - begin
    assert result.usage.cpu_seconds > 0
    assert result.usage.rss_peak_bytes > 50e6
    assert [one.count for one in result.server.histograms if one.name == "recond_request_seconds"] == [
        pytest.approx(result.outcomes().requests, abs=3)
    ]


def test_scanners_at_their_own_rate_through_a_gateway(service: Service, tmp_path: Path) -> None:
    volume = RequestClass(
        "scan", (InputSettings(coils=3, slices=3, rows=32, columns=48, calibration_lines=8, format="ismrmrd"),)
    )
    with gateway_process(tmp_path, service.address) as (_, address):
        target = TargetSettings(kind="mrd", address=address, rate=4.0)
        peak = Peak(requests=6, outstanding=3, warm_up=1)
        settings = scenario(target, volume, mode="offline", peak=peak, model="default")
        inputs = prepare_inputs(settings)
        with open_target(target, settings.clients) as opened:
            load = prepare(settings, opened, inputs)
            result = run(settings, opened, inputs=inputs)
    ((scan,), (images,)) = inputs.values(), load.expected.values()
    assert len(images) == 3
    for image, whole in zip(images, rss_of(scan.kspace), strict=True):
        assert np.corrcoef(image.ravel(), whole.ravel())[0, 1] > 0.95
    outcomes = result.outcomes()
    assert (outcomes.ok, outcomes.compared, outcomes.wrong) == (6, 6, 0)
    for record in result.records:
        assert record.first_image < record.end


def test_what_a_scanner_is_told_is_the_end_of_its_request(service: Service, tmp_path: Path) -> None:
    with gateway_process(tmp_path, service.address) as (_, address):
        wire = MrdWire(0)
        wire.connect(address, ["client"])
        assert wire.ready()
        ends: list[End] = []
        broken = EncodedScan((writer.config_file("a"), writer.config_file("b")), (), timed=False, timing="")
        wire.send(Call(1, 30.0, time.monotonic, lambda _, end: ends.append(end)), broken, "client")
    assert (ends[0].status, ends[0].reason) == ("ERROR", "SECOND_CONFIG")
    wire.send(Call(2, 5.0, time.monotonic, lambda _, end: ends.append(end)), broken, "client")
    assert (ends[1].status, ends[1].reason) == ("UNAVAILABLE", "NO_GATEWAY")
    assert not wire.ready()


def test_scanners_send_acquisitions() -> None:
    (scan,) = prepare_inputs(scenario(TargetSettings(address="nowhere"))).values()
    with pytest.raises(WireError, match="ismrmrd"):
        MrdWire().encode(Job(scan, "default"))
