"""What is known about a model without loading it, and why one is refused. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from recond_models.contract import Contract
from recond_models.heads.contract import HeadContract, HeadInfo

MINIMUM_CALIBRATION = 8
"""Fewest calibration rows and columns from which coil sensitivities are estimated: room for kernels of 4 and their shifts."""

Origin = Literal["built-in", "shipped", "added", "plug-in"]
"""Part of the program, a network that comes with it, one that was added on this machine, or one of another Python package."""


class UnknownModelError(LookupError):
    """There is no model of that name or version."""


class UnsuitableModelError(ValueError):
    """The model cannot reconstruct these data, or cannot make what is asked of it."""


class NoDeviationError(UnsuitableModelError):
    """Standard deviations were asked of a model that predicts none."""


class NoPhaseError(UnsuitableModelError):
    """Complex images were asked of a model that makes magnitudes only."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is known about a model without loading it.

    Parameters
    ----------
    name
        Name, as in ``recond reconstruct --model NAME``.
    version
        Version; another version may give another image.
    description
        One sentence for people.
    kind
        A reconstruction with or without trained weights, or a head: a network that runs on the images.
    reference
        Where the method comes from.
    needs_calibration
        It needs a fully sampled calibration region and at least two coils.
    fits_samples
        It fits the measured samples, so that a data-consistency residual says something about its images.
    weights_sha256
        Hexadecimal SHA-256 of the weights, empty for classical models.
    origin
        Where it comes from.
    family
        Family of the network, empty for classical models.
    precision
        Type that it computes in.
    licence, source
        Of the weights; empty for classical models, and where that was not stated.
    contract
        What data a network was made for, None for classical models.
    has_phase
        It makes complex images; else magnitudes only.
    package
        Python package and its version that brought it, such as ``"recond-grappa 0.1"``; empty unless its origin is a plug-in.
    promoted
        It runs when its name is asked for without a version.
    canary_share
        Part of the requests for its name that try this version out; 0 for none.
    has_deviation
        It predicts the standard deviation of the error of its images.
    head
        What a head takes and returns; None for models that reconstruct.
    attention
        Of a head, as in `HeadInfo`.
    """

    name: str
    version: str
    description: str
    kind: Literal["classical", "network", "head"]
    reference: str
    needs_calibration: bool
    fits_samples: bool
    weights_sha256: str = ""
    origin: Origin = "built-in"
    family: str = ""
    precision: str = "float32"
    licence: str = ""
    source: str = ""
    contract: Contract | None = None
    has_phase: bool = False
    package: str = ""
    promoted: bool = True
    canary_share: float = 0.0
    has_deviation: bool = False
    head: HeadContract | None = None
    attention: tuple[int, int] = (0, 0)

    @property
    def head_info(self) -> HeadInfo:
        """What a request has to know of a head.

        Raises
        ------
        ValueError
            It is none.
        """
        if self.head is None:
            raise ValueError(f"{self.name} reconstructs images; it is no head")
        return HeadInfo(self.name, self.version, self.weights_sha256, self.head, self.attention)
