"""Services that do as a test tells them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import grpc
import pytest
from scripted_service import Peer, Running, bad_field, reason, request_info, retry_in, trailing


@pytest.fixture
def details() -> SimpleNamespace:
    """What a service attaches to its errors, and how it is packed."""
    return SimpleNamespace(
        reason=reason, bad_field=bad_field, retry_in=retry_in, request_info=request_info, trailing=trailing
    )


@pytest.fixture
def start_peer() -> Iterator[Callable[..., Running]]:
    """Starts peers with TLS credentials of the test's choice."""
    started: list[Running] = []

    def start(credentials: grpc.ServerCredentials | None = None) -> Running:
        started.append(Running(Peer(), credentials))
        return started[-1]

    yield start
    for running in started:
        running.close()


@pytest.fixture
def running() -> Iterator[Running]:
    running = Running(Peer())
    yield running
    running.close()


@pytest.fixture
def peer(running: Running) -> Peer:
    return running.peer
