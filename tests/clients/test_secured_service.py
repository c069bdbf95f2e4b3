"""The real service with mutual TLS and metrics, as an operator runs it, and the clients that talk to it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import trustme
from click.testing import CliRunner
from waiting import eventually

import recond_client
from recond_client import RecondError
from recond_client.cli import main
from recond_client.embedded import EmbeddedService

SERVE = [sys.executable, "-m", "recond_service", "serve"]


@dataclass
class Secured:
    target: str
    metrics_port: int
    folder: Path

    def pem(self, name: str) -> Path:
        return self.folder / f"{name}.pem"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    service, gateway = authority.issue_cert("127.0.0.1"), authority.issue_cert("gateway@ward.example")
    for name, issued in (
        ("service", service),
        ("gateway", gateway),
        ("stranger", stranger.issue_cert("x@ward.example")),
    ):
        issued.private_key_pem.write_to_path(str(folder / f"{name}-key.pem"))
        issued.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
    return folder


@pytest.fixture(scope="module")
def secured(certificates: Path) -> Iterator[Secured]:
    (certificates / "recond.toml").write_text(
        f"tls_certificate = '{certificates / 'service.pem'}'\n"
        f"tls_key = '{certificates / 'service-key.pem'}'\n"
        f"tls_client_ca = '{certificates / 'authority.pem'}'\n"
    )
    options = ["--config", str(certificates / "recond.toml"), "--stop-with-stdin", "--drain-seconds", "2"]
    command = [*SERVE, *options, "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
    with EmbeddedService(command) as service:
        port = eventually(lambda: re.search(r'"metrics_port": (\d+)', service.last_words()))
        yield Secured(service.target, int(port[1]), certificates)


def test_client_with_a_certificate(secured: Secured) -> None:
    pems = {"ca": "authority", "certificate": "gateway", "key": "gateway-key"}
    with recond_client.Client(secured.target, **{name: secured.pem(file) for name, file in pems.items()}) as client:
        client.wait_until_ready()
        result = client.reconstruct(kspace=np.ones((2, 2, 32, 16), np.complex64), model="rss")
    assert result.shape == (2, 32, 16)
    with urllib.request.urlopen(f"http://127.0.0.1:{secured.metrics_port}/metrics", timeout=5) as response:
        text = response.read().decode()
    assert 'recond_requests_total{status="OK"} 1.0' in text
    assert 'recond_images_total{model="rss"} 2.0' in text
    assert 'recond_server_up{server="worker-0"} 1.0' in text


@pytest.mark.parametrize("pems", [{}, {"certificate": "stranger", "key": "stranger-key"}])
def test_client_that_is_not_let_in(secured: Secured, pems: dict[str, str]) -> None:
    options = {name: secured.pem(file) for name, file in pems.items()}
    with (
        recond_client.Client(secured.target, ca=secured.pem("authority"), **options) as client,
        pytest.raises(RecondError),
    ):
        client.health(timeout=3)
    with recond_client.Client(secured.target) as client, pytest.raises(RecondError):
        client.health(timeout=3)


def test_command_with_a_certificate(secured: Secured) -> None:
    options = ["--ca", "authority", "--certificate", "gateway", "--key", "gateway-key"]
    files = [option if option.startswith("--") else str(secured.pem(option)) for option in options]
    result = CliRunner().invoke(main, ["models", "list", "--json", "--server", secured.target, *files])
    assert result.exit_code == 0, result.output
    assert "rss" in [model["name"] for model in json.loads(result.stdout)["models"]]


def test_open_address_without_tls() -> None:
    done = subprocess.run([*SERVE, "--listen", "0.0.0.0:0"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "--insecure" in done.stderr
    assert "Traceback" not in done.stderr
