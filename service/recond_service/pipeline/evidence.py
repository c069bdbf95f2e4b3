"""What a model was chosen by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CandidateEvidence:
    """What held-out samples showed of a model.

    Parameters
    ----------
    model
        Its name.
    held_out_error
        ``||prediction - samples|| / ||samples||``, root mean square over the slices.
    expected_ssim
        SSIM in the object that is expected of it, from that and from scans of the same kind.
    """

    model: str
    held_out_error: float
    expected_ssim: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """What `auto` decided by.

    Parameters
    ----------
    model
        The model that was chosen.
    preferred
        What the kind of sampling alone would have chosen.
    candidates
        What held-out samples showed; empty where none were held out.
    slices
        On how many slices samples were held out, other ones on each.
    seconds
        Time of model servers that this took.
    not_tried
        Why no samples were held out, as a clause; empty where some were.
    """

    model: str
    preferred: str
    candidates: tuple[CandidateEvidence, ...] = ()
    slices: int = 0
    seconds: float = 0.0
    not_tried: str = ""
