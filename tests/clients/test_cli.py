"""The command line: what it sends, prints and returns, against a scripted peer and against services that misbehave."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import grpc
import numpy as np
import psutil
import pytest
from click.testing import CliRunner, Result
from waiting import eventually

from recond.v1 import model_pb2
from recond.v1 import reconstruction_pb2 as pb
from recond_client import embedded
from recond_client.cli import main
from recond_client.client import Client
from recond_client.embedded import EmbeddedService
from recond_client.errors import RetryLaterError
from recond_client.late import LateGroup


def recond(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RECOND_SERVER", raising=False)
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "scan.h5"
    path.write_bytes(b"raw" * 1000)
    return path


async def good(peer: Any) -> None:
    await peer.accept()
    await peer.receive_all()
    await peer.plan(1)
    await peer.image(0, np.ones((4, 3)))
    for output in peer.received[0].spec.outputs:
        data = f"file {output}".encode()
        await peer.send(file_chunk=pb.FileChunk(format=output, size_bytes=len(data), data=data))
    await peer.summary(
        [0],
        4,
        3,
        figures=pb.Figures(ssim=0.62, psnr=33.5, ssim_object=0.945, psnr_object=34.5, nmse_object=0.01),
        reference="file",
        findings=[pb.Finding(code="odd-thing", severity=pb.SEVERITY_WARNING, message="Something odd.", count=2)],
    )


def test_json(peer: Any, scan: Path) -> None:
    peer.scripts = [good]
    result = recond("reconstruct", scan, "-o", "a.nii.gz", "-o", "b.png", "--server", peer.target, "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer == {
        "model": "rss",
        "version": "1",
        "weights_sha256": "",
        "reason": "because",
        "evidence": None,
        "request_id": "r-1",
        "slices": 1,
        "shape": [1, 4, 3],
        "stacks": [],
        "heads": {},
        "reference": "file",
        "figures": {"ssim": 0.62, "psnr": 33.5, "ssim_object": 0.945, "psnr_object": 34.5, "nmse_object": 0.01},
        "seconds": {
            "upload": 0,
            "ingest": 0,
            "conditioning": 0,
            "queue": 0,
            "compute": 0.25,
            "encode": 0,
            "total": 0.5,
        },
        "findings": [{"code": "odd-thing", "severity": "warning", "message": "Something odd.", "count": 2}],
        "outputs": ["a.nii.gz", "b.png"],
    }
    assert Path("a.nii.gz").read_text() == "file 3"
    assert Path("b.png").read_text() == "file 4"


def test_options_reach_the_service(peer: Any, scan: Path) -> None:
    peer.scripts = [good]
    options = (
        "--model cg-sense --model-version 2 --undersample random:8:0.04 --heads a,b --priority stat --timeout 20 "
        "--partial-fourier pocs --virtual-coils 8 --coil-energy 0.99"
    )
    result = recond("reconstruct", scan, *options.split(), "--reference", scan, "--server", peer.target)
    assert result.exit_code == 0, result.output
    spec = peer.calls[0].received[0].spec
    assert (spec.model, spec.model_version, list(spec.heads), spec.priority) == (
        "cg-sense",
        "2",
        ["a", "b"],
        pb.PRIORITY_STAT,
    )
    assert spec.undersampling.acceleration == 8
    assert spec.conditioning == pb.Conditioning(
        partial_fourier=pb.PARTIAL_FOURIER_POCS, virtual_coils=8, coil_energy=0.99
    )
    assert [part.role for part in spec.parts.parts] == [pb.PART_ROLE_KSPACE, pb.PART_ROLE_REFERENCE]
    assert spec.parts.parts[0].name == "scan.h5"


def test_for_people_and_the_default_output(peer: Any, scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peer.scripts = [good]
    monkeypatch.setenv("RECOND_SERVER", peer.target)
    result = recond("reconstruct", scan)
    assert result.exit_code == 0, result.output
    for text in (
        "rss 1",
        "SSIM",
        "0.6200",
        "SSIM in the object",
        "0.9450",
        "34.50 dB",
        "33.50 dB",
        "compute",
        "Something odd.",
        "[odd-thing]",
        "wrote scan_recon.h5",
    ):
        assert text in result.stdout
    assert "sending" not in result.stderr
    assert Path("scan_recon.h5").read_text() == "file 1"


def test_progress_on_a_terminal(peer: Any, scan: Path) -> None:
    peer.scripts = [good]
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "recond_client", "reconstruct", str(scan), "--server", peer.target, "--json"]
    shown = {}
    for flag in ("--json", "--model=rss"):
        command[-1] = flag
        subprocess.run(
            command, stderr=theirs, stdout=subprocess.DEVNULL, env={**os.environ, "TERM": "xterm"}, check=True
        )
        os.set_blocking(ours, False)
        try:
            shown[flag] = os.read(ours, 1 << 16).decode()
        except BlockingIOError:
            shown[flag] = ""
    os.close(ours)
    os.close(theirs)
    assert shown["--json"] == ""
    assert "reconstructing (rss)" in shown["--model=rss"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["-o", "out.dcm"],
        ["-o", "out"],
        ["-o", ".h5"],
        ["-o", "nowhere/out.h5"],
        ["-o", "in/scan.h5"],
        ["--undersample", "poisson:3"],
        ["--priority", "urgent"],
        ["--partial-fourier", "homodyne"],
        ["--virtual-coils", "-1"],
        ["--coil-energy", "1.5"],
        ["--timeout", "0"],
        ["--unheard-of"],
        ["--ca", "x.pem"],
        ["--server", "nonsense"],
    ],
)
def test_usage(scan: Path, arguments: list[str]) -> None:
    result = recond("reconstruct", scan, *arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert scan.read_bytes() == b"raw" * 1000


def test_missing_input_needs_no_service(scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_command", lambda: pytest.fail("a service was started"))
    result = recond("reconstruct", "nowhere.h5")
    assert result.exit_code == 3
    assert "nowhere.h5 does not exist" in result.stderr


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, 3),
        (grpc.StatusCode.NOT_FOUND, 3),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 4),
        (grpc.StatusCode.INTERNAL, 5),
    ],
)
def test_exit_codes(peer: Any, scan: Path, details: SimpleNamespace, code: grpc.StatusCode, exit_code: int) -> None:
    async def fail(conversation: Any) -> None:
        await conversation.accept("r-77")
        await conversation.abort(code, "what is wrong; what to do", details.reason("WHY"), details.bad_field("data[3]"))

    peer.scripts = [fail]
    result = recond("reconstruct", scan, "--json", "--server", peer.target)
    assert result.exit_code == exit_code
    assert result.stdout == ""
    for text in ("what is wrong; what to do", "data[3]", "WHY", "r-77", code.name):
        assert text in result.stderr
    assert "Traceback" not in result.stderr
    assert not Path("scan_recon.h5").exists()


def test_unreachable_server(scan: Path) -> None:
    result = recond("reconstruct", scan, "--server", "127.0.0.1:1", "--timeout", "0.5")
    assert result.exit_code == 4
    assert "127.0.0.1:1" in result.stderr


def test_models(peer: Any) -> None:
    peer.models = [model_pb2.Model(name="rss", version="1", kind="classical", description="Sum of squares.")]
    assert "Sum of squares." in recond("models", "list", "--server", peer.target).stdout
    listed = json.loads(recond("models", "list", "--json", "--server", peer.target).stdout)
    assert listed["models"][0]["name"] == "rss"
    assert json.loads(recond("models", "show", "rss", "--json", "--server", peer.target).stdout) == listed["models"][0]
    assert "classical" in recond("models", "show", "rss", "--server", peer.target).stdout
    assert recond("models", "show", "none", "--server", peer.target).exit_code == 3


def test_a_head_is_shown_with_what_it_takes_and_returns(peer: Any) -> None:
    groups = [model_pb2.HeadGroup(name="structure", classes=["background", "grey matter", "white matter"])]
    head = model_pb2.HeadContract(
        task="segmentation", groups=groups, slices=5, fewest_slices=3, coarsest_pixel_mm=3, coarsest_slice_mm=8
    )
    peer.models = [model_pb2.Model(name="tissue", version="1", kind="head", head=head)]
    shown = recond("models", "show", "tissue", "--server", peer.target).stdout
    for text in ("grey matter, white matter", "3 or more, up to 8 mm apart", "up to 3 mm", "any"):
        assert text in shown
    assert "background" not in shown
    told = json.loads(recond("models", "show", "tissue", "--json", "--server", peer.target).stdout)["head"]
    assert (told["task"], told["groups"]["structure"][1], told["contrasts"]) == ("segmentation", "grey matter", [])


def test_models_fit_a_narrow_terminal(peer: Any) -> None:
    words = "A description of some length, which tells what the model does and what it needs to do it well."
    peer.models = [
        model_pb2.Model(name="unrolled-brain-fast", version="1", kind="network", ready=True, description=words)
    ]
    lines = recond("models", "list", "--server", peer.target).stdout.splitlines()
    assert lines[0] == "unrolled-brain-fast 1 (network)"
    assert len(lines) == 3
    assert max(map(len, lines)) <= 80
    assert " ".join(" ".join(lines[1:]).split()) == words


def test_models_are_a_table_on_a_wide_terminal(peer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    peer.models = [model_pb2.Model(name="rss", version="1", kind="classical", description="Sum of squares.")]
    head, *_, row = recond("models", "list", "--server", peer.target).stdout.strip().splitlines()
    assert head.split() == ["name", "version", "kind", "ready", "calibration", "description"]
    assert row.split() == ["rss", "1", "classical", "no", "-", "Sum", "of", "squares."]


def test_an_output_is_written_once(peer: Any, scan: Path) -> None:
    peer.scripts = [good]
    result = recond("reconstruct", scan, "-o", "a.h5", "-o", "./a.h5", "--json", "--server", peer.target)
    assert len(json.loads(result.stdout)["outputs"]) == 1


def test_ctrl_c(scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "reconstruct", interrupted)
    result = recond("reconstruct", scan, "--server", "localhost:1")
    assert (result.exit_code, result.stderr) == (130, "recond: stopped; nothing was written\n")
    monkeypatch.setattr(Client, "models", interrupted)
    result = recond("models", "list", "--server", "localhost:1")
    assert (result.exit_code, result.stderr) == (130, "recond: stopped\n")


def test_version_and_help() -> None:
    assert recond("--version").output.startswith("recond, version ")
    assert recond("reconstruct", "--help").exit_code == 0
    assert recond("no-such-command").exit_code == 2
    assert recond().exit_code == 2


# --- commands of other packages ---


@click.command()
def hello() -> None:
    """Say hello."""
    click.echo("hello")


def entries(**targets: str) -> EntryPoints:
    return EntryPoints(EntryPoint(name, target, "recond.commands") for name, target in targets.items())


def test_registered_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "greetings", SimpleNamespace(hello=hello, no_command=17))
    found = entries(
        hello="greetings:hello", lost="recond_no_such_module.serve:serve", broken="greetings:no_command", models="a:b"
    )
    monkeypatch.setattr(LateGroup, "_entry_points", lambda self: found)
    assert recond("hello").output == "hello\n"
    text = recond("--help").output
    assert text.count("\n  models ") == 1
    assert "hello" in text
    lost = recond("lost")
    assert lost.exit_code == 2
    assert "pip install 'recond[server]'" in lost.stderr
    assert "recond_no_such_module" in lost.stderr
    assert recond("broken").exit_code == 1


# --- the embedded service ---


def fake(code: str) -> list[str]:
    return [sys.executable, "-c", code]


READY = "import sys, time; print('recond: listening on 127.0.0.1:4711', flush=True);"


def test_ready_line_and_end() -> None:
    with EmbeddedService(fake(READY + "sys.stdin.read()")) as service:
        assert service.target == "127.0.0.1:4711"
        assert not service.died()
    assert service.died()


def test_service_that_ignores_sigterm_is_killed() -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + READY + "time.sleep(60)"
    with EmbeddedService(fake(code), stop_seconds=0.2) as service:
        assert service._process is not None
        process = service._process
    assert process.returncode == -signal.SIGKILL


def test_service_that_dies_is_quoted() -> None:
    code = "import sys; print('no such device', file=sys.stderr); sys.exit(7)"
    with pytest.raises(RetryLaterError, match=r"(?s)ended with code 7.*no such device"), EmbeddedService(fake(code)):
        pass


def test_reading_the_log_does_not_disturb_it() -> None:
    lines = "\nfor i in range(30): print('line', i, file=sys.stderr, flush=True); sys.stdin.readline()"
    with EmbeddedService(fake(READY + lines)) as service:
        assert service._process is not None
        assert service._process.stdin is not None
        for count in range(1, 31):
            eventually(lambda count=count: f"line {count - 1}" in service.last_words())
            assert service.last_words().splitlines() == [f"line {i}" for i in range(count)][-20:]
            service._process.stdin.write(b"\n")
            service._process.stdin.flush()


def test_service_that_never_gets_ready() -> None:
    service = EmbeddedService(fake("import time; time.sleep(60)"), start_seconds=0.3)
    with pytest.raises(RetryLaterError, match=r"not ready after 0\.3 s"), service:
        pass
    assert service.died()


def test_without_the_server_extra(monkeypatch: pytest.MonkeyPatch, scan: Path) -> None:
    monkeypatch.setattr(embedded, "_NEEDS", ("recond_no_such_module",))
    result = recond("reconstruct", scan)
    assert result.exit_code == 4
    assert "pip install 'recond[server]'" in result.stderr


def test_service_ends_when_its_parent_is_killed() -> None:
    child = READY + "sys.stdin.read()"
    parent = subprocess.Popen(
        fake(
            "import sys, time; from recond_client.embedded import EmbeddedService\n"
            f"with EmbeddedService([sys.executable, '-c', {child!r}]) as service:\n"
            "    print(service._process.pid, flush=True); time.sleep(60)"
        ),
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        service = psutil.Process(int(parent.stdout.readline()))
        os.kill(parent.pid, signal.SIGKILL)
    service.wait(10)


def test_whole_command_with_a_service_of_its_own(scan: Path) -> None:
    """The real service: starts, answers, ends."""
    import h5py

    rng = np.random.default_rng(0)
    with h5py.File("full.h5", "w") as file:
        file["kspace"] = (rng.normal(size=(1, 2, 32, 24)) + 1j * rng.normal(size=(1, 2, 32, 24))).astype(np.complex64)
    command = [sys.executable, "-m", "recond_client", "reconstruct", "full.h5", "--model", "rss", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["model"], answer["slices"]) == ("rss", 1)
    assert all(seconds >= 0 for seconds in answer["seconds"].values())
    with h5py.File("full_recon.h5") as file:
        assert file["reconstruction"].shape == tuple(answer["shape"])
        assert file["reconstruction"].dtype == np.float32
