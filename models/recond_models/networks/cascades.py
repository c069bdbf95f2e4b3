"""The cascades of a variational network without k-space between them.

A cascade moves the k-space k of the coils towards the samples k0 and subtracts what its U-Net found in the combined image (Sriram
et al. 2020, arXiv:2004.06688)::

    k <- k - w M (k - k0) - E u,    u = U(R k)

with the mask M, the expansion to coils E, the combination R (adjoint of E) and the weight w. Everything but U is linear, so with p,
the sum of all u so far, and q, the same sum with every earlier term weakened by 1 - w at each step, k is ``k0 - (1 - M) E p - M E
q``, and the next network sees::

    R k = R k0 - R E p + R M E (p - q)

R E is a product with the sum of the squared sensitivities. What remains is one application of ``R M E`` a cascade, to images; the
result is the same but for rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from recond_kernels import interruption
from recond_models.networks import norm_unet
from recond_models.networks.engines import Engine


class Encoding(Protocol):
    """The linear part, as `recond_models.networks.hybrid` has it."""

    def combine(self) -> Tensor:
        """Return R k0."""
        ...

    def power(self) -> Tensor:
        """Return the sum of the squared sensitivities."""
        ...

    def normal(self, images: Tensor, /) -> Tensor:
        """Return R M E of images."""
        ...

    def magnitude(self, removed: Tensor, sampled: Tensor) -> Tensor:
        """Return the root sum of squares of the coil images of ``k0 - E removed + M E sampled``."""
        ...


def run(encoding: Encoding, engines: Sequence[Engine], weights: Sequence[float]) -> Tensor:
    """Run the cascades.

    Parameters
    ----------
    encoding
        Of one frame or of a batch.
    engines
        The U-Net of every cascade, at least one.
    weights
        The weight of data consistency of every cascade.

    Returns
    -------
    Tensor
        float32 (batch, rows, columns): root sum of squares of the coil images.
    """
    interruption.checkpoint()
    combined = encoding.combine()
    learned = apply(engines[0], combined)
    if len(engines) == 1:
        engines[0].release()
        return encoding.magnitude(learned, learned.new_zeros(learned.shape))
    power = encoding.power()
    total, weakened = learned, learned
    # p - q: zero after the first cascade, whose u is in both sums alike.
    difference = None
    for engine, weight in zip(engines[1:], weights[1:], strict=True):
        interruption.checkpoint()
        image = combined - power * total
        if difference is not None:
            image += encoding.normal(difference)
        learned = apply(engine, image)
        step = weight * weakened
        difference = step if difference is None else difference + step
        weakened = weakened - step + learned
        total = total + learned
    engines[-1].release()  # the networks of all cascades share the memory of their feature maps
    assert difference is not None  # noqa: S101  (there are two engines or more)
    return encoding.magnitude(total, difference)


def apply(engine: Engine, images: Tensor) -> Tensor:
    """Run a U-Net on complex images as `recond_models.networks.norm_unet.NormUnet` does.

    Parameters
    ----------
    engine
        The U-Net.
    images
        complex64 (batch, rows, columns).

    Returns
    -------
    Tensor
        complex64 (batch, rows, columns).
    """
    normalised = norm_unet.normalise(images)
    return norm_unet.restore(engine(normalised.channels), normalised, images.shape[-2], images.shape[-1])
