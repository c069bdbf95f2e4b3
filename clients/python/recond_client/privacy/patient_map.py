"""What de-identification took out, to be put back on images that return."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from recond_client.errors import InputError
from recond_client.privacy.pseudonyms import derived_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_MAGIC: Final = b"recond patient map 1\r\n"
_NONCE_BYTES: Final = 12
_SHORTEST: Final = len(_MAGIC) + _NONCE_BYTES + 16
_PUT_BACK: Final = {
    "subjectInformation": "patientName patientID patientBirthdate patientGender patientWeight_kg patientHeight_m",
    "studyInformation": "studyDate studyTime studyID accessionNumber referringPhysicianName studyDescription studyInstanceUID",
    "measurementInformation": "measurementID seriesDate seriesTime protocolName sequenceName seriesDescription "
    "seriesInstanceUIDRoot frameOfReferenceUID",
    "acquisitionSystemInformation": "institutionName stationName deviceID deviceSerialNumber",
}


class PatientMap:
    """Original values by their place; neither its text nor an error shows any of them.

    Parameters
    ----------
    values
        Places such as ``subjectInformation.patientName``, and the values that stood there, in order.
    replaced
        Identifiers that were replaced: new to old.
    profile
        Name of the profile.
    """

    def __init__(
        self,
        values: Mapping[str, tuple[str, ...]] | None = None,
        replaced: Mapping[str, str] | None = None,
        profile: str = "",
    ) -> None:
        self._values = {place: tuple(texts) for place, texts in (values or {}).items()}
        self._replaced = dict(replaced or {})
        self.profile: Final = profile

    def __repr__(self) -> str:
        return f"PatientMap({len(self._values)} places, {len(self._replaced)} replaced)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PatientMap):
            return NotImplemented
        return (self._values, self._replaced, self.profile) == (other._values, other._replaced, other.profile)

    __hash__ = None  # type: ignore[assignment] # values may be large, and nobody needs it

    @property
    def values(self) -> Mapping[str, tuple[str, ...]]:
        """Original values by their place."""
        return MappingProxyType(self._values)

    @property
    def replaced(self) -> Mapping[str, str]:
        """Identifiers that were replaced: new to old."""
        return MappingProxyType(self._replaced)

    def original(self, place: str) -> str:
        """Return the first value that stood at a place, empty if there was none."""
        return next(iter(self._values.get(place, ())), "")

    def restored(self, identifier: str) -> str:
        """Return the original of a UID or another identifier that was replaced; any other as it is."""
        return self._replaced.get(identifier, identifier)

    def attributes(self) -> dict[str, str]:
        """Return the attributes of patient, study, series and scanner that are put back as meta on images: name to value."""
        found = {
            name: self.original(f"{parent}.{name}") for parent, names in _PUT_BACK.items() for name in names.split()
        }
        return {name: value for name, value in found.items() if value}

    def merged(self, other: PatientMap) -> PatientMap:
        """Return a map of both, as of several measurements in a file."""
        values = dict(self._values)
        for place, texts in other._values.items():
            values[place] = (*values.get(place, ()), *texts)
        return PatientMap(values, self._replaced | other._replaced, self.profile or other.profile)

    def encrypt(self, key: bytes) -> bytes:
        """Return the map encrypted with AES-256-GCM.

        Raises
        ------
        InputError
            If the package `cryptography` is not installed.
        """
        content = {"values": self._values, "replaced": self._replaced, "profile": self.profile}
        nonce = os.urandom(_NONCE_BYTES)
        return _MAGIC + nonce + _cipher(key).encrypt(nonce, json.dumps(content).encode(), _MAGIC)

    @classmethod
    def decrypt(cls, encrypted: bytes, key: bytes) -> PatientMap:
        """Undo `encrypt`.

        Raises
        ------
        InputError
            If this is no map, if it was encrypted with another key or changed, or `cryptography` is not installed.
        """
        if not encrypted.startswith(_MAGIC) or len(encrypted) < _SHORTEST:
            msg = "This is no patient map: give the file that `recond deidentify --map` wrote."
            raise InputError(msg, reason="PATIENT_MAP")
        start = len(_MAGIC)
        nonce, sealed = encrypted[start : start + _NONCE_BYTES], encrypted[start + _NONCE_BYTES :]
        cipher = _cipher(key)
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - an extra

        try:
            content = json.loads(cipher.decrypt(nonce, sealed, _MAGIC))
        except InvalidTag:
            msg = "The patient map was encrypted with another key, or it was changed: give the key that it was written with."
            raise InputError(msg, reason="PATIENT_MAP_KEY") from None
        return cls(content["values"], content["replaced"], content["profile"])

    def write(self, path: Path, key: bytes) -> None:
        """Write the map, encrypted, to a new file that only its owner can read.

        Raises
        ------
        InputError
            If the file exists or cannot be written, or `cryptography` is not installed.
        """
        encrypted = self.encrypt(key)
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(file, "wb") as opened:
                opened.write(encrypted)
        except OSError as error:
            msg = f"The patient map {path} cannot be written: {error.strerror}."
            raise InputError(msg, status="FAILED_PRECONDITION", reason="PATIENT_MAP", field=str(path)) from error

    @classmethod
    def read(cls, path: Path, key: bytes) -> PatientMap:
        """Read a map from a file.

        Raises
        ------
        InputError
            As `decrypt`; also if the file cannot be read.
        """
        try:
            encrypted = path.read_bytes()
        except OSError as error:
            msg = f"The patient map {path} cannot be read: {error.strerror}."
            raise InputError(msg, status="NOT_FOUND", reason="PATIENT_MAP", field=str(path)) from error
        return cls.decrypt(encrypted, key)


def _cipher(key: bytes) -> AESGCM:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        msg = "Patient maps are encrypted, which needs the package 'cryptography': pip install 'recond[gateway]'."
        raise InputError(msg, status="FAILED_PRECONDITION", reason="EXTRA_MISSING") from error
    return AESGCM(derived_key(key, "patient map"))
