"""The step of an unrolled network that makes an image fit the samples, with its derivative.

Given what a network proposes, z, it solves ``argmin_x ||A x - y||^2 + weight ||x - z||^2``, that is ``(A^H A + weight) x = A^H y +
weight z``, by conjugate gradients (Aggarwal, Mani and Jacob 2019, MoDL, doi:10.1109/TMI.2018.2865356).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recond_kernels import conjugate_gradients

Operator = Callable[[Tensor], Tensor]

# Added to Gram matrices of unit vectors that may depend on each other.
_RIDGE = 1e-6
# Parts of the length of the first direction.
_SHORTEST = 1e-5


def fit(
    images: Tensor,
    data: Tensor,
    weights: Tensor,
    normal: Operator,
    iterations: int,
    profile: Tensor | None = None,
    directions: Directions | None = None,
) -> tuple[Tensor, Tensor]:
    """Fit images to the samples, starting from them.

    With few iterations the parts of the image that the samples say little about stay as proposed: an early stop regularises too.

    Parameters
    ----------
    images
        complex64 (batch, rows, columns): z.
    data
        complex64 (batch, rows, columns): ``A^H y``.
    weights
        float32 (batch,) or (batch, rows, columns), positive: how much the proposal counts.
    normal
        ``A^H A`` for the whole batch; it must not mix frames.
    iterations
        Steps of conjugate gradients.
    profile
        float32 (batch, rows, columns), positive: factors of the weights for every frequency, the lowest in the corner; None for
        the same at all. A proposal that is right in what is coarse and wrong in what is fine counts accordingly.
    directions
        Of earlier fits with the same A^H A: it is solved within them first, and they grow by those of this one.

    Returns
    -------
    images
        complex64 (batch, rows, columns). They have gradients with respect to `images`, `weights` and `profile`: the steps of the
        iteration are made a second time for them, so hardly anything of it is kept in memory.
    misfits
        complex64 (batch, rows, columns): ``A^H A x - A^H y`` of these images, without gradients.
    """
    if torch.is_grad_enabled() and (images.requires_grad or weights.requires_grad):
        fitted, misfits = _Fit.apply(  # type: ignore[no-untyped-call]
            images, weights, profile, data, normal, iterations, directions
        )
        return fitted, misfits
    step = _step(data - normal(images), _Penalty(weights, profile), normal, iterations, directions)
    return images + step.images, step.misfits


def first_fit(
    data: Tensor, weights: Tensor, normal: Operator, iterations: int, directions: Directions | None = None
) -> tuple[Tensor, Tensor]:
    """Return what `fit` makes of images of zeros, without gradients."""
    step = _step(data, _Penalty(weights, None), normal, iterations, directions)
    return step.images, step.misfits


class Directions:
    """The search directions of all fits of a reconstruction, and what A^H A made of them.

    A later fit begins with the best image within them, at no further use of A: what conjugate gradients found slowly, directions
    that the coils hardly tell apart, they need not find again (recycled Krylov spaces, Parks et al. 2006,
    doi:10.1137/040607277).

    Parameters
    ----------
    most
        How many there can be.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = self._known = 0
        self._images = self._products = self._energies = self._overlaps = self._least = torch.zeros(0)

    def __len__(self) -> int:
        return self._count

    def add(self, images: Tensor, products: Tensor) -> None:
        """Keep a direction, complex64 (batch, rows, columns), and A^H A of it."""
        if self._count == 0:
            shape = (images.shape[0], self._most, images[0].numel())
            self._images, self._products = images.new_empty(shape), images.new_empty(shape)
            self._energies = images.new_zeros((shape[0], self._most, self._most))
            self._overlaps = torch.zeros_like(self._energies)
        lengths = torch.view_as_real(images).square().flatten(1).sum(dim=1).sqrt()
        if self._count == 0:
            self._least = _SHORTEST * lengths
        # Once a fit has converged its directions are rounding errors: they are left out, as zeros.
        used = lengths > self._least
        factors = torch.where(used, 1 / torch.where(used, lengths, 1), 0)[:, None]
        self._images[:, self._count] = images.flatten(1) * factors
        self._products[:, self._count] = products.flatten(1) * factors
        self._count += 1

    def within(self, weights: Tensor) -> Subspace:
        """Return the space of all directions so far, for weights float32 (batch,) of the identity."""
        known, count = self._known, self._count
        images, products = self._images[:, :count], self._products[:, :count]
        for table, others in ((self._energies, products), (self._overlaps, images)):
            # The smaller one is conjugated: that makes a copy.
            part = (images @ others[:, known:].conj().mT).conj()
            table[:, :count, known:count] = part
            table[:, known:count, :count] = part.mH
        self._known = count
        gram = self._energies[:, :count, :count] + weights[:, None, None] * self._overlaps[:, :count, :count]
        gram = gram.to(torch.complex128)
        gram = (gram + gram.mH) / 2 + _RIDGE * torch.eye(count, dtype=gram.dtype, device=gram.device)
        return Subspace(images, products, torch.linalg.inv(gram))


@dataclass(frozen=True, slots=True)
class Subspace:
    """A space of directions in which ``(N + weight) d = b`` is solved at once.

    Parameters
    ----------
    images, products
        complex64 (batch, directions, pixels), and N of them.
    inverse
        complex128 (batch, directions, directions): of their Gram matrix.
    """

    images: Tensor
    products: Tensor
    inverse: Tensor

    def solve(self, right_hand_side: Tensor) -> tuple[Tensor, Tensor]:
        """Return d and N d, complex64 (batch, rows, columns)."""
        inner = (self.images @ right_hand_side.flatten(1)[:, :, None].conj()).conj()
        factors = (self.inverse @ inner.to(self.inverse.dtype)).to(inner.dtype).mT
        solved, product = ((factors @ one).reshape(right_hand_side.shape) for one in (self.images, self.products))
        return solved, product


@dataclass(frozen=True, slots=True)
class _Step:
    """A fit that was made.

    Parameters
    ----------
    images
        complex64 (batch, rows, columns): how far the images moved.
    misfits
        complex64 (batch, rows, columns): ``A^H A x - A^H y`` after it.
    solution
        Of conjugate gradients, which began where the subspace ended.
    subspace
        None if there was none.
    """

    images: Tensor
    misfits: Tensor
    solution: conjugate_gradients.Solution
    subspace: Subspace | None


class _Fit(torch.autograd.Function):
    """`fit` for autograd."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch gives its own
        images: Tensor,
        weights: Tensor,
        profile: Tensor | None,
        data: Tensor,
        normal: Operator,
        iterations: int,
        directions: Directions | None,
    ) -> tuple[Tensor, Tensor]:
        step = _step(data - normal(images), _Penalty(weights, profile), normal, iterations, directions)
        ctx.save_for_backward(weights, profile)
        ctx.mark_non_differentiable(step.misfits)
        ctx.normal, ctx.step = normal, step
        return images + step.images, step.misfits

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        *gradients: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor | None, None, None, None, None]:
        gradient = gradients[0].contiguous()  # that of the images
        weights, profile = ctx.saved_tensors
        step: _Step = ctx.step
        # x = z + Q (A^H y - N z) with M = N + W. Without a subspace Q is the polynomial P of M that the iteration has built, near
        # the inverse of M, and Hermitian as N is. With one, E its inverse within it, Q = E + P (1 - M E), and its adjoint is
        # P + E (1 - M P). So dx/dz = 1 - Q N, and nearly dx = -Q dW (x - z).
        operator = _damped(ctx.normal, _Penalty(weights, profile))
        adjoint = conjugate_gradients.replay(operator, gradient, step.solution)
        if step.subspace is not None:
            adjoint = adjoint + step.subspace.solve(gradient - operator(adjoint))[0]
        for_images = gradient - ctx.normal(adjoint)
        with torch.enable_grad():
            leaves = [one.detach().requires_grad_() for one in (weights, profile) if one is not None]
            change = _Penalty(*leaves, *(() if profile is not None else (None,)))(step.images)
            for_leaves = torch.autograd.grad(-torch.view_as_real(adjoint.conj() * change)[..., 0].sum(), leaves)
        return for_images, for_leaves[0], None if profile is None else for_leaves[1], None, None, None, None


@dataclass(frozen=True, slots=True)
class _Penalty:
    """W: ``weight``, or ``weight^(1/2) F^H profile F weight^(1/2)``.

    Parameters
    ----------
    weights, profile
        As for `fit`.
    """

    weights: Tensor
    profile: Tensor | None

    @property
    def level(self) -> Tensor:
        """Mean weight of each frame, float32 (batch,)."""
        return self.weights if self.weights.dim() == 1 else self.weights.flatten(1).mean(dim=1)

    def __call__(self, images: Tensor) -> Tensor:
        """Apply it to complex64 (batch, rows, columns)."""
        factors = self.weights[:, None, None] if self.weights.dim() == 1 else self.weights
        if self.profile is None:
            return factors * images
        roots = factors.sqrt()
        weighted: Tensor = roots * torch.fft.ifft2(self.profile * torch.fft.fft2(roots * images))
        return weighted


@torch.no_grad()
def _step(
    right_hand_side: Tensor, penalty: _Penalty, normal: Operator, iterations: int, directions: Directions | None
) -> _Step:
    """Solve ``(N + W) d = b``: within earlier directions, then with so many steps of conjugate gradients.

    The residual of it is ``A^H y - N (z + d) - W d``, which the iteration knows without another use of A, and x is ``z + d``.
    """
    subspace = directions.within(penalty.level) if directions else None
    start = torch.zeros_like(right_hand_side)
    if subspace is not None:
        start, product = subspace.solve(right_hand_side)
        right_hand_side = right_hand_side - product - penalty(start)
    operator = _damped(normal, penalty, directions)
    solution = conjugate_gradients.solve(operator, right_hand_side, tolerance=0, max_iterations=iterations)
    images = start + solution.images
    return _Step(images, -(solution.residuals + penalty(images)), solution, subspace)


def _damped(normal: Operator, penalty: _Penalty, directions: Directions | None = None) -> Operator:
    """Return ``N + W``, which keeps what it is applied to in `directions`."""

    def apply(images: Tensor) -> Tensor:
        product = normal(images)
        if directions is not None:
            directions.add(images, product)
        return product.add_(penalty(images))

    return apply
