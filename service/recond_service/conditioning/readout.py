"""Where the samples of one readout belong on the encoded grid."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from recond_service.conditioning import flags
from recond_service.types import FindingList, InvalidInputError

_MOST_KEPT = 4096


@dataclass(frozen=True, slots=True)
class Placement:
    """Samples ``[source_start, source_stop)``, after the reversal if there is one, go to rows from `target_start` on.

    Parameters
    ----------
    source_start, source_stop
        Which samples are used.
    target_start
        Row of the first of them.
    reverse
        The order of the samples is to be reversed first.
    lost
        Valid samples that fall outside the grid.
    center_assumed
        `center_sample` could not be, and another was taken.
    turned_centre
        `center_sample` was read as that of the reversed readout; as that of the readout as measured, it would lie a row farther.
    """

    source_start: int
    source_stop: int
    target_start: int
    reverse: bool
    lost: int
    center_assumed: bool
    turned_centre: bool = False

    @property
    def target_stop(self) -> int:
        """Row behind the last sample."""
        return self.target_start + self.source_stop - self.source_start

    def used_of(self, samples: int) -> slice:
        """Return which of the samples of a readout are used, in the order in which they were measured."""
        if self.reverse:
            return slice(samples - self.source_stop, samples - self.source_start)
        return slice(self.source_start, self.source_stop)

    def as_measured(self, rows: int) -> Placement:
        """Return the placement on a grid of `rows` with `center_sample` read as that of the readout as measured."""
        if not self.turned_centre:
            return self
        stop = self.source_stop - max(0, self.target_stop + 1 - rows)
        return replace(self, source_stop=stop, target_start=self.target_start + 1, turned_centre=False)


def place_readout(samples: int, discard: tuple[int, int], center: int, rows: int, *, reverse: bool) -> Placement:
    """Place a readout on a grid so that its k = 0 lies at ``rows // 2``.

    The valid samples are ``[pre, samples - post)``; a reversed readout is flipped, which puts its centre at
    ``samples - 1 - center`` and swaps the discarded ends. An echo that is not in the middle leaves one end of the grid empty. A
    `center_sample` behind the readout (some senders keep it when they remove oversampling), or one of 0 in a readout that would
    then not fit, is replaced by the middle. Where valid samples would fall off a grid that has room for all of them, the centre is
    moved as far as it takes.

    The `center_sample` of a reversed readout of even length that lies in its middle may be meant before or after the samples are
    turned: the latter is taken here, with which no sample is lost, and `Alignment` tells by the samples which it is.

    Parameters
    ----------
    samples
        Number of samples, the discarded ones included.
    discard
        Number of samples to discard at the beginning and at the end, as measured.
    center
        Index of k = 0 as measured.
    rows
        Length of the grid.
    reverse
        The readout was measured backwards.

    Returns
    -------
    Placement
        Which may be empty (``source_stop <= source_start``) if nothing valid falls on the grid.
    """
    in_doubt = reverse and samples % 2 == 0 and center == samples // 2
    assumed = center >= samples or (center == 0 and samples > rows - rows // 2)
    if assumed:
        center = samples // 2
    first, last = discard[0], samples - discard[1]
    if reverse:
        first, last = samples - last, samples - first
        center = samples - 1 - center + int(in_doubt)
    offset = rows // 2 - center
    if 0 < last - first <= rows:
        fitting = min(max(offset, -first), rows - last)
        if abs(fitting - offset) > 1:  # a reversed readout of even length always loses one
            offset, assumed = fitting, True
    start, stop = max(first, -offset), min(last, rows - offset)
    lost = max(0, last - first) - max(0, stop - start)
    return Placement(start, max(start, stop), start + offset, reverse, lost, assumed, in_doubt)


class Placements:
    """Places readouts by their headers, and says what is odd about them. Equal readouts are worked out once.

    Parameters
    ----------
    findings
        Gets assumed centres, samples that are lost and partial readouts.
    """

    def __init__(self, findings: FindingList) -> None:
        self._findings = findings
        self._known: dict[tuple[int, ...], Placement] = {}

    def of(self, header: np.void, rows: int, place: str) -> Placement:
        """Return where a readout goes on a grid of `rows`.

        Parameters
        ----------
        header
            One `ACQUISITION_HEADER`.
        rows
            Length of the encoded grid.
        place
            How messages name the readout.

        Raises
        ------
        InvalidInputError
            If nothing of it falls on the grid.
        """
        samples, center = int(header["number_of_samples"]), int(header["center_sample"])
        discard = int(header["discard_pre"]), int(header["discard_post"])
        reverse = bool(int(header["flags"]) & flags.REVERSE)
        key = (samples, *discard, center, int(reverse), rows)
        placement = self._known.get(key)
        if placement is None:
            placement = place_readout(samples, discard, center, rows, reverse=reverse)
            if placement.source_stop <= placement.source_start:
                raise InvalidInputError(
                    f"{place} has {samples} samples of which {discard[0]} + {discard[1]} are discarded, its centre at {center}: "
                    f"nothing of it falls on the encoded matrix of {rows}. Correct its header.",
                    reason="READOUT_EMPTY",
                    field=place,
                )
            self._note(placement, rows, samples, center)
            if len(self._known) < _MOST_KEPT:
                self._known[key] = placement
        return placement

    def _note(self, placement: Placement, rows: int, samples: int, center: int) -> None:
        if placement.center_assumed:
            self._findings.warn(
                "center-sample-assumed",
                f"center_sample is {center} in readouts of {samples} samples, which cannot be on a matrix of {rows}: they were "
                "placed where they fit.",
            )
        if placement.lost > 1:  # a reversed readout of even length always loses one
            self._findings.warn(
                "samples-outside-matrix",
                f"{placement.lost} samples of a readout lie outside the {rows} of the encoded matrix and are not used.",
            )
        missing = rows - (placement.target_stop - placement.target_start)
        if missing > 1:
            self._findings.info(
                "readout-partial",
                f"Readouts fill {rows - missing} of {rows} samples of the matrix (asymmetric echo or discarded samples): "
                "the rest is zero.",
            )
