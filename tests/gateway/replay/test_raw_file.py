"""Raw files, a block at a time, and how they become what is sent."""

from __future__ import annotations

from pathlib import Path

import h5py
import ismrmrd
import numpy as np
import psutil
import pytest
from mrd_files import LINES, noise, slices, waves, write_scan
from mrd_streams import XML, acquisition, fed, flat, serialized

from recond_client.errors import InputError
from recond_gateway.mrd.messages import Acquisitions, Waveforms
from recond_gateway.mrd.parser import MrdParser
from recond_gateway.replay import raw_file
from recond_gateway.replay.pieces import pieces_of
from recond_gateway.replay.raw_file import RawFile
from recond_gateway.replay.timing import Rate, timing_of


@pytest.fixture(autouse=True)
def many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small files here are one block."""
    monkeypatch.setattr(raw_file, "_FIRST_ROWS", 32)


def pieces(path: Path, rate: str = "MAX") -> list:
    with RawFile(path) as file:
        return list(pieces_of(file, timing_of(file.stamps(), file.xml, Rate.parse(rate))))


def test_blocks_hold_what_the_file_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [noise(), *slices(), acquisition(3, 5, 2), acquisition(1, 0)]
    path = write_scan(tmp_path / "scan.h5", made)
    for first, most in ((1, 1), (3, 5000), (32, 1 << 20)):
        monkeypatch.setattr(raw_file, "_FIRST_ROWS", first)
        monkeypatch.setattr(raw_file, "_BLOCK_BYTES", most)
        with RawFile(path) as file:
            blocks = list(file.blocks())
            assert (file.count, file.waveform_count, file.xml) == (len(made), 0, XML.encode())
        values = flat(
            [Acquisitions(block.headers, block.samples.tobytes(), block.trajectories.tobytes()) for block in blocks]
        )
        assert values == [
            ("Acquisitions", bytes(one.getHead()), one.data.tobytes(), one.traj.tobytes()) for one in made
        ]
    assert len(blocks) == 1


def test_fields_are_found_however_the_file_lays_them_out(tmp_path: Path) -> None:
    made = slices()
    path = write_scan(tmp_path / "scan.h5", made)
    with h5py.File(path, "a") as file:
        data = file["dataset/data"][()]
        head = np.dtype([(name, data.dtype["head"][name]) for name in reversed(data.dtype["head"].names)], align=True)
        columns = [("head", head), *((name, data.dtype[name]) for name in ("data", "traj"))]
        other = np.zeros(len(data), columns)
        for name in head.names:
            other["head"][name] = data["head"][name]
        other["data"], other["traj"] = data["data"], data["traj"]
        del file["dataset/data"]
        file["dataset/data"] = other
        assert file["dataset/data"].chunks is None
    with RawFile(path) as file:
        assert b"".join(block.headers.tobytes() for block in file.blocks()) == b"".join(
            bytes(one.getHead()) for one in made
        )
        assert file.stamps().tolist() == [one.acquisition_time_stamp for one in made]


@pytest.mark.parametrize("options", [{}, {"chunks": (5,)}, {"chunks": (24,), "compression": "gzip"}])
def test_times_are_read_however_the_table_is_stored(tmp_path: Path, options: dict) -> None:
    path = write_scan(tmp_path / "scan.h5")
    with h5py.File(path, "a") as file:
        data = file["dataset/data"][()]
        del file["dataset/data"]
        file.create_dataset("dataset/data", data=data, **options)
    with RawFile(path) as file:
        assert file.stamps().tolist() == list(range(100, 124))


def test_memory_stays_flat_over_a_long_file(tmp_path: Path) -> None:
    """HDF5 does not give back the samples that it reads along with a column."""
    lines = [acquisition(8, 2000, scan_counter=line) for line in range(60)]
    path = write_scan(tmp_path / "scan.h5", lines)

    def read() -> int:
        with RawFile(path) as file:
            assert file.stamps().size == sum(len(block.headers) for block in file.blocks()) == 60
        return psutil.Process().memory_info().rss

    first = max(read() for _ in range(3))
    assert max(read() for _ in range(10)) < first + sum(line.data.nbytes for line in lines)


def test_everything_is_sent_once_and_waveforms_by_their_time(tmp_path: Path) -> None:
    made, waveforms = slices(), waves()
    sent = b"".join(piece.message for piece in pieces(write_scan(tmp_path / "scan.h5", made, waveforms)))
    messages = list(fed(MrdParser(), sent, ()))
    kinds = [(type(message), message.count) for message in messages]
    assert kinds == [
        (Waveforms, 1),  # 50
        (Acquisitions, 5),  # 100 to 104
        (Waveforms, 2),  # 104 and 104
        (Acquisitions, 6),  # 105 to 110
        (Waveforms, 1),  # 110
        (Acquisitions, 13),
        (Waveforms, 1),  # 500
    ]
    expected = flat(fed(MrdParser(), serialized([*made, *waveforms])[:-2], ()))
    assert sorted(flat(messages)) == sorted(expected)


def test_a_piece_ends_where_the_image_does(tmp_path: Path) -> None:
    path = write_scan(tmp_path / "scan.h5", [noise(), noise(), *slices()])
    assert [(piece.acquisitions, piece.key) for piece in pieces(path)] == [
        (2, None),
        (LINES, (0, 0, 0, 0, 0)),
        (LINES, (1, 0, 0, 0, 0)),
        (LINES, (2, 0, 0, 0, 0)),
    ]


def test_lines_that_calibrate_and_image_count_for_the_image(tmp_path: Path) -> None:
    both, calibration = acquisition(1, 4), acquisition(1, 4)
    both.set_flag(ismrmrd.ACQ_IS_PARALLEL_CALIBRATION)
    both.set_flag(ismrmrd.ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING)
    calibration.set_flag(ismrmrd.ACQ_IS_PARALLEL_CALIBRATION)
    keys = [piece.key for piece in pieces(write_scan(tmp_path / "scan.h5", [both, calibration]))]
    assert keys == [(0, 0, 0, 0, 0), None]


def test_real_time_goes_by_stamps(tmp_path: Path) -> None:
    path = write_scan(tmp_path / "scan.h5", slices(ticks=4))
    assert [piece.due for piece in pieces(path, "REAL")] == pytest.approx(np.arange(24) * 0.01)
    assert [piece.due for piece in pieces(path, "4x")] == pytest.approx(np.arange(24) * 0.0025)


def test_real_time_goes_by_tr_without_stamps() -> None:
    xml = XML.replace(
        "</ismrmrdHeader>", "<sequenceParameters><TR>500</TR><TR>9</TR></sequenceParameters></ismrmrdHeader>"
    )
    timing = timing_of(np.zeros(3, np.int64), xml.encode(), Rate.parse("2x"))
    assert timing.due is not None
    assert timing.due.tolist() == [0, 0.25, 0.5]
    assert "TR of 500 ms" in timing.source
    assert "2 times as fast" in timing.source


@pytest.mark.parametrize(
    "xml",
    [
        XML,
        "<not",
        "",
        XML.replace("<encoding>", "<sequenceParameters><TR>x</TR><TR>0</TR></sequenceParameters><encoding>"),
    ],
)
def test_without_any_times_the_rate_must_be_the_most(xml: str) -> None:
    with pytest.raises(InputError, match="--rate MAX"):
        timing_of(np.full(3, 7), xml.encode(), Rate.parse("REAL"))
    assert timing_of(np.full(3, 7), xml.encode(), Rate.parse("max")).due is None


def test_stamps_that_jump_do_not_hold_up_a_replay() -> None:
    timing = timing_of(np.array([10**6, 2 * 10**6, 2 * 10**6 + 4, 3, 7]), b"", Rate.parse("REAL"))
    assert timing.due is not None
    assert timing.due.tolist() == pytest.approx([0, 10, 10.01, 10.01, 10.02])
    assert "1 pauses shortened to 10 s" in timing.source


@pytest.mark.parametrize("text", ["", "fast", "0x", "-2x", "2", "x", "infx"])
def test_rates_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="REAL, MAX or a factor"):
        Rate.parse(text)


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    path.write_bytes(b"no HDF5")
    with pytest.raises(InputError, match="not an HDF5 file"):
        RawFile(path)
    with h5py.File(path, "w") as file:
        file.create_group("other")
    with pytest.raises(InputError, match=r"groups: other"):
        RawFile(path)
    write_scan(path, xml=None)
    with pytest.raises(InputError, match="no dataset/xml"):
        RawFile(path)
    write_scan(path)
    with h5py.File(path, "a") as file:
        file["dataset/data"].resize(0, axis=0)
    with pytest.raises(InputError, match="empty dataset/data"):
        RawFile(path)


def test_samples_must_be_what_their_header_says(tmp_path: Path) -> None:
    path = write_scan(tmp_path / "scan.h5")
    with h5py.File(path, "a") as file:
        row = file["dataset/data"][3]
        row["data"] = row["data"][:-2]
        file["dataset/data"][3] = row
    with pytest.raises(InputError, match="has 62 values in data 3, and its header says 64"):
        pieces(path)
