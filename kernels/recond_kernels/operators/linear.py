"""Linear operators, each with its adjoint; they compose to encodings, and an encoding to its Gram operator.

``encoding = Mask(...) @ Fourier() @ Sensitivities(...)`` encodes images, ``encoding.H`` brings samples back, ``encoding.gram`` is
``encoding.H @ encoding`` by the fastest way that its parts know. Solvers and models see nothing else of an encoding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor


class LinearOperator(ABC):
    """A linear map from tensors to tensors. Frames of a batch do not mix."""

    @abstractmethod
    def __call__(self, values: Tensor, /) -> Tensor:
        """Return ``A x``."""

    @abstractmethod
    def adjoint(self, values: Tensor, /) -> Tensor:
        """Return ``A.adjoint(y)``, for which ``<A x, y> = <x, A.adjoint(y)>`` whatever x is."""

    @property
    def H(self) -> LinearOperator:  # noqa: N802 - the name that mathematics gives it
        """The adjoint as an operator."""
        return Adjoint(self)

    @property
    def gram(self) -> LinearOperator:
        """``A.H @ A``, self-adjoint and positive semidefinite."""
        return self.H @ self

    def __matmul__(self, inner: LinearOperator) -> LinearOperator:
        """Return the operator that applies `inner` first."""
        return Composition(self, inner)


class SelfAdjointOperator(LinearOperator):
    """An operator that is its own adjoint, such as a Gram operator."""

    def adjoint(self, values: Tensor, /) -> Tensor:
        """Apply the operator."""
        return self(values)

    @property
    def H(self) -> LinearOperator:  # noqa: N802
        """The operator itself."""
        return self


class Adjoint(LinearOperator):
    """The adjoint of an operator.

    Parameters
    ----------
    operator
        The operator.
    """

    def __init__(self, operator: LinearOperator) -> None:
        self._operator = operator

    def __call__(self, values: Tensor, /) -> Tensor:
        """Apply the adjoint of the operator."""
        return self._operator.adjoint(values)

    def adjoint(self, values: Tensor, /) -> Tensor:
        """Apply the operator."""
        return self._operator(values)

    @property
    def H(self) -> LinearOperator:  # noqa: N802
        """The operator."""
        return self._operator


class Composition(LinearOperator):
    """One operator after another.

    Parameters
    ----------
    outer, inner
        The one that is applied last, and the one that is applied first.
    """

    def __init__(self, outer: LinearOperator, inner: LinearOperator) -> None:
        self._outer, self._inner = outer, inner

    def __call__(self, values: Tensor, /) -> Tensor:
        """Apply the inner operator, then the outer one."""
        return self._outer(self._inner(values))

    def adjoint(self, values: Tensor, /) -> Tensor:
        """Apply both adjoints, the outer one first."""
        return self._inner.adjoint(self._outer.adjoint(values))

    @property
    def gram(self) -> LinearOperator:
        """The Gram operator of the outer one between the inner one and its adjoint."""
        between = self._outer.gram @ self._inner
        return _Sandwich(self._inner, between)


class _Sandwich(SelfAdjointOperator):
    """``inner.H @ gram @ inner``, self-adjoint because the Gram operator in the middle is."""

    def __init__(self, inner: LinearOperator, between: LinearOperator) -> None:
        self._inner, self._between = inner, between

    def __call__(self, values: Tensor, /) -> Tensor:
        """Apply the operator."""
        return self._inner.adjoint(self._between(values))
