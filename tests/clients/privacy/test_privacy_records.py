"""Headers of readouts and images, attributes of images, and the map back."""

from __future__ import annotations

import builtins
import pickle
from pathlib import Path

import ismrmrd
import ismrmrd.hdf5
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recond_client import InputError
from recond_client.privacy.acquisitions import (
    HeaderState,
    deidentify_headers,
    deidentify_image_headers,
    restore_image_headers,
)
from recond_client.privacy.header import new_treatment
from recond_client.privacy.meta import deidentify_meta
from recond_client.privacy.patient_map import PatientMap
from recond_client.privacy.profile import Action
from recond_client.privacy.recond_mrd_1 import RECOND_MRD_1
from recond_client.privacy.record import Treatment

KEY = bytes(range(32))
ACQUISITION = ismrmrd.hdf5.acquisition_header_dtype
IMAGE = ismrmrd.hdf5.image_header_dtype
CHANGED = {"measurement_uid", "acquisition_time_stamp", "physiology_time_stamp", "user_int", "user_float"}


def treatment() -> Treatment:
    return new_treatment(RECOND_MRD_1, KEY)


def random_headers(dtype: np.dtype, count: int = 50) -> np.ndarray:
    return np.frombuffer(np.random.default_rng(0).bytes(count * dtype.itemsize), dtype)


@pytest.mark.parametrize(
    ("dtype", "function", "size"),
    [(ACQUISITION, deidentify_headers, 340), (IMAGE, deidentify_image_headers, 198)],
    ids=["acquisitions", "images"],
)
def test_the_rest_of_a_header_stays(dtype, function, size) -> None:
    """The fields lie where the package has them, and no other byte changes, in every form of array."""
    assert dtype.itemsize == size
    headers = random_headers(dtype)
    before = headers.tobytes()
    done = function(headers, HeaderState(treatment()))
    assert done.dtype == headers.dtype
    for name in dtype.names:
        same = done[name].tobytes() == headers[name].tobytes()
        assert same is (name not in CHANGED | {"idx"}), name
    for name in ("physiology_time_stamp", "user_int", "user_float"):
        assert not done[name].any()
    if "idx" in dtype.names:
        assert not done["idx"]["user"].any()
        names = [name for name in dtype["idx"].names if name != "user"]
        assert all((done["idx"][name] == headers["idx"][name]).all() for name in names)
    as_bytes = headers.view(np.uint8).reshape(-1, size)
    assert function(as_bytes, HeaderState(treatment())).tobytes() == done.tobytes()
    assert function(headers.view(f"V{size}"), HeaderState(treatment())).tobytes() == done.tobytes()
    assert headers.tobytes() == before


def test_c_structures_of_the_package() -> None:
    head = ismrmrd.AcquisitionHeader(user_int=(1,) * 8, acquisition_time_stamp=1000, measurement_uid=5, scan_counter=9)
    raw = np.frombuffer(bytes(head), np.uint8).reshape(1, 340)
    done = ismrmrd.AcquisitionHeader.from_buffer_copy(deidentify_headers(raw, HeaderState(treatment())).tobytes())
    assert (done.user_int[0], done.acquisition_time_stamp, done.scan_counter) == (0, 0, 9)
    assert done.measurement_uid not in {0, 5}


def stamped(*stamps: int) -> np.ndarray:
    headers = np.zeros(len(stamps), ACQUISITION)
    headers["acquisition_time_stamp"] = stamps
    return headers


def test_time_counts_from_the_first_readout_over_all_batches() -> None:
    state = HeaderState(treatment())
    times = [
        deidentify_headers(stamped(*batch), state)["acquisition_time_stamp"].tolist()
        for batch in ([0, 0], [20_000_000, 20_000_004], [19_999_999, 20_000_009, 0])
    ]
    assert times == [[0, 0], [0, 4], [0, 9, 0]]
    assert state.treatment.map.values["acquisition.acquisition_time_stamp"] == ("20000000",)
    images = np.zeros(1, IMAGE)
    images["acquisition_time_stamp"] = 20_000_006
    assert deidentify_image_headers(images, state)["acquisition_time_stamp"].tolist() == [6]


def test_a_scan_over_midnight() -> None:
    day = 24 * 3600 * 400
    done = deidentify_headers(stamped(day - 4, day - 2, 2, 6), HeaderState(treatment()))
    assert done["acquisition_time_stamp"].tolist() == [0, 2, 6, 10]


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), max_size=20), st.integers(0, 20))
def test_any_stamps_in_any_batches(stamps: list[int], cut: int) -> None:
    whole, parts = HeaderState(treatment()), HeaderState(treatment())
    together = deidentify_headers(stamped(*stamps), whole)
    apart = [deidentify_headers(stamped(*part), parts) for part in (stamps[:cut], stamps[cut:])]
    assert np.concatenate(apart).tobytes() == together.tobytes()


def test_measurements_keep_apart_and_come_back() -> None:
    headers = np.zeros(6, ACQUISITION)
    headers["measurement_uid"] = [0, 7, 7, 8, 7, 0]
    state = HeaderState(treatment())
    done = deidentify_headers(headers, state)["measurement_uid"].tolist()
    assert done[0] == done[5] == 0
    assert done[1] == done[2] == done[4] != done[3]
    assert not {7, 8} & set(done)
    assert state.treatment.map.restored(f"measurement_uid:{done[3]}") == "8"
    other = HeaderState(new_treatment(RECOND_MRD_1, bytes(32)))
    assert deidentify_headers(headers, other)["measurement_uid"].tolist() != done


def test_images_that_return_get_their_measurement_and_time_back() -> None:
    state = HeaderState(treatment())
    headers = stamped(20_000_000, 20_000_400)
    headers["measurement_uid"] = 4711
    done = deidentify_headers(headers, state)
    images = np.zeros(3, IMAGE)
    images["measurement_uid"] = [*done["measurement_uid"], 12]
    images["acquisition_time_stamp"] = [400, 0, 7]
    back = restore_image_headers(images, state)
    assert back["measurement_uid"].tolist() == [4711, 4711, 12]
    assert back["acquisition_time_stamp"].tolist() == [20_000_400, 0, 20_000_007]
    as_bytes = restore_image_headers(images.view(np.uint8).reshape(-1, 198), state)
    assert as_bytes.tobytes() == back.tobytes()


def test_nothing_is_noted_of_what_was_empty() -> None:
    given_treatment = treatment()
    deidentify_headers(np.zeros(10, ACQUISITION), HeaderState(given_treatment))
    deidentify_headers(np.zeros(0, ACQUISITION), HeaderState(given_treatment))
    assert not given_treatment.removed


@pytest.mark.parametrize("shape", [(3, 339), (340,), (2, 2, 340)])
def test_what_is_no_header_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="340 bytes"):
        deidentify_headers(np.zeros(shape, np.uint8), HeaderState(treatment()))


# Attributes of images


def meta(**values: str | list[str]) -> bytes:
    return ismrmrd.Meta(values).serialize().encode()


def test_attributes_that_the_profile_names_stay() -> None:
    given_treatment = treatment()
    xml = meta(
        DataRole="Image",
        WindowCenter="40",
        ImageRowDir=["1.0", "0.0", "-0.0"],
        Keep_image_geometry="1",
        IceMiniHead="UGF0aWVudDogRE9FXkpBTkU=",
        ImageComments="Jane Doe",
        PatientName="Jane Doe",
        WindowWidth="Jane",
        EchoTime=["4.2", "Jane"],
    )
    done = deidentify_meta(xml + b"\0", given_treatment)
    kept = ismrmrd.Meta.deserialize(done)
    assert dict(kept) == {
        "DataRole": "Image",
        "WindowCenter": "40",
        "ImageRowDir": ["1.0", "0.0", "-0.0"],
        "Keep_image_geometry": "1",
    }
    assert b"Jane" not in done
    assert {(each.place, each.count) for each in given_treatment.removed} == {
        ("IceMiniHead", 1),
        ("(anything else)", 2),
        ("WindowWidth", 1),
        ("EchoTime", 1),
    }
    assert given_treatment.map.values["meta.IceMiniHead"] == ("IceMiniHead=UGF0aWVudDogRE9FXkpBTkU=",)


@pytest.mark.parametrize("empty", [b"", b"\0", b" \n\0"])
def test_no_attributes(empty: bytes) -> None:
    assert deidentify_meta(empty, treatment()) == b""


@pytest.mark.parametrize("xml", [b"<Secret/>", b"Secret", b"<ismrmrdMeta>", b"<!DOCTYPE Secret><ismrmrdMeta/>"])
def test_attributes_that_are_none_are_refused_without_showing_them(xml: bytes) -> None:
    with pytest.raises(InputError) as refused:
        deidentify_meta(xml, treatment())
    assert "Secret" not in str(refused.value)


# The map


def patient_map() -> PatientMap:
    return PatientMap(
        {
            "subjectInformation.patientName": ("DOE^JANE",),
            "subjectInformation.patientID": ("4711", "4712"),
            "studyInformation.studyInstanceUID": ("1.2.3",),
            "userParameters.userParameterString": ("a=b",),
        },
        {"2.25.1": "1.2.3"},
        "recond-mrd-1",
    )


def test_the_map_comes_back_from_a_file_that_shows_nothing(tmp_path: Path) -> None:
    path = tmp_path / "scan.map"
    patient_map().write(path, KEY)
    assert path.stat().st_mode & 0o777 == 0o600
    raw = path.read_bytes()
    assert not any(text in raw for text in (b"DOE", b"4711", b"1.2.3", b"patient_name", b"recond-mrd-1"))
    again = PatientMap.read(path, KEY)
    assert again == patient_map()
    assert again.attributes() == {"patientName": "DOE^JANE", "patientID": "4711", "studyInstanceUID": "1.2.3"}
    with pytest.raises(InputError, match="cannot be written"):
        patient_map().write(path, KEY)
    assert PatientMap.read(path, KEY) == patient_map()


def test_the_map_shows_nothing() -> None:
    assert repr(patient_map()) == str(patient_map()) == "PatientMap(4 places, 1 replaced)"
    with pytest.raises(TypeError):
        patient_map().values["x"] = ()  # type: ignore[index]
    assert pickle.loads(pickle.dumps(patient_map())) == patient_map()  # noqa: S301


def test_another_key_and_changed_bytes_are_refused(tmp_path: Path) -> None:
    encrypted = patient_map().encrypt(KEY)
    with pytest.raises(InputError, match="another key"):
        PatientMap.decrypt(encrypted, bytes(32))
    for place in (0, 5, 25, len(encrypted) - 1):
        changed = bytearray(encrypted)
        changed[place] ^= 1
        with pytest.raises(InputError):
            PatientMap.decrypt(bytes(changed), KEY)
    for cut in (0, 10, 40, len(encrypted) - 1):
        with pytest.raises(InputError):
            PatientMap.decrypt(encrypted[:cut], KEY)
    with pytest.raises(InputError, match="cannot be read"):
        PatientMap.read(tmp_path / "none", KEY)


def test_maps_of_several_measurements() -> None:
    both = patient_map().merged(PatientMap({"subjectInformation.patientName": ("ROE",), "x": ("y",)}, {"n": "o"}))
    assert both.values["subjectInformation.patientName"] == ("DOE^JANE", "ROE")
    assert both.restored("n") == "o"
    assert both.restored("2.25.1") == "1.2.3"
    assert both.profile == "recond-mrd-1"


def test_without_cryptography_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *rest: object) -> object:
        if name.startswith("cryptography"):
            raise ModuleNotFoundError(name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(InputError, match=r"recond\[gateway\]"):
        patient_map().encrypt(KEY)


def test_actions_are_those_of_dicom() -> None:
    assert {rule.action.letter for rule in RECOND_MRD_1.rules} == set("XUDZCK")
    assert len({action.letter for action in Action}) == len(Action)
