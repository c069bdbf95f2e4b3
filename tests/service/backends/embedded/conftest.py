"""Real workers in processes of their own, and a look at what they leave behind."""

import asyncio
import contextlib
import functools
import os
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
import worker_frames
from worker_frames import open_files

from recond_service.backends import EmbeddedBackend

SUPPORT = Path(worker_frames.__file__).parent


class Fleet:
    """A backend and the changes that it told of."""

    def __init__(self, folder: Path, **options) -> None:
        self.folder = folder
        self.changes: list[tuple[str, bool]] = []
        self._change = asyncio.Event()
        self.backend = EmbeddedBackend(
            **{"threads": 1, "log_level": "warning", "on_change": self._changed, **options},
        )

    def _changed(self, server) -> None:
        self.changes.append((server.name, server.up))
        self._change.set()

    @property
    def server(self):
        return self.backend.servers[0]

    async def up(self, times: int = 1) -> None:
        """Wait until the first server has come up so many times since `forget`."""
        async with asyncio.timeout(60):
            while self.changes.count((self.server.name, True)) < times:
                self._change.clear()
                await self._change.wait()

    def forget(self) -> None:
        """Forget the changes, and what trial models have left."""
        self.changes.clear()
        for file in self.folder.glob("*"):
            if file.is_file():
                file.unlink()


def prepare(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("RECOND_TRIAL_FOLDER", str(folder))
    patch.setenv("RECOND_MODELS_DIR", str(folder / "models"))
    patch.setenv("PYTHONPATH", os.pathsep.join([str(SUPPORT), str(SUPPORT / "trial_worker")]))


@contextlib.asynccontextmanager
async def running(folder: Path, **options):
    """Start a backend, and check at the end that nothing of it is left."""
    children, files = set(psutil.Process().children(recursive=True)), len(open_files())
    fleet = Fleet(folder, **options)
    await fleet.backend.start()
    try:
        await fleet.up()
        yield fleet
    finally:
        await fleet.backend.close()
    assert set(psutil.Process().children(recursive=True)) <= children
    assert len(open_files()) == files


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Return what starts a backend with options of its own."""
    prepare(tmp_path, monkeypatch)
    return functools.partial(running, tmp_path)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared_fleet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trial")
    with pytest.MonkeyPatch.context() as patch:
        prepare(folder, patch)
        async with running(folder) as fleet:
            yield fleet


@pytest.fixture
def fleet(shared_fleet):
    """A backend of one worker that many tests use; afterwards this process holds no frame or image of the test."""
    shared_fleet.forget()
    before = len(open_files())
    yield shared_fleet
    assert shared_fleet.server.up
    assert not [name for name in open_files() if "recond-frame" in name or "recond-image" in name]
    assert len(open_files()) == before
