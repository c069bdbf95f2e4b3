"""Accelerated proximal gradients on problems whose answer is known."""

import numpy as np
import pytest
import torch

from recond_kernels import proximal_gradient


def random_complex(seed, *shape):
    generator = np.random.default_rng(seed)
    return torch.from_numpy(generator.standard_normal(shape) + 1j * generator.standard_normal(shape))


def shrink(images, limit):
    magnitudes = images.abs()
    return images * (magnitudes - limit).clamp_min(0) / magnitudes.clamp_min(1e-300)


def diagonal_problem(seed, frames=2):
    generator = np.random.default_rng(seed)
    spectrum = torch.from_numpy(generator.uniform(0.01, 1, (frames, 6, 5)))
    data = random_complex(seed, frames, 6, 5)
    # 1/2 s |x - d|^2 + t |x| has its minimum where d is shrunk by t / s.
    return spectrum, data, shrink(data, 0.02 / spectrum)


def minimise(spectrum, data, **options):
    return proximal_gradient.minimise(
        lambda x: spectrum * (x - data), lambda x, _: shrink(x, 0.02), torch.zeros_like(data), **options
    )


def test_finds_the_known_minimum():
    spectrum, data, expected = diagonal_problem(0)
    result = minimise(spectrum, data, tolerance=1e-12, max_iterations=3000)
    torch.testing.assert_close(result.images, expected, rtol=0, atol=1e-7)
    assert (result.iterations < 3000).all()


def test_is_faster_than_plain_steps():
    spectrum, data, expected = diagonal_problem(1)
    plain = torch.zeros_like(data)
    for _ in range(60):
        plain = shrink(plain - spectrum * (plain - data), 0.02)
    fast = minimise(spectrum, data, tolerance=0, max_iterations=60).images
    assert (fast - expected).abs().max() < 0.1 * (plain - expected).abs().max()


def test_a_frame_does_not_depend_on_its_batch():
    spectrum, data, _ = diagonal_problem(2, frames=3)
    spectrum[1] = 1
    together = minimise(spectrum, data, tolerance=1e-4, max_iterations=200, round_length=4)
    for frame in range(3):
        one = slice(frame, frame + 1)
        alone = minimise(spectrum[one], data[one], tolerance=1e-4, max_iterations=200, round_length=4)
        assert torch.equal(together.images[frame], alone.images[0])
        assert together.iterations[frame] == alone.iterations[0]
    assert together.iterations[1] == 8
    assert together.iterations[0] > 8
    assert (together.iterations % 4 == 0).all()


def test_zero_stays_zero():
    zeros = torch.zeros(2, 3, 3, dtype=torch.complex64)
    result = proximal_gradient.minimise(lambda x: x, lambda x, _: x, zeros, tolerance=1e-3, max_iterations=9)
    assert torch.equal(result.images, zeros)
    assert result.iterations.tolist() == [1, 1]


def test_the_proximal_map_is_told_the_step():
    steps = []

    def proximal(images, step):
        steps.append(step)
        return images

    start = torch.ones(1, 2, 2, dtype=torch.complex64)
    proximal_gradient.minimise(lambda x: 0.1 * x, proximal, start, tolerance=0, max_iterations=5)
    assert steps == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("options", [{"tolerance": -1}, {"max_iterations": 0}, {"round_length": 0}])
def test_bad_arguments(options):
    spectrum, data, _ = diagonal_problem(0)
    with pytest.raises(ValueError, match="need tolerance"):
        minimise(spectrum, data, **{"tolerance": 1e-3, "max_iterations": 5, **options})
