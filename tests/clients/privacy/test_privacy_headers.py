"""Headers: no marker comes through, what a reconstruction reads does, and the way back holds what was taken out."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import traceback

import ismrmrd.xsd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maximal_header import Markers, leaves, maximal_xml
from raw_builders import Encoding, header_xml

from recond_client import InputError
from recond_client.privacy.header import Deidentified, deidentify_header
from recond_client.privacy.profile import Action, Area
from recond_client.privacy.recond_mrd_1 import RECOND_MRD_1
from recond_service.ingest.header import read_header
from recond_service.types import FindingList, Limits

KEY = bytes(range(32))
OTHER_KEY = bytes(32)
REMOVED = [rule.place for rule in RECOND_MRD_1.rules if rule.area is Area.HEADER and rule.action is Action.REMOVE]


def treated(xml: str | bytes, key: bytes = KEY) -> Deidentified:
    return deidentify_header(xml.encode() if isinstance(xml, str) else xml, RECOND_MRD_1, key)


def service_reads(xml: str | bytes) -> object:
    return read_header(xml.encode() if isinstance(xml, str) else xml, Limits(), FindingList())


def test_every_element_of_the_schema_is_in_the_profile() -> None:
    """What is not would be removed; here nothing is left to that."""
    covered = {rule.place for rule in RECOND_MRD_1.rules if rule.area is Area.HEADER}
    assert not {leaf for leaf in leaves() if not any(f"{leaf}.".startswith(f"{place}.") for place in covered)}


def test_every_place_of_the_profile_is_in_the_schema() -> None:
    places = {rule.place for rule in RECOND_MRD_1.rules if rule.area is Area.HEADER and not rule.place.startswith("(")}
    assert not {place for place in places if not any(f"{leaf}.".startswith(f"{place}.") for leaf in leaves())}


def test_no_marker_comes_through() -> None:
    markers = Markers()
    xml = maximal_xml(markers)
    assert len(markers.found_in(xml)) > 60
    done = treated(xml)
    said = repr(done) + repr(done.removed) + repr(done.map) + str(done.map)
    assert not markers.found_in(done.xml, said)
    for gone in (b"patientGender", b"patientBirthdate", b"studyDate", b"17:43", b"-07-23", b"TUFSS0VS", b"waveform"):
        assert gone not in done.xml
    places = {each.place for each in done.removed}
    for place in markers.planted.values():
        assert any(f"{place}.".startswith(f"{noted}.") for noted in places), place
    assert not markers.found_in(done.map.encrypt(KEY))


def test_what_remains_is_valid_and_says_the_same() -> None:
    xml = maximal_xml(Markers())
    done = treated(xml)
    before, after = (ismrmrd.xsd.CreateFromDocument(text) for text in (xml, done.xml.decode()))
    assert before.encoding[0].encodedSpace == after.encoding[0].encodedSpace
    assert before.encoding[1].encodingLimits == after.encoding[1].encodingLimits
    assert before.encoding[0].parallelImaging == after.encoding[0].parallelImaging
    assert before.sequenceParameters.TR == after.sequenceParameters.TR
    assert before.sequenceParameters.diffusion == after.sequenceParameters.diffusion
    assert after.measurementInformation.patientPosition == before.measurementInformation.patientPosition
    assert after.acquisitionSystemInformation.receiverChannels == 2
    assert after.subjectInformation is None
    assert ismrmrd.xsd.CreateFromDocument(ismrmrd.xsd.ToXML(after)) == after
    service_reads(done.xml)


def test_the_service_reads_the_same_header() -> None:
    """Of a header with technical names, nothing that the service reads changes."""
    coils = "".join(
        f"<coilLabel><coilNumber>{number}</coilNumber><coilName>HeadNeck_20:1:H{number:02d}</coilName></coilLabel>"
        for number in range(8)
    )
    system = (
        "<systemVendor>SIEMENS</systemVendor><systemModel>Prisma_fit</systemModel>"
        "<systemFieldStrength_T>2.89362</systemFieldStrength_T><relativeReceiverNoiseBandwidth>0.793"
        f"</relativeReceiverNoiseBandwidth><receiverChannels>8</receiverChannels>{coils}"
        "<institutionName>St. Elsewhere</institutionName><stationName>MR1</stationName>"
    )
    parallel = (
        "<parallelImaging><accelerationFactor><kspace_encoding_step_1>2</kspace_encoding_step_1><kspace_encoding_step_2>1"
        "</kspace_encoding_step_2></accelerationFactor><calibrationMode>embedded</calibrationMode></parallelImaging>"
    )
    xml = header_xml(
        Encoding(averages=2),
        Encoding(extra=parallel),
        system=system,
        before="<measurementInformation><patientPosition>HFS</patientPosition><measurementDependency><dependencyType>Noise"
        "</dependencyType><measurementID>45_1</measurementID></measurementDependency></measurementInformation>",
        after="<sequenceParameters><TR>500</TR><TE>4.2</TE><flipAngle_deg>70</flipAngle_deg><sequence_type>TurboSpinEcho"
        "</sequence_type></sequenceParameters>",
    )
    done = treated(xml)
    assert service_reads(done.xml) == service_reads(xml)
    assert b"Elsewhere" not in done.xml


def test_removed_tells_places_and_actions_only() -> None:
    xml = header_xml(
        Encoding(),
        before="<subjectInformation><patientName>DOE^JANE</patientName><patientID>4711</patientID></subjectInformation>",
        after="<userParameters><userParameterString><name>SecretName</name><value>secret</value></userParameterString>"
        "<userParameterString><name>Other</name><value>secret</value></userParameterString></userParameters>",
    )
    done = treated(xml)
    assert {(each.place, each.action, each.count) for each in done.removed} == {
        ("subjectInformation.patientName", Action.REMOVE, 1),
        ("subjectInformation.patientID", Action.REMOVE, 1),
        ("userParameters.userParameterString", Action.REMOVE, 2),
    }
    assert done.map.original("subjectInformation.patientName") == "DOE^JANE"
    assert b"<userParameters>" not in done.xml
    assert b"<subjectInformation>" not in done.xml


def test_user_parameters_stay_by_their_names() -> None:
    def parameter(kind: str, name: str, value: str) -> str:
        return f"<userParameter{kind}><name>{name}</name><value>{value}</value></userParameter{kind}>"

    kept = [("Long", "etl", "64"), ("Double", "MaxwellCoefficient_11", "0.25"), ("Long", "EmbeddedRefLinesE1", "24")]
    gone = [
        ("Long", "PatientNumber", "4711"),
        ("Double", "MaxwellCoefficient_DOE", "1"),
        ("Double", "MaxwellCoefficient_", "1"),
        ("Long", "etl", "DOE"),
        ("String", "etl", "64"),
        ("Base64", "etl", "NjQ="),
    ]
    inside = "".join(parameter(*each) for each in (*kept, *gone))
    done = treated(header_xml(Encoding(), after=f"<userParameters>{inside}</userParameters>")).xml.decode()
    assert re.findall(r"<name>(.*?)</name><value>(.*?)</value>", done) == [each[1:] for each in kept]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("SIEMENS", "SIEMENS"),
        ("Siemens Healthineers", "Siemens Healthineers"),
        ("GE MEDICAL SYSTEMS", "GE MEDICAL SYSTEMS"),
        ("Philips of Dr. Doe", "Philips"),
        ("Siemens 19700101", "Siemens"),
        ("Siemens 1970", "Siemens"),
        ("Doe", None),
    ],
)
def test_makers_stay_by_known_words(text: str, kept: str | None) -> None:
    done = treated(header_xml(Encoding(), system=f"<systemVendor>{text}</systemVendor>")).xml.decode()
    found = re.search("<systemVendor>(.*)</systemVendor>", done)
    assert (found and found[1]) == kept


@pytest.mark.parametrize(
    "name", ["HeadNeck_20:1:H11", "Body_18:1:B23", "H1P", "Coil 3", "32", "HE1-4", "Spine_32:1:S63", "BO1 (A)", "C"]
)
def test_technical_coil_names_stay(name: str) -> None:
    label = f"<coilLabel><coilNumber>0</coilNumber><coilName>{name}</coilName></coilLabel>"
    assert f"<coilName>{name}</coilName>" in treated(header_xml(Encoding(), system=label)).xml.decode()


@pytest.mark.parametrize(
    "name", ["JANE", "DOE JAN 19 70 01 01", "4711", "Head_4711", "H1 for Jane", "Müll", "Head" * 80]
)
def test_names_of_people_are_no_names_of_coils(name: str) -> None:
    label = f"<coilLabel><coilNumber>0</coilNumber><coilName>{name}</coilName></coilLabel>"
    assert name.encode() not in treated(header_xml(Encoding(), system=label)).xml


def test_other_coil_names_are_replaced_alike() -> None:
    label = "".join(
        f"<coilLabel><coilNumber>{number}</coilNumber><coilName>{name}</coilName></coilLabel>"
        for number, name in enumerate(["Janes coil", "Johns coil", "Janes coil"])
    )
    names = re.findall("<coilName>(.*?)<", treated(header_xml(Encoding(), system=label)).xml.decode())
    assert names[0] == names[2] != names[1]
    assert all(re.fullmatch("id-[0-9a-f]{16}", name) for name in names)


def study(uid: str, **more: str) -> str:
    inside = "".join(f"<{name}>{value}</{name}>" for name, value in more.items())
    return header_xml(
        Encoding(), before=f"<studyInformation>{inside}<studyInstanceUID>{uid}</studyInstanceUID></studyInformation>"
    )


def study_uid(xml: bytes) -> str:
    found = re.search("<studyInstanceUID>(.*)</studyInstanceUID>", xml.decode())
    assert found is not None
    return found[1]


def test_uids_are_consistent_under_a_key_and_come_back() -> None:
    one, again = treated(study("1.2.3.4")), treated(study(" 1.2.3.4\n", studyDescription="another scan"))
    other_key, other_study = treated(study("1.2.3.4"), OTHER_KEY), treated(study("1.2.3.5"))
    uid = study_uid(one.xml)
    assert uid == study_uid(again.xml)
    assert len({uid, study_uid(other_key.xml), study_uid(other_study.xml), "1.2.3.4"}) == 4
    assert re.fullmatch(r"2\.25\.[1-9][0-9]{0,38}", uid)
    assert one.map.restored(uid) == "1.2.3.4"
    assert one.map.restored("1.9") == "1.9"
    assert one.map.attributes()["studyInstanceUID"] == "1.2.3.4"


def test_measurements_still_depend_on_each_other() -> None:
    def ids(own: str, other: str) -> list[str]:
        xml = header_xml(
            Encoding(),
            before=f"<measurementInformation><measurementID>{own}</measurementID><patientPosition>HFS</patientPosition>"
            f"<measurementDependency><dependencyType>Noise</dependencyType><measurementID>{other}</measurementID>"
            "</measurementDependency></measurementInformation>",
        )
        return re.findall("<measurementID>(.*?)<", treated(xml).xml.decode())

    noise, scan = ids("4711_1", "4711_0"), ids("4711_2", "4711_1")
    assert noise[0] == scan[1]
    assert len({*noise, *scan}) == 3
    assert not any("4711_" in each for each in (*noise, *scan))


# Forms of XML


def forms(xml: str) -> dict[str, bytes]:
    body = xml.removeprefix('<?xml version="1.0"?>')
    prefixed = re.sub(r"<(/?)(\w)", r"<\1ismrmrd:\2", body).replace("xmlns=", "xmlns:ismrmrd=")
    return {
        "NULs": xml.encode() + b"\0\0\0",
        "text after a NUL": xml.encode() + b"\0DOE^JANE",
        "white space": b"\r\n  " + xml.encode() + b" \n\t ",
        "UTF-8 mark": b"\xef\xbb\xbf" + xml.encode(),
        "UTF-16": xml.encode("utf-16"),
        "UTF-16 without its last NUL": xml.encode("utf-16").rstrip(b"\0"),
        "prefixes": prefixed.encode(),
        "no namespace": body.replace(' xmlns="http://www.ismrm.org/ISMRMRD"', "").encode(),
        "no declaration": body.encode(),
        "another declaration": ('<?xml version="1.0" encoding="latin1" standalone="yes"?>' + body).encode(),
        "schema location": body.replace(
            "<ismrmrdHeader",
            '<ismrmrdHeader xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="a b.xsd"',
            1,
        ).encode(),
    }


@pytest.mark.parametrize("form", list(forms("")))
def test_every_form_of_xml(form: str) -> None:
    xml = study("1.2.3.4", studyID="4711")
    done = treated(forms(xml)[form])
    assert done == treated(xml)


def test_windows_1252() -> None:
    xml = study("1.2", referringPhysicianName="Müller").encode("cp1252")
    done = treated(xml)
    assert done.map.original("studyInformation.referringPhysicianName") == "Müller"
    ismrmrd.xsd.CreateFromDocument(done.xml.decode())


def test_whatever_else_is_in_it_goes() -> None:
    markers = Markers("Hidden")
    xml = study("1.2.3.4")
    xml = xml.replace("<encoding>", f"<!-- {markers.text('comment')} --><?pi {markers.text('pi')}?><encoding>", 1)
    xml = xml.replace("<encodedSpace>", f"{markers.text('text')}<encodedSpace note='{markers.text('attribute')}'>", 1)
    xml = xml.replace("<x>64</x>", f"<x id='{markers.text('attribute')}'>64<{markers.text('name')}/></x>", 1)
    xml = xml.replace("<y>48</y>", f"<y>{markers.text('value')}</y>", 1)
    name = markers.text("element")
    inside = f"<{name}><b>{markers.text('inside')}<c>{markers.text('deep')}</c></b></{name}>"
    xml = xml.replace("</ismrmrdHeader>", f"{inside}</ismrmrdHeader>")
    xml = xml.replace("<trajectory>cartesian", f"<trajectory>{markers.text('word')}", 1)
    assert len(markers.found_in(xml)) == len(markers.planted) == 11
    done = treated(xml)
    assert not markers.found_in(done.xml, repr(done))
    assert b"<trajectory>other</trajectory>" in done.xml
    assert b"<matrixSize><x>64</x><z>1</z></matrixSize>" in done.xml
    actions = {each.place: each.action for each in done.removed}
    assert actions["encoding.encodedSpace.(attributes)"] is Action.REMOVE
    assert actions["encoding.trajectory"] is Action.CLEAN
    assert actions["(comments)"] is Action.REMOVE
    assert actions["(anything else)"] is Action.REMOVE


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE ismrmrdHeader [<!ENTITY a "Secret"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    "]><ismrmrdHeader>&b;</ismrmrdHeader>"
)


@pytest.mark.parametrize(
    ("xml", "reason"),
    [
        (BOMB, "HEADER_ENTITIES"),
        ('<!DOCTYPE x SYSTEM "file:///etc/Secret"><ismrmrdHeader/>', "HEADER_ENTITIES"),
        ("<ismrmrdHeader><Secret></ismrmrdHeader>", "HEADER_NOT_XML"),
        ("<ismrmrdHeader>&Secret;</ismrmrdHeader>", "HEADER_NOT_XML"),
        ("Secret", "HEADER_NOT_XML"),
        ("", "HEADER_NOT_XML"),
        ("<Secret/>", "HEADER_NOT_ISMRMRD"),
        ("<ismrmrdHeader>" + "<Secret>" * 40 + "</Secret>" * 40 + "</ismrmrdHeader>", "HEADER_TOO_LARGE"),
        ("<ismrmrdHeader>" + "<Secret/>" * 500_001 + "</ismrmrdHeader>", "HEADER_TOO_LARGE"),
        ("<ismrmrdHeader>" + " " * (16 << 20) + "</ismrmrdHeader>", "HEADER_TOO_LARGE"),
    ],
    ids=["bomb", "external", "unclosed", "undefined", "text", "empty", "root", "deep", "wide", "large"],
)
def test_what_is_no_header_is_refused_without_showing_it(xml: str, reason: str) -> None:
    with pytest.raises(InputError) as refused:
        treated(xml)
    assert refused.value.reason == reason
    assert "Secret" not in "".join(traceback.format_exception(refused.value))


def test_a_header_of_16_mib() -> None:
    label = "<coilLabel><coilNumber>1</coilNumber><coilName>Head_32:1:H01</coilName></coilLabel>"
    done = treated(header_xml(Encoding(), system=label * 2000, after=" " * ((16 << 20) - 200_000)))
    assert done.xml.count(b"<coilName>") == 2000


@pytest.mark.parametrize("size", [0, 16, 31])
def test_a_short_key_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        deidentify_header(study("1.2").encode(), RECOND_MRD_1, bytes(size))


def test_headers_need_nothing_that_takes_long_to_load() -> None:
    code = "import recond_client.privacy.header, recond_client.privacy.meta, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"cryptography", "defusedxml", "h5py", "ismrmrd", "torch"} & set(loaded)


words = st.text(st.characters(exclude_categories=["C"], exclude_characters="<>&"))


@settings(deadline=None, max_examples=150)
@given(place=st.sampled_from([place for place in REMOVED if "(" not in place]), text=words)
def test_any_text_in_any_place_goes(place: str, text: str) -> None:
    marker = f"Jane{text}Doe"
    inside = marker
    for part in reversed(place.split(".")):
        inside = f"<{part}>{inside}</{part}>"
    done = treated(header_xml(Encoding(), after=inside))
    assert b"Jane" not in done.xml
    assert b"Doe" not in done.xml
    assert (place, Action.REMOVE) in {(each.place, each.action) for each in done.removed}
    service_reads(done.xml)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=300))
def test_any_bytes(raw: bytes) -> None:
    for xml in (raw, b"<ismrmrdHeader>" + raw + b"</ismrmrdHeader>"):
        with contextlib.suppress(InputError):
            treated(xml)
