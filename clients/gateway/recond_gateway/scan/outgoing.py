"""What leaves the gateway for the service: headers without what identifies a person."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Outgoing(Protocol):
    """Prepares a scan for the service."""

    def header(self, xml: bytes) -> bytes:
        """Return the MRD header as it may leave."""
        ...

    def acquisitions(self) -> Callable[[NDArray[np.void]], NDArray[np.void]]:
        """Return what makes acquisition headers ready to leave, (readouts,) after (readouts,) in the order of the scan."""
        ...

    def restored(self) -> dict[str, str]:
        """Return the attributes of the patient that images get back; empty before `header` was called."""
        ...


class Unchanged:
    """Everything leaves as it came: for services that may know the patient."""

    def header(self, xml: bytes) -> bytes:
        """Return the header as it is."""
        return xml

    def acquisitions(self) -> Callable[[NDArray[np.void]], NDArray[np.void]]:
        """Return the identity."""
        return lambda headers: headers

    def restored(self) -> dict[str, str]:
        """Return nothing: nothing was taken out."""
        return {}
