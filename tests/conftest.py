"""Fixtures that several folders share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from recond_testing import Service, running

from recond.v1 import reconstruction_pb2_grpc as pb_grpc


@pytest.fixture(scope="session", autouse=True)
def added_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty folder of models and an empty cache in place of those of whoever runs the tests, also for services."""
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "RECOND_MODELS_DIR", str(folder))
        patch.setitem(os.environ, "RECOND_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield folder


@pytest.fixture(scope="session")
def service(added_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service that most tests share."""
    with running(tmp_path_factory.mktemp("service") / "log") as shared:
        yield shared


@pytest.fixture(scope="session")
def stub(service: Service) -> Iterator[pb_grpc.ReconstructionServiceStub]:
    with grpc.insecure_channel(service.address) as channel:
        yield pb_grpc.ReconstructionServiceStub(channel)
