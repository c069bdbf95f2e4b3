"""Models that misbehave, for workers in tests; `trial_worker/sitecustomize.py` puts them into a worker's registry.

The folder that the variable RECOND_TRIAL_FOLDER names is where they tell how far they are, and wait for leave to go on.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

from recond_models.model import ModelInfo

NAMES = ("breaker", "deaf", "endless", "gate", "glutton", "hog", "not-finite", "suicide")
INFOS = {
    name: ModelInfo(
        name=name,
        version="1",
        description="-",
        kind="classical",
        reference="-",
        needs_calibration=False,
        fits_samples=False,
    )
    for name in NAMES
}
HOG_SECONDS = 2.0
MEASURED = (80, 64)
"""Rows and columns of the frame on which a worker measures models at its start, as many as there is time for: there all behave."""


class Trial:
    """Makes images of ones, each after its own fashion."""

    def __init__(self, info: ModelInfo, device: str) -> None:
        self.info = info

    def reconstruct(self, batch):
        import torch

        from recond_models import per_frame
        from recond_models.batch import Reconstruction

        if tuple(batch.kspace.shape[1:]) == MEASURED:
            return Reconstruction(torch.ones(len(batch), *MEASURED))
        if self.info.name == "endless":
            return per_frame.reconstruct_each(self._endless, batch, at_once=False)
        getattr(self, "_" + self.info.name.replace("-", "_"))(len(batch))
        images = torch.ones(len(batch), *batch.kspace.shape[1:])
        return Reconstruction(images * (torch.nan if self.info.name == "not-finite" else 1))

    def _endless(self, number, frame):
        """Frame 0 goes on until it is withdrawn, the others are done at once."""
        import torch

        from recond_kernels import interruption
        from recond_models.batch import Reconstruction

        step = 0
        while number == 0:
            interruption.checkpoint()
            step += 1
            (_folder() / "step").write_text(str(step))
            time.sleep(0.005)
        return Reconstruction(torch.ones(1, *frame.kspace.shape[1:]))

    def _gate(self, frames):
        """Waits until somebody makes the file `open`."""
        (_folder() / "begun").touch()
        while not (_folder() / "open").exists():
            time.sleep(0.005)

    def _breaker(self, frames):
        raise ValueError("this model breaks")

    def _suicide(self, frames):
        os.kill(os.getpid(), signal.SIGKILL)

    def _hog(self, frames):
        """Computes and lets no other thread of Python run."""
        before = sys.getswitchinterval()
        sys.setswitchinterval(1000)
        (_folder() / "begun").touch()
        end = time.monotonic() + HOG_SECONDS
        while time.monotonic() < end:
            pass
        sys.setswitchinterval(before)

    def _deaf(self, frames):
        """Does nothing and lets no other thread of Python run."""
        ctypes.PyDLL(None).sleep(60)

    def _glutton(self, frames):
        import torch

        if frames > 1:
            torch.empty(1 << 46)

    def _not_finite(self, frames):
        pass


def _folder() -> Path:
    return Path(os.environ["RECOND_TRIAL_FOLDER"])
