"""What the gateway reads of an MRD header: sizes, limits and times. Nothing that tells who was scanned."""

from __future__ import annotations

import math
from dataclasses import dataclass

from recond_client.errors import InputError
from recond_client.privacy.safe_xml import Element, parse
from recond_gateway.errors import SessionError


@dataclass(frozen=True, slots=True)
class EncodingFacts:
    """One encoding.

    Parameters
    ----------
    lines
        First and last phase-encode counter; None where the header does not say.
    partitions
        The same of the partitions.
    acceleration
        Along both.
    volume
        Encoded in three dimensions.
    depth
        Partitions of a slab in the images.
    averages
        How often each line comes.
    """

    lines: tuple[int, int] | None = None
    partitions: tuple[int, int] | None = None
    acceleration: tuple[int, int] = (1, 1)
    volume: bool = False
    depth: int = 1
    averages: int = 1

    @property
    def expected_lines(self) -> int:
        """How many lines an image has that is sampled fully; 0 where that is not known."""
        if self.lines is None or self.acceleration != (1, 1):
            return 0
        partitions = 1 if self.partitions is None or not self.volume else self.partitions[1] - self.partitions[0] + 1
        return (self.lines[1] - self.lines[0] + 1) * partitions


@dataclass(frozen=True, slots=True)
class HeaderFacts:
    """A header.

    Parameters
    ----------
    encodings
        At least one.
    echo_times, inversion_times
        ms, one for each contrast.
    """

    encodings: tuple[EncodingFacts, ...]
    echo_times: tuple[float, ...] = ()
    inversion_times: tuple[float, ...] = ()

    def encoding(self, number: int) -> EncodingFacts:
        """Return an encoding by its number; the first one for numbers that the header does not have."""
        return self.encodings[number] if number < len(self.encodings) else self.encodings[0]


def read_header(xml: bytes) -> HeaderFacts:
    """Return what is needed of a header.

    Parameters
    ----------
    xml
        As it came: read as tolerantly as the service reads it, with white space in front and in encodings other than UTF-8.

    Raises
    ------
    SessionError
        It is not XML, or no MRD header. Numbers that are none are left to the service, which says where they stand.
    """
    remedy = "send the ISMRMRD header of the measurement"
    try:
        root = parse(xml, "The HEADER message").root
    except InputError as error:
        # Where it stopped is told, and nothing of the text, which may name a patient.
        raise SessionError(f"{error.message.rstrip('.')}; {remedy}", reason="BAD_HEADER") from None
    encodings = tuple(_encoding(element) for element in _children(root, "encoding"))
    if root.name != "ismrmrdHeader" or not encodings:
        msg = f"the HEADER message holds no ISMRMRD header with an encoding: {remedy}"
        raise SessionError(msg, reason="BAD_HEADER")
    sequence = next(iter(_children(root, "sequenceParameters")), None)
    return HeaderFacts(encodings, _times(sequence, "TE"), _times(sequence, "TI"))


def _encoding(element: Element) -> EncodingFacts:
    limits = next(iter(_children(element, "encodingLimits")), None)
    parallel = next(iter(_children(element, "parallelImaging")), None)
    factor = None if parallel is None else next(iter(_children(parallel, "accelerationFactor")), None)
    average = _limit(limits, "average")
    return EncodingFacts(
        _limit(limits, "kspace_encoding_step_1"),
        _limit(limits, "kspace_encoding_step_2"),
        (1, 1)
        if factor is None
        else (_integer(factor, "kspace_encoding_step_1", 1), _integer(factor, "kspace_encoding_step_2", 1)),
        _depth(element, "encodedSpace") > 1,
        max(_depth(element, "reconSpace"), 1),
        1 if average is None else average[1] - average[0] + 1,
    )


def _depth(encoding: Element, name: str) -> int:
    space = next(iter(_children(encoding, name)), None)
    matrix = None if space is None else next(iter(_children(space, "matrixSize")), None)
    return 1 if matrix is None else _integer(matrix, "z", 1)


def _limit(limits: Element | None, name: str) -> tuple[int, int] | None:
    found = None if limits is None else next(iter(_children(limits, name)), None)
    if found is None:
        return None
    first, last = _integer(found, "minimum", 0), _integer(found, "maximum", 0)
    return (first, last) if 0 <= first <= last <= 65535 else None


def _integer(element: Element, name: str, default: int) -> int:
    found = next(iter(_children(element, name)), None)
    try:
        return default if found is None else int(found.text)
    except ValueError:
        return default


def _times(sequence: Element | None, name: str) -> tuple[float, ...]:
    times = []
    for element in () if sequence is None else _children(sequence, name):
        try:
            value = float(element.text)
        except ValueError:
            return ()
        if not math.isfinite(value):
            return ()
        times.append(value)
    return tuple(times)


def _children(element: Element, name: str) -> list[Element]:
    return [child for child in element.children if child.name == name]
