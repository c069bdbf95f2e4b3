"""The ISMRMRD XML header.

Only what `types.header` has room for is taken out; see there for what is left behind, and why.
"""

from __future__ import annotations

import codecs
import math
import re
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml import ElementTree as SafeTree

from recond_service.types import (
    AcquisitionSystem,
    CoilLabel,
    Encoding,
    EncodingLimits,
    EncodingSpace,
    FindingList,
    InvalidInputError,
    Limit,
    LimitExceededError,
    Limits,
    MrdHeader,
    ParallelImaging,
    SequenceParameters,
)

_PLACE = "xml"
_LARGEST_COUNTER = 65535  # counters of acquisitions are uint16
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_FEWEST_WIDE_BYTES = 8  # mark and first character, and what may follow before a NUL
_DECLARATION = re.compile(r"<\?xml\s[^>]*?\?>")
_MOST_ENCODINGS = 256
_MOST_LABELS = 65536


class _Node:
    """An XML element found by local names, with its path for messages."""

    def __init__(self, element: object, path: str) -> None:
        self._element = element
        self.path = path

    def all(self, name: str) -> list[_Node]:
        return [
            _Node(child, f"{self.path}.{name}" if number == 0 else f"{self.path}.{name}[{number}]")
            for number, child in enumerate(
                child
                for child in self._element  # type: ignore[attr-defined]
                if isinstance(child.tag, str) and child.tag.rpartition("}")[2] == name
            )
        ]

    def get(self, name: str) -> _Node | None:
        found = self.all(name)
        return found[0] if found else None

    @property
    def own_text(self) -> str:
        return (self._element.text or "").strip()  # type: ignore[attr-defined]

    def text(self, name: str) -> str:
        child = self.get(name)
        return child.own_text if child else ""

    def number(self, name: str) -> float | None:
        """Return the finite number in a child, or None if there is no such child."""
        text = self.text(name)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise _wrong(f"{self.path}.{name}", text[:40], "a finite number")
        return value

    def whole(self, name: str, default: int | None = None) -> int | None:
        """Return the whole number from 0 to 65535 in a child, or `default` if there is no such child."""
        text = self.text(name)
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= _LARGEST_COUNTER):
            raise _wrong(f"{self.path}.{name}", text[:40], f"a whole number from 0 to {_LARGEST_COUNTER}")
        return int(text)


def _wrong(field: str, value: str, expected: str) -> InvalidInputError:
    return InvalidInputError(
        f"{field} of the ISMRMRD header is {value!r}; it must be {expected}: correct the header.",
        reason="HEADER_VALUE",
        field=field,
    )


def read_header(xml: bytes, limits: Limits, findings: FindingList) -> MrdHeader:
    """Parse an ISMRMRD header.

    Parameters
    ----------
    xml
        XML in UTF-8, or in UTF-16 with a byte order mark. A byte order mark, white space before the declaration and everything
        from the first NUL on are ignored, since senders disagree about them; bytes that are neither are read as Windows-1252.
    limits
        `max_xml_bytes` bounds the size.
    findings
        Gets what is odd about the header.

    Returns
    -------
    MrdHeader
        Without anything that identifies a person.

    Raises
    ------
    InvalidInputError
        If this is not well-formed XML, declares a DTD or entities, is not an ISMRMRD header, has no encoding, or holds a value
        that cannot be.
    LimitExceededError
        If it is larger than `max_xml_bytes`.
    """
    if len(xml) > limits.max_xml_bytes:
        raise LimitExceededError(
            f"The ISMRMRD header has {len(xml)} bytes; this service takes {limits.max_xml_bytes}: shorten it.",
            reason="HEADER_TOO_LARGE",
            field=_PLACE,
        )
    root = _parse(_text(xml, findings))
    nodes = root.all("encoding")
    if not 0 < len(nodes) <= _MOST_ENCODINGS:
        raise InvalidInputError(
            f"The ISMRMRD header has {len(nodes)} encodings; it must have between 1 and {_MOST_ENCODINGS}: correct the header.",
            reason="HEADER_ENCODINGS",
            field=f"{_PLACE}.encoding",
        )
    header = MrdHeader(
        encodings=tuple(_encoding(node, findings) for node in nodes),
        system=_system(root.get("acquisitionSystemInformation"), findings),
        sequence=_sequence(root.get("sequenceParameters"), findings),
        dependencies=_dependencies(root.get("measurementInformation")),
    )
    if any(encoding.limits.step_1 is None for encoding in header.encodings):
        findings.warn(
            "limits-missing",
            "The header has no limits for kspace_encode_step_1: every line of the matrix is expected, its centre in the middle.",
        )
    return header


def _text(xml: bytes, findings: FindingList) -> str:
    """Return the text of a header without byte order mark, declaration and what comes before and after the XML."""
    wide = xml.startswith(_WIDE)
    if wide and len(xml) < _FEWEST_WIDE_BYTES:
        raise InvalidInputError(
            "The ISMRMRD header is UTF-16, of which HDF5 text keeps nothing behind the first NUL: write it as UTF-8.",
            reason="HEADER_NOT_XML",
            field=_PLACE,
        )
    if wide and len(xml) % 2:
        xml += b"\0"  # HDF5 text of fixed length ends without its NULs
    try:
        text = xml.decode("utf-16") if wide else xml.split(b"\0", 1)[0].decode("utf-8-sig")
    except UnicodeDecodeError:
        findings.info("header-not-utf8", "The ISMRMRD header is not UTF-8: its names were read as Windows-1252.")
        text = xml.split(b"\0", 1)[0].decode("cp1252", "replace")
    text = text.split("\0", 1)[0].lstrip("\ufeff \t\r\n")
    # What the declaration says about the encoding is settled, and wrong in the cases above.
    return _DECLARATION.sub("", text, count=1) if text.startswith("<?xml") else text


def _parse(xml: str) -> _Node:
    try:
        element = SafeTree.fromstring(xml, forbid_dtd=True, forbid_entities=True, forbid_external=True)
    except DefusedXmlException as error:
        raise InvalidInputError(
            "The ISMRMRD header declares a document type or entities, which this service does not expand: remove them.",
            reason="HEADER_ENTITIES",
            field=_PLACE,
        ) from error
    except (ParseError, ValueError, LookupError) as error:  # the last two: encodings that do not exist, or do not fit
        raise InvalidInputError(
            f"The ISMRMRD header is not well-formed XML ({error}): send the header as the scanner wrote it.",
            reason="HEADER_NOT_XML",
            field=_PLACE,
        ) from error
    name = str(element.tag).rpartition("}")[2]
    if name != "ismrmrdHeader":
        raise InvalidInputError(
            f"The header's root element is {name[:40]!r}, not 'ismrmrdHeader': this is not an ISMRMRD header.",
            reason="HEADER_NOT_ISMRMRD",
            field=_PLACE,
        )
    return _Node(element, _PLACE)


def _encoding(node: _Node, findings: FindingList) -> Encoding:
    parallel = node.get("parallelImaging")
    return Encoding(
        encoded=_space(node.get("encodedSpace")),
        recon=_space(node.get("reconSpace")),
        limits=_limits(node.get("encodingLimits"), findings),
        trajectory=node.text("trajectory").lower(),
        parallel=None if parallel is None else _parallel(parallel),
    )


def _space(node: _Node | None) -> EncodingSpace:
    if node is None:
        return EncodingSpace()
    matrix = node.get("matrixSize")
    view = node.get("fieldOfView_mm")
    x, y, z = ((matrix.whole(axis, 0) or 0) if matrix else 0 for axis in "xyz")
    fx, fy, fz = ((view.number(axis) or 0.0) if view else 0.0 for axis in "xyz")
    if view and min(fx, fy, fz) < 0:
        raise _wrong(view.path, f"{fx} x {fy} x {fz}", "positive, in mm")
    return EncodingSpace((x, y, z), (fx, fy, fz))


def _limits(node: _Node | None, findings: FindingList) -> EncodingLimits:
    if node is None:
        return EncodingLimits()
    # The schema calls the phase encodes kspace_encoding_step_N; the counters of an acquisition are called kspace_encode_step_N.
    names = {name: name for name in ("average", "slice", "contrast", "phase", "repetition", "set", "segment")}
    names |= {"step_1": "kspace_encoding_step_1", "step_2": "kspace_encoding_step_2"}
    return EncodingLimits(**{name: _limit(node.get(stored), findings) for name, stored in names.items()})


def _limit(node: _Node | None, findings: FindingList) -> Limit | None:
    """Return a range of counters; None for one that cannot be, since the counters themselves tell it."""
    if node is None:
        return None
    minimum, maximum = node.whole("minimum", 0) or 0, node.whole("maximum", 0) or 0
    centre = node.text("center")
    known = centre.isascii() and centre.isdigit() and len(centre) <= len(str(_LARGEST_COUNTER))
    if centre and not known:
        findings.warn(
            "centre-impossible",
            f"{node.path}.center of the ISMRMRD header is {centre[:40]!r}, which no counter can be.",
        )
    if maximum < minimum:
        findings.warn(
            "limits-impossible",
            f"{node.path} of the ISMRMRD header is {minimum}..{maximum}, which is no range: the counters of the readouts count.",
        )
        return None
    return Limit(minimum, maximum, int(centre) if known else None)


def _parallel(node: _Node) -> ParallelImaging:
    factor = node.get("accelerationFactor")
    along_1 = (factor.whole("kspace_encoding_step_1", 1) if factor else 1) or 1
    along_2 = (factor.whole("kspace_encoding_step_2", 1) if factor else 1) or 1
    return ParallelImaging((along_1, along_2), node.text("calibrationMode").lower()[:40])


def _system(node: _Node | None, findings: FindingList) -> AcquisitionSystem:
    if node is None:
        return AcquisitionSystem()
    bandwidth = node.number("relativeReceiverNoiseBandwidth")
    if bandwidth is not None and bandwidth <= 0:
        raise _wrong(f"{node.path}.relativeReceiverNoiseBandwidth", f"{bandwidth:g}", "more than 0")
    numbers = [label.text("coilNumber") for label in node.all("coilLabel")]
    labels = [
        CoilLabel(int(number) if number.isascii() and number.isdigit() else place, label.text("coilName")[:64])
        for place, (number, label) in enumerate(zip(numbers, node.all("coilLabel"), strict=True))
    ]
    strength = _numbers(node.all("systemFieldStrength_T"), findings)
    return AcquisitionSystem(
        vendor=node.text("systemVendor")[:64],
        model=node.text("systemModel")[:64],
        field_strength=strength[0] if strength else None,
        receiver_channels=node.whole("receiverChannels"),
        relative_noise_bandwidth=bandwidth,
        coil_labels=tuple(sorted(labels[:_MOST_LABELS], key=lambda label: label.number)),
    )


def _numbers(nodes: list[_Node], findings: FindingList) -> tuple[float, ...]:
    """Return the finite numbers in some elements that no reconstruction depends on; what else they hold is left out."""
    values = []
    for node in nodes:
        try:
            value = float(node.own_text)
        except ValueError:
            value = math.nan
        if math.isfinite(value):
            values.append(value)
        else:
            findings.info(
                "header-value-ignored",
                f"{node.path} of the ISMRMRD header is {node.own_text[:40]!r}, not a number: it is left out.",
            )
    return tuple(values)


def _sequence(node: _Node | None, findings: FindingList) -> SequenceParameters:
    if node is None:
        return SequenceParameters()
    return SequenceParameters(
        repetition_times=_numbers(node.all("TR"), findings),
        echo_times=_numbers(node.all("TE"), findings),
        inversion_times=_numbers(node.all("TI"), findings),
        flip_angles=_numbers(node.all("flipAngle_deg"), findings),
        sequence_type=node.text("sequence_type")[:64],
    )


def _dependencies(node: _Node | None) -> tuple[str, ...]:
    if node is None:
        return ()
    return tuple(child.text("dependencyType").lower()[:40] for child in node.all("measurementDependency"))
