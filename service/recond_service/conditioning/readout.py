"""Where the samples of one readout belong on the encoded grid."""

from __future__ import annotations

from dataclasses import dataclass


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
        `center_sample` could not be, and the middle of the readout was taken.
    """

    source_start: int
    source_stop: int
    target_start: int
    reverse: bool
    lost: int
    center_assumed: bool

    @property
    def target_stop(self) -> int:
        """Row behind the last sample."""
        return self.target_start + self.source_stop - self.source_start


def place_readout(samples: int, discard: tuple[int, int], center: int, rows: int, *, reverse: bool) -> Placement:
    """Place a readout on a grid so that its k = 0 lies at ``rows // 2``.

    The valid samples are ``[pre, samples - post)``; a reversed readout is flipped, which puts its centre at
    ``samples - 1 - center`` and swaps the discarded ends. An echo that is not in the middle leaves one end of the grid empty. A
    `center_sample` behind the readout (some senders keep it when they remove oversampling), or one of 0 in a readout that would
    then not fit, is replaced by the middle.

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
    assumed = center >= samples or (center == 0 and samples > rows - rows // 2)
    if assumed:
        center = samples // 2
    first, last = discard[0], samples - discard[1]
    if reverse:
        first, last = samples - last, samples - first
        center = samples - 1 - center
    offset = rows // 2 - center
    start, stop = max(first, -offset), min(last, rows - offset)
    lost = max(0, last - first) - max(0, stop - start)
    return Placement(start, max(start, stop), start + offset, reverse, lost, assumed)
