"""Where the noise of a scan comes from, and whether the whitening that follows fits the images."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from recond_service.conditioning import flags
from recond_service.conditioning.noise import NoiseEstimate, Whitening
from recond_service.conditioning.runs import Kind, check_finite, runs_of
from recond_service.types import AcquisitionSource, FindingList, MrdHeader

_EDGE = 8  # the outer 1/8 of k-space at each end
_ENOUGH = 64
_TOO_QUIET = 0.7


class NoiseSource:
    """Collects noise readouts of the scan, or of a measurement before it, and makes the whitening of them.

    Parameters
    ----------
    header
        ISMRMRD header of the scan.
    findings
        Gets what was noticed.
    """

    def __init__(self, header: MrdHeader, findings: FindingList) -> None:
        self._header = header
        self._findings = findings
        self._own = NoiseEstimate()
        self._earlier: NoiseEstimate | None = None

    def add(self, readout: NDArray[np.complex64], dwell: float) -> None:
        """Add a noise readout (coils, samples) of the scan, dwell time in microseconds."""
        if readout.size:
            self._own.add(readout, dwell)

    def learn(self, source: AcquisitionSource) -> None:
        """Take the noise of a measurement that was made before; its coils are matched by their labels.

        Raises
        ------
        InvalidInputError
            If a sample is not finite.
        """
        estimate = estimate_of(source)
        ours = [label.name for label in self._header.system.coil_labels]
        theirs = [label.name for label in source.header.system.coil_labels]
        if ours and theirs and ours != theirs:
            unique = len(set(ours)) == len(ours)
            if not unique or sorted(ours) != sorted(theirs) or len(ours) != estimate.channels:
                self._findings.warn(
                    "noise-coils-differ",
                    f"The noise scan {source.place} was measured with other coils than the scan: coils are not whitened.",
                )
                return
            estimate = estimate.reordered([theirs.index(name) for name in ours])
            self._findings.info(
                "noise-coils-reordered", f"The coils of the noise scan {source.place} were matched by label."
            )
        self._earlier = estimate

    def whitening(self, coils: int, dwell: float) -> Whitening | None:
        """Return the whitening for imaging readouts of `coils` coils and a dwell time in microseconds, or None."""
        noise = self._own if self._own.channels else self._earlier
        whitening = None
        if noise is None or not noise.channels:
            message = "The scan has no noise readouts: coils are not whitened."
            if "noise" in self._header.dependencies:
                self._findings.warn(
                    "noise-scan-missing", f"{message} The header names a noise measurement; send it along."
                )
            else:
                self._findings.info("noise-scan-missing", message)
        elif noise.channels != coils:
            self._findings.warn(
                "noise-channels-differ",
                f"The noise scan has {noise.channels} channels, the scan {coils}: coils are not whitened.",
            )
        else:
            bandwidth = self._header.system.relative_noise_bandwidth
            whitening = noise.whitening(dwell, bandwidth, self._findings)
        if whitening is not None:
            self._findings.info(
                "coils-whitened",
                "Coils are noise-whitened: images are in units of the noise, not comparable with images of other units.",
            )
        return whitening


def estimate_of(source: AcquisitionSource) -> NoiseEstimate:
    """Return the noise of a measurement, from its readouts that carry the noise flag.

    Raises
    ------
    InvalidInputError
        If a sample is not finite.
    """
    estimate = NoiseEstimate()
    first = 0
    for block in source.blocks():
        for run in runs_of(block, first):
            if run.kind == Kind.NOISE:
                check_finite(run)
        first += len(block)
        for number in np.flatnonzero(block.headers["flags"] & np.uint64(flags.NOISE)):
            estimate.add(block.readout(int(number)), float(block.headers["sample_time_us"][number]))
    return estimate


def check_whitened(
    kspace: NDArray[np.complex64], mask: NDArray[np.bool_], scale: float, averages: float, findings: FindingList
) -> None:
    """Say how large the noise is in whitened images: 1 in real and imaginary part if the noise scan fits.

    The noise is taken from the corners of k-space, where there is least signal, by the median of the squared magnitudes, which a
    few bright samples do not move: for complex Gaussian noise it is ``2 ln 2`` times the variance of its real part.

    Parameters
    ----------
    kspace
        Whitened, (coils, rows, columns).
    mask
        bool (rows, columns), true where measured.
    scale
        `kspace` was multiplied by it.
    averages
        How often the lines were measured: averages have less noise.
    findings
        Gets ``"noise-check"``, a warning where the noise is clearly smaller than it can be.
    """
    if "noise-check" in findings:
        return
    rows, columns = mask.shape
    high, wide = max(1, rows // _EDGE), max(1, columns // _EDGE)
    corners = np.zeros(mask.shape, np.bool_)
    for row in (slice(None, high), slice(rows - high, None)):
        for column in (slice(None, wide), slice(columns - wide, None)):
            corners[row, column] = True
    values = kspace[:, corners & mask] * np.float32(math.sqrt(averages))
    if values.size < _ENOUGH:
        return
    level = math.sqrt(float(np.median(values.real**2 + values.imag**2)) / (2 * math.log(2))) / scale
    message = (
        f"In the corners of k-space the real and imaginary parts of the whitened samples have a standard deviation of {level:.2f}; "
        "noise alone has 1, signal adds to it."
    )
    if level < _TOO_QUIET:
        findings.warn(
            "noise-check", f"{message} Less means that the noise scan, its dwell time or its bandwidth does not fit."
        )
    else:
        findings.info("noise-check", message)
