"""Noise covariance from noise readouts, and the whitening that makes all coils equally noisy and uncorrelated.

With ``N`` the noise samples (coils, M): ``C = N N^H / (M - 1)``, ``C = L L^H``, whitened ``= s L^-1 d`` with
``s = sqrt(2 b T_acq / T_noise)``: T the dwell times and b the relative noise bandwidth of the receiver, so that real and
imaginary part of the noise have variance 1 each (as Gadgetron's noise adjustment; Kellman and McVeigh 2005,
doi:10.1002/mrm.20713).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from recond_service.types import FindingList

DEFAULT_BANDWIDTH = 0.793
_RIDGE = 1e-6
_SMALLEST_PIVOT = 1e-7  # of the largest: below, the covariance has lost a coil to rounding


@dataclass(frozen=True, slots=True)
class Whitening:
    """A whitening matrix as a matrix of moderate values and a power of two, since noise may be 1e-20 or 1e20.

    Parameters
    ----------
    matrix
        complex64 (coils, coils), lower triangular.
    exponent
        The whitening matrix is ``matrix * 2**exponent``.
    """

    matrix: NDArray[np.complex64]
    exponent: int


class NoiseEstimate:
    """Sums the covariance of noise readouts, in double precision."""

    def __init__(self) -> None:
        self.covariance: NDArray[np.complex128] | None = None
        self.samples = 0
        self.dwell = 0.0
        self.other_channels = 0

    @property
    def channels(self) -> int:
        """Number of coils, 0 before the first readout."""
        return 0 if self.covariance is None else len(self.covariance)

    def add(self, readout: NDArray[np.complex64], dwell: float) -> None:
        """Add a noise readout (coils, samples) with its dwell time in microseconds."""
        values = readout.astype(np.complex128)
        product: NDArray[Any] = values @ values.conj().T
        if self.covariance is None:
            self.covariance = product
            self.dwell = dwell
        elif len(product) == len(self.covariance):
            self.covariance += product
        else:
            self.other_channels += 1
            return
        self.samples += values.shape[1]

    def reordered(self, order: list[int]) -> NoiseEstimate:
        """Return the estimate with its coils in another order: coil k of the result is coil ``order[k]`` of this one."""
        other = NoiseEstimate()
        other.samples, other.dwell, other.other_channels = self.samples, self.dwell, self.other_channels
        other.covariance = None if self.covariance is None else self.covariance[np.ix_(order, order)]
        return other

    def whitening(self, dwell: float, bandwidth: float | None, findings: FindingList) -> Whitening | None:
        """Return the whitening for readouts of `dwell` microseconds, or None where the noise is zero.

        Parameters
        ----------
        dwell
            Dwell time of the imaging readouts.
        bandwidth
            `relativeReceiverNoiseBandwidth`, None for the default of 0.793.
        findings
            Gets what is odd about the noise.
        """
        if self.covariance is None or self.samples < 2:
            return None
        covariance = self.covariance / (self.samples - 1)
        mean = float(np.trace(covariance).real) / len(covariance)
        if not mean > 0 or not math.isfinite(mean):
            findings.warn("noise-scan-empty", "The noise scan holds no noise: coils are not whitened.")
            return None
        covariance /= mean
        if _singular(covariance):
            findings.warn(
                "noise-covariance-singular",
                f"The noise covariance of {len(covariance)} coils from {self.samples} samples is singular (a dead or duplicate "
                f"coil, or too few samples): {_RIDGE:g} of its mean was added to its diagonal.",
            )
            covariance[np.diag_indices(len(covariance))] += _RIDGE
        lower = np.linalg.cholesky(covariance)
        inverse = scipy.linalg.solve_triangular(lower, np.eye(len(lower)), lower=True, check_finite=False)
        if dwell > 0 and self.dwell > 0:
            gain = math.sqrt(2 * dwell / self.dwell * (bandwidth or DEFAULT_BANDWIDTH))
        else:
            gain = 1.0
            findings.warn("dwell-missing", "A dwell time is missing: whitened noise has not unit variance.")
        gain /= math.sqrt(mean)
        mantissa, exponent = math.frexp(gain)
        return Whitening((inverse * mantissa).astype(np.complex64), exponent)


def _singular(covariance: NDArray[np.complex128]) -> bool:
    try:
        pivots = np.diag(np.linalg.cholesky(covariance)).real
    except np.linalg.LinAlgError:
        return True
    return bool(pivots.min() ** 2 < _SMALLEST_PIVOT * np.diag(covariance).real.max())
