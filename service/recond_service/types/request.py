"""What a client asked for, in the service's own types."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Literal, get_args

from recond_service.types.heads import HeadRequest

PartialFourier = Literal["zero-fill", "pocs"]


class PartRole(enum.IntEnum):
    """What an uploaded part is for (values as on the wire)."""

    KSPACE = 1
    KSPACE_HEADER = 2
    MASK = 3
    REFERENCE = 4
    IMAGES = 5
    """Images that were reconstructed elsewhere; this and the roles below are never on the wire of `Reconstruct`."""
    LABELS = 6
    """The label map of a visit."""
    CLINICAL_ROWS = 7
    """A table of what was done between visits."""


class PartFormat(enum.IntEnum):
    """How the bytes of a part are to be read (values as on the wire); UNSPECIFIED looks at the bytes."""

    UNSPECIFIED = 0
    ISMRMRD_HDF5 = 1
    FASTMRI_HDF5 = 2
    BART_CFL = 3
    BART_HDR = 4
    ARRAY = 5
    MRD2 = 6


class OutputFormat(enum.IntEnum):
    """Output files (values as on the wire)."""

    FASTMRI_HDF5 = 1
    MRD = 2
    NIFTI = 3
    PNG = 4


class Priority(enum.IntEnum):
    """How urgent the images are (values as on the wire); lower goes first."""

    STAT = 1
    CLINICAL = 2
    RESEARCH = 3


class UndersamplingKind(enum.IntEnum):
    """How lines are chosen (values as on the wire)."""

    RANDOM = 1
    EQUISPACED = 2
    EQUISPACED_FRACTION = 3


@dataclass(frozen=True, slots=True)
class Undersampling:
    """Retrospective undersampling after fastMRI.

    Parameters
    ----------
    kind
        How lines are chosen.
    acceleration
        Wanted acceleration, more than 1.
    center_fraction
        Fraction of the columns kept in the centre.
    """

    kind: UndersamplingKind
    acceleration: float
    center_fraction: float


@dataclass(frozen=True, slots=True)
class ConditioningOptions:
    """How k-space is prepared where there is a choice.

    Parameters
    ----------
    partial_fourier
        What to do with the part of k-space that a partial Fourier scan or an asymmetric echo leaves out: ``"zero-fill"``, or
        ``"pocs"`` to complete it from its mirror image and the phase of its centre.
    virtual_coils
        Most virtual coils to compress the coils to; 0 for no such limit.
    coil_energy
        Part of the signal energy, more than 0 and at most 1, that the virtual coils have to keep; 0 for no such aim. With both,
        the fewer coils of the two.

    Raises
    ------
    ValueError
        If a value is none of these.
    """

    partial_fourier: PartialFourier = "zero-fill"
    virtual_coils: int = 0
    coil_energy: float = 0.0

    def __post_init__(self) -> None:
        if self.partial_fourier not in get_args(PartialFourier):
            raise ValueError(f"partial_fourier is {self.partial_fourier!r}; it can be zero-fill or pocs")
        if self.virtual_coils < 0:
            raise ValueError(f"virtual_coils is {self.virtual_coils}; it cannot be negative")
        if not 0 <= self.coil_energy <= 1:
            raise ValueError(f"coil_energy is {self.coil_energy}; it is a part between 0 and 1")


@dataclass(frozen=True, slots=True)
class Part:
    """A file or array that was uploaded.

    Parameters
    ----------
    role
        What it is for.
    format
        How it is to be read.
    name
        File name without folders; may be empty.
    size_bytes
        Exact size.
    shape
        Axis lengths of an array part, empty otherwise.
    path
        Where the bytes are: a file name or ``/proc/self/fd/N``.
    visit
        Number of the visit that images and label maps belong to.
    head
        The head that a label map stands in for.
    """

    role: PartRole
    format: PartFormat
    name: str
    size_bytes: int
    shape: tuple[int, ...] = ()
    path: str = ""
    visit: int = 0
    head: str = ""


@dataclass(frozen=True, slots=True)
class VisitRequest:
    """A visit that is to be compared with others.

    Parameters
    ----------
    name
        In reports.
    date
        Of the scan, YYYY-MM-DD; empty if not known.
    spacing
        Distances of slices, rows and columns in mm, for images that do not tell where they lie; empty if not known.
    structures
        Names and values of the structures of heads that label them, for label maps that do not tell: by the name of the head.
    """

    name: str
    date: str = ""
    spacing: tuple[float, ...] = ()
    structures: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may claim.

    Parameters
    ----------
    max_scan_bytes
        Largest uploaded size, and largest size of all k-space or image samples that a file may claim.
    max_frame_bytes
        Largest k-space of one frame.
    max_xml_bytes
        Largest ISMRMRD header.
    max_images
        Most images in one request.
    """

    max_scan_bytes: int = 4 << 30
    max_frame_bytes: int = 1 << 30
    max_xml_bytes: int = 16 << 20
    max_images: int = 65536


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """One scan to reconstruct, without its samples.

    Parameters
    ----------
    parts
        Uploaded parts; empty for an acquisition stream.
    outputs
        Output files to write, in this order.
    undersampling
        How to undersample fully sampled data before reconstruction, or None.
    limits
        What the scan may claim.
    conditioning
        How k-space is prepared.
    stack
        Name of the stack that is wanted alone in output files, figures and the order of the images; empty for all.
    complex_images
        Images are wanted with their phase, in the answer and in the files.
    uncertainty
        Images are wanted with the standard deviation of the error of every pixel, in the answer and in the files.
    heads
        Heads that run on the images.
    attention
        Heads that classify give attention maps.
    spacing
        Distances of slices, rows and columns in mm, for images that do not tell where they lie; empty if not known.
    visits
        Visits that are to be compared; empty for anything else.
    patient
        Pseudonym of the patient whose visits they are; empty if not known.
    """

    parts: tuple[Part, ...] = ()
    outputs: tuple[OutputFormat, ...] = ()
    undersampling: Undersampling | None = None
    limits: Limits = Limits()
    conditioning: ConditioningOptions = ConditioningOptions()
    stack: str = ""
    complex_images: bool = False
    uncertainty: bool = False
    heads: tuple[HeadRequest, ...] = ()
    attention: bool = False
    spacing: tuple[float, ...] = ()
    visits: tuple[VisitRequest, ...] = ()
    patient: str = ""
