"""The messages of MRD version 1."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray


class MessageId(IntEnum):
    """The two bytes that a message begins with."""

    CONFIG_FILE = 1
    CONFIG_TEXT = 2
    HEADER = 3
    CLOSE = 4
    TEXT = 5
    QUERY = 6
    RESPONSE = 7
    ERROR = 8
    ACQUISITION = 1008
    IMAGE = 1022
    WAVEFORM = 1026
    NDARRAY = 1030


DEPRECATED_IDS: Final = frozenset({*range(1004, 1008), *range(1009, 1013), *range(1015, 1018), 1020, 1021})
"""Images of one pixel type each, from before 1022 took all of them."""

GADGETRON_IDS: Final = {
    1023: "RECONDATA",
    1024: "IMAGE_ARRAY",
    1050: "ACQUISITION_BUCKET",
    1051: "ACQUISITION_BUNDLE",
}
"""What Gadgetron's nodes send one another."""


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """The name of a configuration."""

    name: str


@dataclass(frozen=True, slots=True)
class ConfigText:
    """A configuration itself, often XML."""

    text: str


@dataclass(frozen=True, slots=True)
class Header:
    """The MRD header, without the NUL that some senders put behind it."""

    xml: bytes


@dataclass(frozen=True, slots=True)
class Text:
    """A line for the log, or parameters as JSON if it comes right behind the header."""

    text: str


@dataclass(frozen=True, slots=True)
class Close:
    """The sender has no more to send."""


@dataclass(frozen=True, slots=True)
class Query:
    """A question of Gadgetron's, such as ``gadgetron::info``."""

    correlation: int
    query: str


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to the query of the same correlation."""

    correlation: int
    text: str


@dataclass(frozen=True, slots=True)
class GadgetronError:
    """What a node of Gadgetron's says went wrong."""

    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Acquisitions:
    """Consecutive acquisitions, as `recond_client.AcquisitionBatch` takes them.

    Parameters
    ----------
    headers
        (n,) of `layouts.ACQUISITION_HEADER`.
    samples
        The samples one after another: complex64, (channels, samples) each.
    trajectories
        The trajectories one after another: float32, (samples, dimensions) each.
    """

    headers: NDArray[np.void]
    samples: bytes
    trajectories: bytes

    @property
    def count(self) -> int:
        """Number of acquisitions."""
        return len(self.headers)

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.headers.nbytes + len(self.samples) + len(self.trajectories)


@dataclass(frozen=True, slots=True, eq=False)
class Waveforms:
    """Consecutive waveforms.

    Parameters
    ----------
    headers
        (n,) of `layouts.WAVEFORM_HEADER`.
    samples
        The samples one after another: uint32, (channels, samples) each.
    """

    headers: NDArray[np.void]
    samples: bytes

    @property
    def count(self) -> int:
        """Number of waveforms."""
        return len(self.headers)

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.headers.nbytes + len(self.samples)


@dataclass(frozen=True, slots=True, eq=False)
class ImageMessage:
    """An image.

    Parameters
    ----------
    header
        One item of `layouts.IMAGE_HEADER`.
    attributes
        XML of its meta attributes, often empty.
    pixels
        (channels, z, y, x) of the header's data type.
    """

    header: np.void
    attributes: str
    pixels: bytes

    @property
    def size(self) -> int:
        """Size in bytes, the attributes in UTF-8."""
        return self.header.nbytes + len(self.attributes.encode()) + len(self.pixels)


@dataclass(frozen=True, slots=True, eq=False)
class NdArray:
    """An array of any shape."""

    array: NDArray[np.generic]

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.array.nbytes


Message: TypeAlias = (
    ConfigFile
    | ConfigText
    | Header
    | Text
    | Close
    | Query
    | Response
    | GadgetronError
    | Acquisitions
    | Waveforms
    | ImageMessage
    | NdArray
)
