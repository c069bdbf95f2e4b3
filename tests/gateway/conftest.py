"""Gateways in this process, and a scan to play to them."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from gateway_scans import COILS, COLUMNS, ROWS, SLICES, RawScan
from scripted_service import Peer, Running

from recond_client import Client
from recond_gateway.config import Settings
from recond_gateway.outgoing_of import outgoing_of
from recond_gateway.server import Gateway
from recond_gateway.services import Services
from recond_gateway.spool import Spool
from recond_gateway.telemetry import Metrics
from recond_models.simulate.commands import simulate


@pytest.fixture(scope="session")
def scan(tmp_path_factory: pytest.TempPathFactory) -> RawScan:
    path = tmp_path_factory.mktemp("gateway-scan") / "scan.h5"
    options = ["--phantom", "shepp-logan", "--acceleration", "1"]
    sizes = ["--slices", str(SLICES), "--coils", str(COILS), "--matrix", f"{ROWS}x{COLUMNS}"]
    done = CliRunner().invoke(simulate, ["-o", str(path), *options, *sizes])
    assert done.exit_code == 0, done.output
    return RawScan(path)


StartGateway = Callable[..., Gateway]


@pytest.fixture
def start_gateway(tmp_path: Path) -> Iterator[StartGateway]:
    """Starts gateways in this process: ``start_gateway(target, pipelines={...}, service={...}, ...)``."""
    with contextlib.ExitStack() as stack:

        def start(target: str, folder: Path | None = None, **groups: Any) -> Gateway:
            groups.setdefault("listen", ({"address": "127.0.0.1:0"},))
            groups.setdefault("pipelines", {"default": {"model": "rss"}})
            spool = {"folder": folder or tmp_path / "spool", "min_free_bytes": 0, **groups.pop("spool", {})}
            settings = Settings.model_validate({"spool": spool, **groups})
            key = secrets.token_bytes(32)
            kept = stack.enter_context(Spool(spool["folder"], key, settings.spool.max_bytes, 0))
            client = stack.enter_context(Client(target))
            services = Services(settings, client, kept, Metrics(), outgoing_of(settings))
            gateway = Gateway(services)
            gateway.services = services  # type: ignore[attr-defined]
            return stack.enter_context(gateway)

        yield start


@pytest.fixture
def scripted() -> Iterator[Running]:
    running = Running(Peer())
    yield running
    running.close()
