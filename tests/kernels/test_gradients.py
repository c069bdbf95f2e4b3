"""Gradients of the operators that networks are made of, in double precision against finite differences."""

import numpy as np
import pytest
import torch

from recond_kernels import coils, consistency
from recond_kernels.fourier import fft2c, ifft2c, ramp
from recond_kernels.layout import CoilLayout
from recond_kernels.operators.sense import SenseEncoding

LAYOUT = CoilLayout((2, 1))
ROWS, COLUMNS = 3, 4


def random_complex(seed, first):
    generator = np.random.default_rng(seed)
    values = generator.standard_normal((first, ROWS, COLUMNS)) + 1j * generator.standard_normal((first, ROWS, COLUMNS))
    return torch.from_numpy(values).requires_grad_()


MASKS = torch.from_numpy(np.random.default_rng(0).random((2, ROWS, COLUMNS)) < 0.5)
WAVE = ramp(ROWS, COLUMNS, torch.complex128, MASKS.device)


@pytest.mark.parametrize("operator", [fft2c, ifft2c])
def test_fourier(operator):
    assert torch.autograd.gradcheck(operator, (random_complex(1, 2),))


def test_fourier_after_use_in_inference_mode():
    with torch.inference_mode():
        fft2c(torch.zeros(1, 5, 9, dtype=torch.complex64))
    image = torch.ones(1, 5, 9, dtype=torch.complex64, requires_grad=True)
    fft2c(image).abs().sum().backward()
    assert image.grad is not None


@pytest.mark.parametrize("wave", [None, WAVE])
def test_coils(wave):
    maps = random_complex(2, 3)
    assert torch.autograd.gradcheck(lambda x, s: coils.expand(x, s, LAYOUT, wave), (random_complex(3, 2), maps))
    assert torch.autograd.gradcheck(lambda x, s: coils.reduce(x, s, LAYOUT, wave), (random_complex(4, 3), maps))


def test_root_sum_of_squares():
    assert torch.autograd.gradcheck(lambda x: coils.root_sum_of_squares(x, LAYOUT), (random_complex(5, 3),))


@pytest.mark.parametrize("wave", [None, WAVE])
def test_data_consistency(wave):
    weight = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda k, m, w: consistency.approach_measured(k, m, MASKS, w, LAYOUT, wave),
        (random_complex(6, 3), random_complex(7, 3), weight),
    )
    assert torch.autograd.gradcheck(
        lambda k, m: consistency.replace_measured(k, m, MASKS, LAYOUT), (random_complex(6, 3), random_complex(7, 3))
    )


def test_sense_normal_operator():
    encoding = SenseEncoding(random_complex(8, 3).detach(), MASKS, LAYOUT)
    assert torch.autograd.gradcheck(encoding.gram, (random_complex(9, 2),))
