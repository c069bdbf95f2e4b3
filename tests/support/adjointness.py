"""The one test of adjointness, for every operator and for every pair of functions that should be adjoint."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from recond_kernels.operators.linear import LinearOperator


def inner(left: Tensor, right: Tensor) -> Tensor:
    """Return the inner product, conjugate-linear in the first argument."""
    return torch.sum(left.conj() * right)


def assert_adjoint(
    forward: Callable[[Tensor], Tensor], adjoint: Callable[[Tensor], Tensor], domain: Tensor, codomain: Tensor
) -> None:
    """Check ``<A x, y> = <x, A^H y>`` for an x and a y in double precision, and that neither is changed.

    Parameters
    ----------
    forward, adjoint
        A and its adjoint.
    domain, codomain
        x and y, complex128 or float64.
    """
    kept = domain.clone(), codomain.clone()
    torch.testing.assert_close(inner(forward(domain), codomain), inner(domain, adjoint(codomain)))
    assert torch.equal(domain, kept[0])
    assert torch.equal(codomain, kept[1])


def assert_linear_operator(operator: LinearOperator, domain: Tensor, codomain: Tensor) -> None:
    """Check all that an operator promises: linearity, its adjoint as method and operator, and its Gram operator.

    Parameters
    ----------
    operator
        A.
    domain, codomain
        Complex tensors that A and its adjoint take, complex128.
    """
    assert_adjoint(operator, operator.adjoint, domain, codomain)
    assert_adjoint(operator.H, operator.H.adjoint, codomain, domain)
    torch.testing.assert_close(operator.H.H(domain), operator(domain))
    other = domain.flip(-1) * (0.3 - 1.7j)
    torch.testing.assert_close(operator(domain + (2 - 1j) * other), operator(domain) + (2 - 1j) * operator(other))
    gram = operator.gram
    torch.testing.assert_close(gram(domain), operator.adjoint(operator(domain)))
    torch.testing.assert_close(operator.H.gram(codomain), operator(operator.adjoint(codomain)))
    assert_adjoint(gram, gram.adjoint, domain, other)
