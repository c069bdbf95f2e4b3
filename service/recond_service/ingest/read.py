"""The front door of ingest: which format a request's parts are in, and who reads them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from recond_service.ingest.arrays import read_array, read_mask, read_reference_array
from recond_service.ingest.bart import read_bart
from recond_service.ingest.fastmri import read_fastmri, reference_in
from recond_service.ingest.hdf5 import has_child, has_signature, open_file
from recond_service.ingest.ismrmrd import read_ismrmrd
from recond_service.ingest.mrd2 import is_mrd2, read_mrd2
from recond_service.types import (
    FindingList,
    InvalidInputError,
    KspaceScan,
    LimitExceededError,
    Part,
    PartFormat,
    PartRole,
    RawScan,
    ReferenceVolume,
    ScanRequest,
)

_REFERENCES = ("reconstruction_rss", "reconstruction_esc", "reconstruction")


def read_scan(request: ScanRequest, findings: FindingList) -> RawScan | KspaceScan:
    """Find out what a request's parts are, and open them.

    Samples are not read yet: the scan reads them when it is conditioned.

    Parameters
    ----------
    request
        With at least one part of role KSPACE.
    findings
        Gets what is odd.

    Returns
    -------
    RawScan or KspaceScan
        Readouts that conditioning has to sort, or k-space that is sorted.

    Raises
    ------
    InvalidInputError
        If the parts are damaged, do not fit each other, or refer to other files.
    LimitExceededError
        If they claim more than the limits allow.
    UnsupportedDataError
        If they are of a kind that is not read.
    """
    part = _only(request, PartRole.KSPACE)
    if part is None:
        raise InvalidInputError(
            "The request has no part of role KSPACE: send the raw data.", reason="NO_KSPACE", field="parts.role"
        )
    for each in request.parts:
        _check_uploaded(each, request.limits.max_scan_bytes)
    mask = _only(request, PartRole.MASK)
    scan = _read(part, request, findings)
    if mask is not None:
        if isinstance(scan, RawScan) or scan.mask is not None:
            raise InvalidInputError(
                "The k-space file tells its own sampling, and a mask was sent with it: leave the mask out.",
                reason="MASK_UNEXPECTED",
                field="parts.role",
            )
        scan = replace(scan, mask=read_mask(mask, *scan.shape[1:]))
    read_reference(request)
    return scan


def read_reference(request: ScanRequest) -> ReferenceVolume | None:
    """Return the reference that was sent along, or None. Its images are in the order of the output volume.

    Raises
    ------
    InvalidInputError
        If the part is neither an array nor a fastMRI file with reference images.
    LimitExceededError
        If it claims more than the limits allow.
    """
    part = _only(request, PartRole.REFERENCE)
    if part is None:
        return None
    if part.format == PartFormat.ARRAY:
        return read_reference_array(part, request.limits)
    with open_file(part.path, part.name) as file:
        name = next((name for name in _REFERENCES if has_child(file, name)), None)
    if name is None:
        raise InvalidInputError(
            f"{part.name or 'The reference file'} has none of the datasets {', '.join(_REFERENCES)}.",
            reason="REFERENCE_MISSING",
            field=part.name,
        )
    return reference_in(part, name, request.limits, "reference file")


def _read(part: Part, request: ScanRequest, findings: FindingList) -> RawScan | KspaceScan:
    match _format_of(part):
        case PartFormat.ISMRMRD_HDF5:
            return read_ismrmrd(part, request.limits, findings)
        case PartFormat.MRD2:
            return read_mrd2(part, request.limits, findings)
        case PartFormat.FASTMRI_HDF5:
            return read_fastmri(part, request.limits, findings)
        case PartFormat.BART_CFL:
            return read_bart(part, _only(request, PartRole.KSPACE_HEADER), request.limits)
        case PartFormat.ARRAY:
            return read_array(part, request.limits)
        case other:
            raise InvalidInputError(
                f"k-space cannot be of format {other.name}: send the file that has the samples.",
                reason="FORMAT_MISMATCH",
                field="parts.format",
            )


def _format_of(part: Part) -> PartFormat:
    """Return the format of a part: the declared one, or what its first bytes, its groups and its name tell."""
    if part.format in {PartFormat.ARRAY, PartFormat.BART_CFL, PartFormat.BART_HDR, PartFormat.MRD2}:
        return part.format
    if part.format == PartFormat.UNSPECIFIED and is_mrd2(part):
        return PartFormat.MRD2
    with Path(part.path).open("rb") as file:
        is_hdf5 = has_signature(file)
    if not is_hdf5 and part.format == PartFormat.UNSPECIFIED and part.name.lower().endswith(".cfl"):
        return PartFormat.BART_CFL
    with open_file(part.path, part.name) as handle:
        found = PartFormat.FASTMRI_HDF5 if has_child(handle, "kspace") else PartFormat.ISMRMRD_HDF5
    return found if part.format == PartFormat.UNSPECIFIED else part.format


def _only(request: ScanRequest, role: PartRole) -> Part | None:
    parts = [part for part in request.parts if part.role == role]
    if len(parts) > 1:
        raise InvalidInputError(
            f"The request has {len(parts)} parts of role {role.name}; there may be one.",
            reason="PART_TWICE",
            field="parts.role",
        )
    return parts[0] if parts else None


def _check_uploaded(part: Part, most: int) -> None:
    try:
        size = Path(part.path).stat().st_size
    except OSError as error:
        raise InvalidInputError(
            f"{part.name or part.role.name} cannot be read: {error.strerror}.", reason="NOT_READABLE", field=part.name
        ) from error
    if size > most:
        raise LimitExceededError(
            f"{part.name or part.role.name} has {size} bytes; this service takes {most}.",
            reason="SCAN_TOO_LARGE",
            field=part.name,
        )
