"""From the arguments of a call to `ReconstructSpec`. No network here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from recond.v1 import reconstruction_pb2 as pb
from recond_client.errors import InputError
from recond_client.upload import Upload

Priority = Literal["stat", "clinical", "research"]
PartialFourier = Literal["zero-fill", "pocs"]

OUTPUT_FORMATS: Final = {
    ".h5": pb.OUTPUT_FORMAT_FASTMRI_HDF5,
    ".mrd": pb.OUTPUT_FORMAT_MRD,
    ".nii.gz": pb.OUTPUT_FORMAT_NIFTI,
    ".png": pb.OUTPUT_FORMAT_PNG,
}
ENDING_OF_FORMAT: Final = {int(number): ending for ending, number in OUTPUT_FORMATS.items()}
UNDERSAMPLING_KINDS: Final = {
    "random": pb.UNDERSAMPLING_KIND_RANDOM,
    "equispaced": pb.UNDERSAMPLING_KIND_EQUISPACED,
    "equispaced-fraction": pb.UNDERSAMPLING_KIND_EQUISPACED_FRACTION,
}
PRIORITIES: Final = {
    "stat": pb.PRIORITY_STAT,
    "clinical": pb.PRIORITY_CLINICAL,
    "research": pb.PRIORITY_RESEARCH,
}
MOST_COILS: Final = 65535
PARTIAL_FOURIER: Final = {
    "zero-fill": pb.PARTIAL_FOURIER_ZERO_FILL,
    "pocs": pb.PARTIAL_FOURIER_POCS,
}


@dataclass(frozen=True, slots=True)
class Options:
    """What to do with a scan, whatever its source.

    Parameters
    ----------
    model, model_version
        What to run; ``"auto"`` lets the service choose, an empty version is the newest.
    undersample
        ``"KIND:R"`` or ``"KIND:R:CENTRE"``, or None.
    outputs
        Endings of the files to encode.
    heads
        Names of the heads to run on the images.
    priority
        How urgent the images are.
    images
        Whether to send the images themselves.
    partial_fourier
        ``"zero-fill"`` or ``"pocs"``: what becomes of the part of k-space that partial Fourier or an asymmetric echo left out.
    virtual_coils
        Most virtual coils to compress the coils to, 0 for no such limit.
    coil_energy
        Part of the signal energy that the virtual coils have to keep, up to 1; 0 for no such aim.
    stack
        Name of the stack that is wanted alone; empty for all.
    complex_images
        Images are wanted with their phase.
    uncertainty
        Images are wanted with the standard deviation of the error of every pixel.
    attention
        Attention maps of heads that classify are wanted.
    """

    model: str = "auto"
    model_version: str = ""
    undersample: str | None = None
    outputs: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    priority: Priority = "clinical"
    images: bool = True
    partial_fourier: PartialFourier = "zero-fill"
    virtual_coils: int = 0
    coil_energy: float = 0.0
    stack: str = ""
    complex_images: bool = False
    uncertainty: bool = False
    attention: bool = False

    def to_wire(self) -> pb.ReconstructSpec:
        """Return the spec, without its source.

        Raises
        ------
        InputError
            If an option does not exist or is malformed.
        """
        if self.priority not in PRIORITIES:
            msg = f"no such priority: {self.priority!r}; choose from {', '.join(PRIORITIES)}"
            raise InputError(msg, reason="UNKNOWN_PRIORITY", field="priority")
        conditioning = self._conditioning()
        return pb.ReconstructSpec(
            model=self.model,
            model_version=self.model_version,
            undersampling=None if self.undersample is None else parse_undersampling(self.undersample),
            outputs=parse_outputs(self.outputs),
            heads=self.heads,
            priority=PRIORITIES[self.priority],
            omit_images=not self.images,
            stack=self.stack,
            complex_images=self.complex_images,
            uncertainty=self.uncertainty,
            attention=self.attention,
            conditioning=conditioning if conditioning != _DEFAULT_CONDITIONING else None,
        )

    def _conditioning(self) -> pb.Conditioning:
        if self.partial_fourier not in PARTIAL_FOURIER:
            msg = f"no such treatment of partial Fourier: {self.partial_fourier!r}; choose from {', '.join(PARTIAL_FOURIER)}"
            raise InputError(msg, reason="UNKNOWN_PARTIAL_FOURIER", field="partial_fourier")
        if not 0 <= self.virtual_coils <= MOST_COILS:
            msg = f"{self.virtual_coils} virtual coils: give a number up to {MOST_COILS}, or 0 for no limit"
            raise InputError(msg, reason="BAD_VIRTUAL_COILS", field="virtual_coils")
        if not 0 <= self.coil_energy <= 1:
            msg = f"coil energy {self.coil_energy:g}: give a part of the signal energy, above 0 and at most 1, or 0 for no aim"
            raise InputError(msg, reason="BAD_COIL_ENERGY", field="coil_energy")
        return pb.Conditioning(
            partial_fourier=PARTIAL_FOURIER[self.partial_fourier],
            virtual_coils=self.virtual_coils,
            coil_energy=self.coil_energy,
        )


_DEFAULT_CONDITIONING: Final = pb.Conditioning(partial_fourier=pb.PARTIAL_FOURIER_ZERO_FILL)


def names_of(values: Iterable[str], field: str) -> tuple[str, ...]:
    """Return a list of names as a tuple.

    Parameters
    ----------
    values
        The list.
    field
        What it is, for messages.

    Raises
    ------
    InputError
        If it is one string: its letters would be taken for names.
    """
    if isinstance(values, str):
        msg = f"{field}={values!r} is a string: give a list, {field}=[{values!r}]"
        raise InputError(msg, reason="WRONG_TYPE", field=field)
    return tuple(values)


def file_request(options: Options, upload: Upload) -> pb.ReconstructRequest:
    """Return the first message of a call that uploads parts."""
    spec = options.to_wire()
    spec.parts.parts.extend(part.to_wire() for part in upload.parts)
    return pb.ReconstructRequest(spec=spec)


def stream_request(options: Options, expected_bytes: int) -> pb.ReconstructRequest:
    """Return the first message of a call that streams acquisitions.

    Parameters
    ----------
    options
        Model, priority, outputs and conditioning.
    expected_bytes
        Bytes of samples that will be sent in all, 0 if that is not known.
    """
    spec = options.to_wire()
    spec.acquisition_stream.expected_bytes = expected_bytes
    return pb.ReconstructRequest(spec=spec)


def parse_outputs(outputs: Iterable[str]) -> list[pb.OutputFormat]:
    """Return the formats of endings such as ``".nii.gz"``; the dot may be left out, and repeats count once.

    Raises
    ------
    InputError
        If there is no such output.
    """
    formats = []
    for output in outputs:
        ending = "." + output.removeprefix(".").lower()
        if ending not in OUTPUT_FORMATS:
            msg = f"no such output: {output!r}; choose from {', '.join(OUTPUT_FORMATS)}"
            raise InputError(msg, reason="UNKNOWN_OUTPUT", field="outputs")
        if OUTPUT_FORMATS[ending] not in formats:
            formats.append(OUTPUT_FORMATS[ending])
    return formats


def parse_undersampling(text: str) -> pb.Undersampling:
    """Return the undersampling of ``"KIND:R"`` or ``"KIND:R:CENTRE"``.

    Parameters
    ----------
    text
        KIND of `UNDERSAMPLING_KINDS`; R, the acceleration, more than 1; CENTRE, the fraction of the columns that is kept
        in the centre, in (0, 1), by default 0.32 / R as in fastMRI.

    Raises
    ------
    InputError
        If it is not of that form.
    """
    kind, *numbers = text.split(":")
    try:
        values = [float(number) for number in numbers]
    except ValueError:
        values = []
    if kind not in UNDERSAMPLING_KINDS or len(values) not in {1, 2}:
        kinds = "|".join(UNDERSAMPLING_KINDS)
        msg = f"{text!r} is not KIND:R[:CENTRE], with KIND {kinds}, for example equispaced:4:0.08"
        raise InputError(msg, reason="BAD_UNDERSAMPLING", field="undersampling")
    acceleration, center = values[0], values[1] if len(values) == 2 else 0.0
    if not 1 < acceleration < float("inf"):
        msg = f"acceleration {acceleration:g} in {text!r}: it must be more than 1"
        raise InputError(msg, reason="BAD_UNDERSAMPLING", field="undersampling.acceleration")
    if len(values) == 2 and not 0 < center < 1:
        msg = f"centre {center:g} in {text!r}: it is a fraction of the columns, between 0 and 1"
        raise InputError(msg, reason="BAD_UNDERSAMPLING", field="undersampling.center_fraction")
    return pb.Undersampling(kind=UNDERSAMPLING_KINDS[kind], acceleration=acceleration, center_fraction=center)
