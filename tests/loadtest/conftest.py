"""Fixtures of the load test."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from loadtest_servers import KserveServer, serving
from tritonclient.grpc import service_pb2_grpc


@pytest.fixture
def kserve() -> Iterator[KserveServer]:
    servicer = KserveServer()
    with serving(
        lambda server: service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    ) as address:
        servicer.address = address
        yield servicer


@pytest.fixture
def no_new_threads() -> Iterator[None]:
    """Nothing that a run started is left behind."""
    before = set(threading.enumerate())
    yield
    end = time.monotonic() + 5
    while time.monotonic() < end and (left := set(threading.enumerate()) - before):
        time.sleep(0.05)
    assert not left, left
