"""The ISMRMRD header: what is taken out, what is left behind, what is refused."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_builders import Encoding, file_request, header_xml, noise_readouts, write_mrd

from recond_service.ingest import read_header, read_scan
from recond_service.types import (
    FindingList,
    InvalidInputError,
    Limit,
    LimitExceededError,
    Limits,
    MrdHeader,
    RawScan,
    RecondError,
)

PERSON = (
    "<subjectInformation><patientName>Erika Musterfrau</patientName><patientID>4711</patientID></subjectInformation>"
    "<studyInformation><accessionNumber>99</accessionNumber></studyInformation>"
)


def read(xml: str | bytes, **limits: int) -> MrdHeader:
    return read_header(xml if isinstance(xml, bytes) else xml.encode(), Limits(**limits), FindingList())


def test_everything_that_counts_is_taken_out() -> None:
    system = (
        "<systemVendor>ACME</systemVendor><systemModel>Magnus</systemModel><systemFieldStrength_T>2.89</systemFieldStrength_T>"
        "<relativeReceiverNoiseBandwidth>0.8</relativeReceiverNoiseBandwidth><receiverChannels>2</receiverChannels>"
        "<coilLabel><coilNumber>1</coilNumber><coilName>B</coilName></coilLabel>"
        "<coilLabel><coilNumber>0</coilNumber><coilName>A</coilName></coilLabel><institutionName>Clinic</institutionName>"
    )
    parallel = (
        "<parallelImaging><accelerationFactor><kspace_encoding_step_1>3</kspace_encoding_step_1>"
        "<kspace_encoding_step_2>2</kspace_encoding_step_2></accelerationFactor><calibrationMode>Embedded</calibrationMode>"
        "</parallelImaging>"
    )
    sequence = (
        "<sequenceParameters><TR>500</TR><TE>10</TE><TE>20</TE><flipAngle_deg>90</flipAngle_deg></sequenceParameters>"
    )
    encoding = Encoding(
        (256, 140), (600.0, 350.5), (128, 116), (300.0, 290.0), limits=(0, 83, 28), averages=2, extra=parallel
    )
    header = read(header_xml(encoding, Encoding(), system=system, before=PERSON, after=sequence))
    assert len(header.encodings) == 2
    first = header.encodings[0]
    assert first.encoded.matrix == (256, 140, 1)
    assert first.encoded.field_of_view == (600.0, 350.5, 5.0)
    assert first.recon.matrix == (128, 116, 1)
    assert first.limits.step_1 == Limit(0, 83, 28)
    assert first.limits.average == Limit(0, 1, 0)
    assert first.limits.slice is None
    assert first.trajectory == "cartesian"
    assert first.parallel is not None
    assert first.parallel.acceleration == (3, 2)
    assert first.parallel.calibration_mode == "embedded"
    assert (header.system.vendor, header.system.field_strength, header.system.receiver_channels) == ("ACME", 2.89, 2)
    assert header.system.relative_noise_bandwidth == 0.8
    assert [label.name for label in header.system.coil_labels] == ["A", "B"]
    assert header.sequence.echo_times == (10.0, 20.0)
    assert header.sequence.flip_angles == (90.0,)


def test_nothing_about_the_person_is_kept() -> None:
    text = repr(read(header_xml(Encoding(), before=PERSON, system="<institutionName>Clinic</institutionName>")))
    for secret in ("Erika", "4711", "99", "Clinic"):
        assert secret not in text


@pytest.mark.parametrize("ending", [b"\0", b"\0\0rubbish"])
def test_everything_behind_a_nul_is_ignored(ending: bytes) -> None:
    assert read(header_xml(Encoding()).encode() + ending) == read(header_xml(Encoding()))


def test_missing_limits_are_said() -> None:
    findings = FindingList()
    xml = header_xml(Encoding())
    start, stop = xml.index("<encodingLimits>"), xml.index("</encodingLimits>") + len("</encodingLimits>")
    header = read_header((xml[:start] + xml[stop:]).encode(), Limits(), findings)
    assert header.encodings[0].limits.step_1 is None
    assert "limits-missing" in findings


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;&lol;&lol;&lol;&lol;&lol;&lol;">'
    '<!ENTITY lol3 "&lol2;&lol2;&lol2;&lol2;&lol2;&lol2;&lol2;">]><ismrmrdHeader>&lol3;</ismrmrdHeader>'
)
EXTERNAL = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><ismrmrdHeader>&x;</ismrmrdHeader>'


@pytest.mark.parametrize(
    ("xml", "reason"),
    [
        (BOMB, "HEADER_ENTITIES"),
        (EXTERNAL, "HEADER_ENTITIES"),
        ('<!DOCTYPE a SYSTEM "http://localhost/a.dtd"><ismrmrdHeader/>', "HEADER_ENTITIES"),
        ("", "HEADER_NOT_XML"),
        ("<ismrmrdHeader>", "HEADER_NOT_XML"),
        ('<?xml version="1.0" encoding="klingon"?><ismrmrdHeader/>', "HEADER_ENCODINGS"),
        ("<html/>", "HEADER_NOT_ISMRMRD"),
        ("<ismrmrdHeader/>", "HEADER_ENCODINGS"),
    ],
)
def test_headers_that_are_refused(xml: str, reason: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read(xml)
    assert caught.value.reason == reason
    assert caught.value.field.startswith("xml")
    assert len(caught.value.message) > 40


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("<x>64</x>", "<x>-64</x>", "xml.encoding.encodedSpace.matrixSize.x"),
        ("<x>64</x>", "<x>70000</x>", "xml.encoding.encodedSpace.matrixSize.x"),
        ("<x>64</x>", "<x>many</x>", "xml.encoding.encodedSpace.matrixSize.x"),
        ("<x>400.0</x>", "<x>nan</x>", "xml.encoding.encodedSpace.fieldOfView_mm.x"),
        ("<x>400.0</x>", "<x>-400</x>", "xml.encoding.encodedSpace.fieldOfView_mm"),
        (
            "<maximum>47</maximum>",
            "<maximum>1e9</maximum>",
            "xml.encoding.encodingLimits.kspace_encoding_step_1.maximum",
        ),
    ],
)
def test_values_that_cannot_be_are_named(old: str, new: str, field: str) -> None:
    xml = header_xml(Encoding())
    assert old in xml
    with pytest.raises(InvalidInputError) as caught:
        read(xml.replace(old, new, 1))
    assert caught.value.field == field
    assert caught.value.reason == "HEADER_VALUE"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("end", ["", "\0", "\0\0\0rest"])
def test_texts_of_any_encoding_and_end(encoding: str, end: str) -> None:
    text = header_xml(Encoding(), system="<systemVendor>Kühn</systemVendor>")
    mark = b"\xff\xfe" if encoding == "utf-16-le" else b""
    header = read_header(mark + (text + end).encode(encoding), Limits(), FindingList())
    assert header.system.vendor == "Kühn"
    assert header.encodings[0].encoded.matrix == (64, 48, 1)


def test_utf_16_that_hdf5_kept_whole_is_read(tmp_path: Path) -> None:
    path = write_mrd(tmp_path / "scan.h5", header_xml(Encoding()), noise_readouts(1))
    with h5py.File(path, "a") as file:
        del file["dataset/xml"]
        file["dataset/xml"] = np.bytes_(header_xml(Encoding()).encode("utf-16"))
    scan = read_scan(file_request(path), FindingList())
    assert isinstance(scan, RawScan)
    assert scan.source.header.encodings[0].encoded.matrix == (64, 48, 1)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_what_hdf5_leaves_of_utf_16_is_refused_with_the_remedy(encoding: str) -> None:
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    left = (mark + header_xml(Encoding()).encode(encoding)).split(b"\0", 1)[0]
    with pytest.raises(InvalidInputError, match="write it as UTF-8"):
        read_header(left, Limits(), FindingList())


def test_a_range_that_cannot_be_is_no_range() -> None:
    findings = FindingList()
    xml = header_xml(Encoding()).replace("<minimum>0</minimum>", "<minimum>50</minimum>", 1)
    assert read_header(xml.encode(), Limits(), findings).encodings[0].limits.step_1 is None
    assert "limits-impossible" in findings


def test_large_headers_are_refused_unread() -> None:
    with pytest.raises(LimitExceededError) as caught:
        read(header_xml(Encoding()), max_xml_bytes=100)
    assert caught.value.reason == "HEADER_TOO_LARGE"


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_headers_raise_nothing_else(data: st.DataObject) -> None:
    xml = bytearray(header_xml(Encoding(), before=PERSON).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        xml[data.draw(st.integers(0, len(xml) - 1))] = data.draw(st.integers(0, 255))
    try:
        read(bytes(xml[: data.draw(st.integers(0, len(xml)))]))
    except RecondError:
        return
