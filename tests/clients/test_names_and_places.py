"""File names that are no UTF-8, terminals that know ASCII alone, files in capitals, no home directory, extras that are missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from field_scans import error, kspace_of, lines, picture, rss, xml
from raw_builders import write_mrd
from recond_testing import Service

from recond_client import Client
from recond_client.late import LateGroup
from recond_client.upload import upload_of
from recond_models.store import folders
from recond_service.commands.doctor import request_for
from recond_service.doctor import examine


def recond(*arguments: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "recond_client", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("name", [b"sc\xffan", "schädel".encode(), "頭".encode()])
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_file_names_of_any_bytes_on_any_terminal(service: Service, tmp_path: Path, name: bytes, encoding: str) -> None:
    source = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name + b".h5"))
    write_mrd(tmp_path / "plain.h5", xml(), lines(kspace_of(picture()))).rename(source)
    target = source.with_name(os.fsdecode(name + b"_out.nii.gz"))
    for options in ((), ("--json",)):
        done = recond(
            "reconstruct", source, "-o", target, "--model", "rss", "--server", service.address, *options,
            PYTHONIOENCODING=encoding, PYTHONUTF8="0",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert target.exists()
        assert b"Traceback" not in done.stderr
        if options:
            assert json.loads(done.stdout)["outputs"] == [str(target)]
        else:
            assert b"wrote " in done.stdout
        target.unlink()


def test_the_doctor_examines_files_of_any_name(tmp_path: Path) -> None:
    source = Path(os.fsdecode(os.fsencode(tmp_path) + b"/sc\xffan.h5"))
    write_mrd(tmp_path / "plain.h5", xml(), lines(kspace_of(picture()))).rename(source)
    done = recond("doctor", source, "--json", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["frames"]["images"] == 1


@pytest.mark.parametrize("endings", [(".CFL", ".HDR"), (".cfl", ".hdr"), (".CFL", ".hdr"), (".cfl", ".HDR")])
@pytest.mark.parametrize("named", [0, 1])
def test_bart_files_in_capitals(service: Service, tmp_path: Path, endings: tuple[str, str], named: int) -> None:
    image = picture(33, 29)
    samples, header = (tmp_path / f"head{ending}" for ending in endings)
    header.write_text("# Dimensions\n33 29 1 3\n")
    kspace = kspace_of(image)
    kspace.transpose(1, 2, 0)[:, :, None].astype(np.complex64).ravel(order="F").tofile(samples)
    path = (samples, header)[named]
    with Client(service.address) as client:
        assert error(client.reconstruct(path, model="rss").images, rss(kspace)[None]) < 1e-3
    report = examine(request_for(path))
    assert report.refused is None
    assert report.frames is not None
    assert report.frames.image_shape == (33, 29)


def test_names_on_the_wire_are_text(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xfe.h5"))
    path.write_bytes(b"anything")
    (part,) = upload_of(path).parts
    assert part.to_wire().name == "\N{REPLACEMENT CHARACTER}.h5"


def test_a_user_without_a_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("RECOND_MODELS_DIR")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    assert folders.models_folder() == Path("/var/lib/recond/models")


class Absent:
    """An entry point of a command whose module cannot be imported."""

    name = "grow"

    def load(self) -> click.Command:
        raise ModuleNotFoundError("No module named 'soil'", name="soil")


@pytest.mark.parametrize("arguments", [["grow", "--help"], ["grow", "roots", "--help"], ["grow", "--deep", "-h"]])
def test_the_help_of_a_command_whose_extra_is_missing(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.setattr(LateGroup, "_entry_points", lambda self: [Absent()])
    group = LateGroup(
        "garden",
        entry_group="nothing",
        about={"grow": "Let something grow."},
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    done = CliRunner().invoke(group, arguments)
    assert done.exit_code == 0
    assert "Let something grow." in done.output
    assert "'soil'" in done.output
    assert "recond[server]" in done.output


def test_a_command_whose_extra_is_missing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LateGroup, "_entry_points", lambda self: [Absent()])
    group = LateGroup("garden", entry_group="nothing", about={"grow": "Let something grow."})
    done = CliRunner().invoke(group, ["grow", "--deep", "roots"])
    assert done.exit_code == 2
    assert "needs the module 'soil'" in done.output
