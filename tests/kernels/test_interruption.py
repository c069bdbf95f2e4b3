"""Giving up between two steps what nobody waits for."""

import contextvars
import threading

import pytest
import torch

from recond_kernels import conjugate_gradients, espirit, interruption, proximal_gradient, total_variation
from recond_kernels.interruption import Interrupted, checkpoint, computing, watching


class Steps:
    """Applies a map and counts how often; the frame is withdrawn while the map is applied for the `last` time."""

    def __init__(self, last: int) -> None:
        self.last = last
        self.count = 0

    def __call__(self, images: torch.Tensor, *_: object) -> torch.Tensor:
        self.count += 1
        return 2 * images

    def withdrawn(self, frame: int) -> bool:
        assert frame == 0
        return self.count >= self.last


def test_without_a_watch_nothing_is_interrupted():
    checkpoint()
    with computing(7):
        checkpoint()


def test_a_batch_goes_on_until_its_last_frame_is_withdrawn():
    withdrawn: set[int] = set()
    with watching(withdrawn.__contains__, 3):
        withdrawn |= {0, 2}
        checkpoint()
        with computing(1):
            checkpoint()
        with pytest.raises(Interrupted), computing(2):
            checkpoint()
        checkpoint()
        withdrawn.add(1)
        with pytest.raises(Interrupted):
            checkpoint()
    checkpoint()


def test_frames_within_frames_keep_their_numbers():
    asked = []
    with watching(lambda frame: bool(asked.append(frame)), 5), computing(3), computing(0):
        checkpoint()
    assert asked == [3]


def test_the_watch_belongs_to_its_context():
    outcomes = []

    def look() -> None:
        try:
            checkpoint()
        except Interrupted:
            outcomes.append("interrupted")
        else:
            outcomes.append("went on")

    with watching(lambda _: True, 1):
        context = contextvars.copy_context()
        for target in (look, lambda: context.run(look)):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
    assert outcomes == ["went on", "interrupted"]


@pytest.mark.parametrize("last", [1, 4])
@pytest.mark.parametrize("solver", ["conjugate gradients", "proximal gradient"])
def test_an_iteration_ends_with_the_step_in_which_its_frame_is_withdrawn(solver, last):
    steps = Steps(last)
    image = torch.randn(1, 6, 6, dtype=torch.complex64)
    # Eigenvalues that no few steps of conjugate gradients solve for.
    spread = torch.linspace(1, 100, 36).view(6, 6)

    def iterate() -> None:
        if solver == "conjugate gradients":
            conjugate_gradients.solve(lambda images: spread * steps(images), image, tolerance=0, max_iterations=20)
        else:
            proximal_gradient.minimise(
                lambda images: 0.01 * steps(images), lambda images, _: images, image, tolerance=0, max_iterations=20
            )

    with pytest.raises(Interrupted), watching(steps.withdrawn, 1):
        iterate()
    assert steps.count == last


@pytest.mark.parametrize("kernel", ["total variation", "espirit"])
def test_kernels_look_before_every_part_of_their_work(kernel, monkeypatch):
    looks = []
    monkeypatch.setattr(interruption, "checkpoint", lambda: looks.append(1))
    if kernel == "total variation":
        total_variation.proximal(torch.ones(1, 8, 8, dtype=torch.complex64), torch.ones(1), iterations=7)
        assert len(looks) == 7
    else:
        monkeypatch.setattr(espirit, "_CHUNK_BYTES", 1)
        calibration = torch.randn(2, 10, 10, dtype=torch.complex64)
        espirit.estimate_batch([calibration], (20, 20), crop=0.9)
        assert len(looks) == 1 + 20
