"""Fixtures that several folders share."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from recond_testing import Service, running

from recond.v1 import reconstruction_pb2_grpc as pb_grpc


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service that most tests share."""
    with running(tmp_path_factory.mktemp("service") / "log", "--upload-idle-seconds", "5") as shared:
        yield shared


@pytest.fixture(scope="session")
def stub(service: Service) -> Iterator[pb_grpc.ReconstructionServiceStub]:
    with grpc.insecure_channel(service.address) as channel:
        yield pb_grpc.ReconstructionServiceStub(channel)
