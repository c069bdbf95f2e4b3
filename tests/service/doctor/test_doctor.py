"""`recond doctor`: what it says about good and bad files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from raw_builders import Encoding, Phantom, cartesian, file_request, header_xml, noise_readouts, write_mrd
from rich.console import Console

from recond_service.commands.doctor import doctor, request_for, run_doctor
from recond_service.doctor import Report, examine, render
from recond_service.types import PartFormat, PartRole

ENCODING = Encoding((64, 64), (400.0, 200.0), (32, 64), (200.0, 200.0))
FULL = ENCODING.kspace(Phantom())


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    lines = sorted({*range(0, 64, 2), *range(24, 40)})
    readouts = noise_readouts(3)
    for number in range(2):
        readouts += cartesian(FULL, ENCODING, lines, counters={"slice": number}, position=(0.0, 0.0, 4.0 * number))
    system = "<systemVendor>ACME</systemVendor><systemFieldStrength_T>1.5</systemFieldStrength_T>"
    return write_mrd(tmp_path / "scan.h5", header_xml(ENCODING, system=system), readouts)


def test_a_scan_is_described(scan: Path) -> None:
    report = examine(file_request(scan))
    assert report.refused is None
    assert report.kind == "readouts"
    assert report.readouts == 8 + 2 * 40
    assert report.header is not None
    assert report.header.readout_oversampling == 2
    assert report.header.vendor == "ACME"
    assert report.frames is not None
    assert (report.frames.images, report.frames.slices, report.frames.coils) == (2, 2, 3)
    assert report.frames.calibration == (32, 17)
    assert report.frames.acceleration == pytest.approx(64 / 40)
    assert report.frames.whitened
    assert report.frames.located
    assert report.model in {"cg-sense", "l1-wavelet", "tv"}
    assert report.model_reason
    assert "coils-whitened" in {finding.code for finding in report.findings}


def test_the_report_is_plain_json(scan: Path) -> None:
    values = json.loads(json.dumps(examine(file_request(scan)).to_json()))
    assert values["frames"]["image_shape"] == [32, 64]
    assert values["findings"][0]["severity"] in {"info", "warning"}


def test_a_refused_file_is_described_as_far_as_it_goes(tmp_path: Path) -> None:
    path = write_mrd(tmp_path / "x.h5", header_xml(Encoding((64, 64), trajectory="spiral")), cartesian(FULL, ENCODING))
    report = examine(file_request(path))
    assert report.refused is not None
    assert report.refused.reason == "NOT_CARTESIAN"
    assert report.header is not None
    assert report.header.trajectory == "spiral"
    assert report.frames is None


def test_sorted_k_space_is_described(tmp_path: Path) -> None:
    hdr, cfl = tmp_path / "scan.hdr", tmp_path / "scan.cfl"
    hdr.write_text("# Dimensions\n64 64 1 3\n")
    FULL.transpose(1, 2, 0).ravel(order="F").astype("<c8").tofile(cfl)
    for path in (hdr, cfl):
        request = request_for(path)
        assert [(part.role, part.format) for part in request.parts] == [
            (PartRole.KSPACE, PartFormat.BART_CFL),
            (PartRole.KSPACE_HEADER, PartFormat.BART_HDR),
        ]
        report = examine(request)
        assert report.kind == "sorted k-space"
        assert report.frames is not None
        assert report.frames.pattern == "full"
        assert report.model == "rss"


def test_the_table_is_for_people(scan: Path) -> None:
    console = Console(record=True, width=160, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    render(examine(file_request(scan)), console)
    text = console.export_text()
    for words in (
        "3 coils, 32 x 64",
        "oversampling",
        "readout 2",
        "calibration 32 x 17",
        "coils whitened",
        "ACME, 1.5 T",
    ):
        assert words in text
    console.file.close()


def test_the_command_prints_json_and_fails_on_bad_input(scan: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(doctor, [str(scan), "--json"])
    assert result.exit_code == 0
    assert json.loads(result.output)["name"] == "scan.h5"
    bad = tmp_path / "bad.h5"
    bad.write_bytes(b"nothing")
    result = CliRunner().invoke(doctor, [str(bad)])
    assert result.exit_code == 3
    assert "NOT_HDF5" in result.output
    assert CliRunner().invoke(doctor, [str(tmp_path / "absent.h5")]).exit_code == 2


@pytest.mark.parametrize("name", ["scan.h5", "scan.cfl", "scan.hdr"])
def test_a_pipe_is_refused_at_once(tmp_path: Path, name: str) -> None:
    for made in {"scan.cfl", "scan.hdr"} - {name}:
        (tmp_path / made).write_bytes(b"")
    os.mkfifo(tmp_path / name)
    result = CliRunner().invoke(doctor, [str(tmp_path / name)])
    assert result.exit_code == 3
    assert f"{name} is not a regular file: copy" in result.stderr


def test_the_examination_can_be_done_elsewhere(scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = []

    def elsewhere(request: object) -> Report:
        asked.append(request)
        return Report("scan.h5", 1)

    run_doctor(scan, as_json=True, examination=elsewhere)
    assert len(asked) == 1
    assert json.loads(capsys.readouterr().out)["size_bytes"] == 1


def test_a_scan_of_zeros_is_described(tmp_path: Path) -> None:
    path = write_mrd(tmp_path / "zero.h5", header_xml(ENCODING), cartesian(np.zeros_like(FULL), ENCODING))
    report = examine(file_request(path))
    assert report.refused is None
    assert "slice-empty" in {finding.code for finding in report.findings}


def test_a_three_dimensional_scan_is_described(tmp_path: Path) -> None:
    limits = "<minimum>0</minimum><maximum>7</maximum><center>4</center>"
    xml = header_xml(ENCODING).replace("<z>1</z></matrixSize>", "<z>8</z></matrixSize>")
    xml = xml.replace(
        "</kspace_encoding_step_1>",
        f"</kspace_encoding_step_1><kspace_encoding_step_2>{limits}</kspace_encoding_step_2>",
    )
    readouts = []
    for partition in range(2, 8):
        readouts += cartesian(FULL, ENCODING, range(16, 64), counters={"kspace_encode_step_2": partition})
    report = examine(file_request(write_mrd(tmp_path / "volume.h5", xml, readouts)))
    assert report.refused is None
    assert report.frames is not None
    assert report.frames.three_dimensional
    assert (report.frames.images, report.frames.rows, report.frames.columns) == (8, 64, 8)
    assert report.frames.image_shape == (32, 64)
    assert report.frames.stacks == ("axial",)
    console = Console(record=True, width=200)
    render(report, console)
    text = console.export_text()
    assert "64 x 8 (phase encode x partition)" in text
    assert "75% of the phase encode, 75% of the partitions" in text
