"""What leaves a gateway, as its settings have it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import structlog
from numpy.typing import NDArray

from recond_client.privacy.acquisitions import HeaderState, deidentify_headers
from recond_client.privacy.header import deidentify_header, new_treatment
from recond_client.privacy.key_file import create_key, read_key
from recond_client.privacy.patient_map import PatientMap
from recond_client.privacy.recond_mrd_1 import RECOND_MRD_1
from recond_gateway.config import Settings
from recond_gateway.scan.outgoing import Outgoing, Unchanged

_log = structlog.get_logger(__name__)


class Deidentified:
    """Takes out of a scan what may tell who was scanned, by the profile ``recond-mrd-1``.

    Parameters
    ----------
    key
        Of the site, 32 bytes: the same identifiers get the same replacements in every scan.
    restore
        Whether images get the attributes of the patient back.
    """

    def __init__(self, key: bytes, *, restore: bool) -> None:
        self._key: Final = key
        self._restore: Final = restore
        self._map = PatientMap()

    def header(self, xml: bytes) -> bytes:
        """Return the header as it may leave."""
        done = deidentify_header(xml, RECOND_MRD_1, self._key)
        self._map = done.map
        _log.info(
            "deidentified",
            profile=RECOND_MRD_1.name,
            places=sorted({f"{each.place}: {each.action.said}" for each in done.removed}),
        )
        return done.xml

    def acquisitions(self) -> Callable[[NDArray[np.void]], NDArray[np.void]]:
        """Return what takes times of day, identifiers and fields of free use out of acquisition headers."""
        state = HeaderState(new_treatment(RECOND_MRD_1, self._key))
        return lambda headers: deidentify_headers(headers, state)

    def restored(self) -> dict[str, str]:
        """Return the attributes of patient, study and scanner that images get back."""
        return self._map.attributes() if self._restore else {}


def outgoing_of(settings: Settings) -> Callable[[], Outgoing]:
    """Return what makes, for each scan, what takes out of it what stays at the gateway.

    Parameters
    ----------
    settings
        Of the gateway; the key of the site is read here, and made if it is not there.

    Raises
    ------
    InputError
        The key cannot be read or made.
    """
    if not settings.privacy.deidentify:
        return Unchanged
    key = _site_key(
        settings.privacy.key_file or settings.spool.folder.with_name(f"{settings.spool.folder.name}.site.key")
    )
    return lambda: Deidentified(key, restore=settings.privacy.restore)


def _site_key(path: Path) -> bytes:
    return read_key(path) if path.exists() else create_key(path)
