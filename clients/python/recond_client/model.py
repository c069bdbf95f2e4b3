"""The models of a service, and how they came to be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ModelContract:
    """What data a network was made for; None and empty where that was not stated. Others are reconstructed with a warning.

    Parameters
    ----------
    patterns
        Of ``"full"``, ``"uniform"``, ``"irregular"``, ``"two-dimensional"``.
    acceleration, coils, rows, columns
        (least, most): grid points per measured point, receive coils, readout and phase encode of k-space.
    calibration
        Fewest (rows, columns) of calibration data around the centre of k-space.
    requires_calibration
        It cannot compute without them.
    anatomy, contrast
        What the training data showed.
    required
        Of ``"coils"``, ``"rows"`` and ``"columns"``, those beyond whose range it cannot compute.
    """

    patterns: tuple[str, ...] = ()
    acceleration: tuple[float, float] | None = None
    coils: tuple[float, float] | None = None
    rows: tuple[float, float] | None = None
    columns: tuple[float, float] | None = None
    calibration: tuple[int, int] = (0, 0)
    requires_calibration: bool = False
    anatomy: str = ""
    contrast: str = ""
    required: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HeadContract:
    """What a head takes and returns.

    Parameters
    ----------
    task
        ``"segmentation"``, ``"lesions"`` or ``"classification"``.
    groups
        Classes that exclude one another, by what they answer; of a segmentation the first is the background.
    slices
        Slices that it sees at once.
    fewest_slices
        Of a volume.
    coarsest_pixel_mm, coarsest_slice_mm
        Largest pixel, and largest distance of slices, mm.
    anatomy
        Part of the body; empty for any.
    contrasts
        Those that it was made for; empty for any.
    """

    task: str
    groups: dict[str, tuple[str, ...]]
    slices: int = 1
    fewest_slices: int = 1
    coarsest_pixel_mm: float = 0.0
    coarsest_slice_mm: float = 0.0
    anatomy: str = ""
    contrasts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the service.

    Parameters
    ----------
    name, version
        What to ask for.
    description
        What it does, in a sentence.
    kind
        ``"classical"``, ``"network"`` or ``"head"``.
    weights_sha256
        Empty for classical models.
    needs_calibration
        It needs a fully sampled calibration region.
    reference
        Where the method comes from.
    ready
        Whether a worker is up to run it.
    origin
        ``"built-in"``, ``"shipped"`` with recond, ``"added"`` on the machine of the service, or ``"plug-in"`` of another package.
    family
        Family of the network; empty for classical models.
    precision
        Type that it computes in.
    licence, source
        Of the weights; empty where that was not stated.
    contract
        What data a network was made for; None for classical models.
    package
        Python package and version that a plug-in comes with.
    promoted
        It runs when its name is asked for without a version.
    canary_share
        Part of the requests for its name that try this version out; 0 for none.
    head
        What a head takes and returns; None for models that reconstruct.
    """

    name: str
    version: str
    description: str = ""
    kind: str = ""
    weights_sha256: str = ""
    needs_calibration: bool = False
    reference: str = ""
    ready: bool = False
    origin: str = ""
    family: str = ""
    precision: str = ""
    licence: str = ""
    source: str = ""
    contract: ModelContract | None = None
    package: str = ""
    promoted: bool = True
    canary_share: float = 0.0
    head: HeadContract | None = None


@dataclass(frozen=True, slots=True)
class ModelLineage:
    """How a version of a model came to be.

    Parameters
    ----------
    parent
        The model whose weights it began with, as ``NAME@VERSION`` or in words.
    hyperparameters
        What it was trained with.
    metrics
        Figures of its evaluation by name.
    data
        What it was trained and evaluated on.
    """

    parent: str = ""
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    data: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class ModelUse:
    """How a version of a model did since the service was started.

    Parameters
    ----------
    requests
        Requests that it ran and that ended.
    failures
        Those of them on which it failed.
    mean_seconds
        Of the requests that went well.
    mean_residual
        Data-consistency residual of those that have one.
    residuals
        How many those are.
    """

    requests: int = 0
    failures: int = 0
    mean_seconds: float = 0.0
    mean_residual: float = 0.0
    residuals: int = 0


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version of a model.

    Parameters
    ----------
    model
        The version as `recond models show` has it.
    added
        When it was added to the machine of the service, ISO 8601; empty for models of the program.
    lineage
        How it came to be; None where nobody stated it.
    use
        How it did.
    """

    model: Model
    added: str = ""
    lineage: ModelLineage | None = None
    use: ModelUse = field(default_factory=ModelUse)


@dataclass(frozen=True, slots=True)
class ModelPromotion:
    """A version began to run for the name of its model.

    Parameters
    ----------
    version
        The version.
    at
        When, ISO 8601.
    action
        ``"added"``, ``"promoted"`` or ``"rolled-back"``.
    """

    version: str
    at: str
    action: str


@dataclass(frozen=True, slots=True)
class ModelHistory:
    """How a model came to be.

    Parameters
    ----------
    versions
        The promoted one first.
    promotions
        The oldest first; empty if no other version was ever promoted.
    """

    versions: tuple[ModelVersion, ...]
    promotions: tuple[ModelPromotion, ...] = ()
