"""The models between which evidence decides."""

from __future__ import annotations

from typing import Final

NETWORK: Final = "unrolled-brain"
"""The network that comes with recond."""

ENSEMBLE: Final = "ensemble"
"""The mean of the network and a classical method."""

CANDIDATES: Final = (ENSEMBLE, NETWORK, "tv", "l1-wavelet")
"""In the order in which they are preferred where evidence is equal."""


def partner_of(*, lines: bool) -> str:
    """Return the classical method that the network is averaged with, where whole lines were measured or not."""
    return "tv" if lines else "l1-wavelet"
