"""Fixtures of the load test."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from loadtest_servers import KserveServer, serving
from tritonclient.grpc import service_pb2_grpc
from waiting import eventually


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
    eventually(lambda: set(threading.enumerate()) <= before)
