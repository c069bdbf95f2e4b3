"""What the iterative models solve, whatever the encoding."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from recond_kernels.operators.linear import LinearOperator


@dataclass(frozen=True, slots=True)
class InverseProblem:
    """Find the images x of a batch with A x = y.

    Parameters
    ----------
    encoding
        A: images, complex64 (batch, rows, columns), to samples. Its norm is 1 at most.
    samples
        y.
    noise
        float64 (batch,): standard deviation of real and imaginary part of the noise in a sample.
    fractions
        float32 (batch,): the measured part of k-space.
    support
        Bool (batch, rows, columns): the pixels that A sees.
    """

    encoding: LinearOperator
    samples: Tensor
    noise: Tensor
    fractions: Tensor
    support: Tensor
