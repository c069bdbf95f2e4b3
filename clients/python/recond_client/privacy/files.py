"""De-identification of files: an ISMRMRD or fastMRI file in, a new one out, a few MB in memory.

The new file is written from nothing, because HDF5 keeps what was deleted from a file in its free space.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import h5py

from recond_client.errors import InputError
from recond_client.privacy.fastmri import copy_fastmri
from recond_client.privacy.hdf5 import member, open_source, reading
from recond_client.privacy.header import new_treatment
from recond_client.privacy.ismrmrd_files import copy_measurements, measurements
from recond_client.privacy.patient_map import PatientMap
from recond_client.privacy.profile import Profile
from recond_client.privacy.recond_mrd_1 import RECOND_MRD_1
from recond_client.privacy.record import Removed

_IN_MEMORY: Final = 64 << 10


@dataclass(frozen=True)
class DeidentifiedFile:
    """What was done to a file.

    Parameters
    ----------
    removed
        What went or changed, without the values.
    map
        The values, to be put back.
    """

    removed: tuple[Removed, ...]
    map: PatientMap


def deidentify_file(
    source: Path, target: Path | None, profile: Profile = RECOND_MRD_1, *, key: bytes
) -> DeidentifiedFile:
    """De-identify an ISMRMRD or fastMRI file.

    Parameters
    ----------
    source
        The file, which stays as it is.
    target
        The new file; it appears when it is whole and replaces one of that name. None only finds out what would be done.
    profile
        What becomes of which place.
    key
        Of the site, 32 bytes.

    Returns
    -------
    DeidentifiedFile
        What was done, and the map back.

    Raises
    ------
    InputError
        If the source is no such file or damaged, or if the target is the source or cannot be written.
    ValueError
        If the key is shorter than 32 bytes.
    """
    treatment = new_treatment(profile, key)
    with open_source(source) as file, _new_file(source, target) as new:
        with reading(str(source)):
            is_fastmri = isinstance(member(file, "kspace"), h5py.Dataset)
            names = [] if is_fastmri else measurements(file)
        if is_fastmri:
            copy_fastmri(file, new, treatment, samples=target is not None)
        elif names:
            copy_measurements(file, new, names, treatment, samples=target is not None)
        else:
            msg = (
                f"{source} has no group with `xml` and `data` (ISMRMRD) and no dataset `kspace` (fastMRI): only these are taken; "
                "convert others to ISMRMRD first."
            )
            raise InputError(msg, reason="NOT_RAW_DATA", field=str(source))
    return DeidentifiedFile(treatment.removed, treatment.map)


@contextlib.contextmanager
def _new_file(source: Path, target: Path | None) -> Iterator[h5py.File]:
    """Give a new file, which gets its name when it is whole; one in memory if there is no target."""
    if target is None:
        with h5py.File("show.h5", "w", driver="core", backing_store=False, block_size=_IN_MEMORY) as shown:
            yield shown
        return
    if target.exists() and target.samefile(source):
        msg = f"{target} is the input, which is never overwritten: choose another name."
        raise InputError(msg, reason="SAME_FILE", field=str(target))
    part = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        try:
            new = h5py.File(part, "x")
        except OSError as error:
            raise _unwritable(target, error) from error
        with new:
            yield new
        part.replace(target)
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()


def _unwritable(target: Path, error: OSError) -> InputError:
    why = os.strerror(error.errno) if error.errno else "the disk may be full, or the folder closed"
    msg = f"{target} cannot be written: {why}."
    return InputError(msg, status="FAILED_PRECONDITION", reason="OUTPUT", field=str(target))
