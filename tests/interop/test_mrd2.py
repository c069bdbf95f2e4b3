"""MRD version 2: streams of the reference library's phantom through the service, beside that library's own reconstruction."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mrd
import numpy as np
import pytest
from mrd.tools import simulation
from recond_testing import Service, reconstruct, refused, requests_for

import recond_client
from recond.v1 import reconstruction_pb2 as pb
from recond_client.cli import main

PATIENT = ("John Doe", "1234BGVF")


def tool(name: str, *options: str) -> None:
    subprocess.run([sys.executable, "-m", f"mrd.tools.{name}", *options], check=True, capture_output=True, timeout=120)


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mrd2") / "phantom.bin"
    tool("phantom", "-m", "128", "-c", "8", "-s", "2", "-r", "2", "-n", "0.02", "-o", str(path))
    return path


def their_images(path: Path) -> list[np.ndarray]:
    """Root sum of squares by `mrd.tools.stream_recon`, (readout, phase encode) each."""
    output = path.with_suffix(".images")
    tool("stream_recon", "-i", str(path), "-o", str(output))
    with mrd.BinaryMrdReader(str(output)) as reader:
        reader.read_header()
        return [item.value.data[0, 0].T for item in reader.read_data()]


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def best_of_flips(image: np.ndarray, truth: np.ndarray) -> tuple[int, int]:
    flips = {(row, column): image[::row, ::column] for row in (1, -1) for column in (1, -1)}
    return max(flips, key=lambda flip: correlation(flips[flip], truth))


def test_images_are_those_of_the_reference_library(stub, stream):
    answer = reconstruct(stub, stream.read_bytes(), model="rss", name=stream.name)
    theirs = their_images(stream)
    assert answer.volume.shape == (2, 128, 128)
    assert [message.index.repetition for message in answer.messages] == [0, 1]
    for ours, other in zip(answer.volume, theirs, strict=True):
        assert best_of_flips(ours, other) == (1, 1)
        assert correlation(ours, other) > 0.999
    geometry = answer.messages[0].geometry
    assert list(geometry.spacing) == pytest.approx([300 / 128, 300 / 128, 5])
    assert list(geometry.row_direction) == [1, 0, 0]


def test_the_phantom_is_found_by_the_automatic_model(stub, stream):
    answer = reconstruct(stub, stream.read_bytes(), name=stream.name)
    truth = np.abs(simulation.generate_shepp_logan_phantom(128)).reshape(128, 128).T
    for image in answer.volume:
        assert best_of_flips(image, truth) == (1, 1)
        assert correlation(image, truth) > 0.98


def test_declared_format_and_bytes_are_the_same(stub, stream):
    data = stream.read_bytes()
    part = pb.Part(role=pb.PART_ROLE_KSPACE, format=pb.PART_FORMAT_MRD2, name="x.mrd2", size_bytes=len(data))
    spec = pb.ReconstructSpec(parts=pb.Parts(parts=[part]), model="rss")
    requests = [
        pb.ReconstructRequest(spec=spec),
        *(
            pb.ReconstructRequest(chunk=pb.Chunk(part=0, offset=offset, data=data[offset : offset + (1 << 20)]))
            for offset in range(0, len(data), 1 << 20)
        ),
    ]
    summaries = [each.summary for each in stub.Reconstruct(iter(requests), timeout=60) if each.HasField("summary")]
    assert summaries[0].images == 2


def test_nothing_about_the_patient_reaches_log_or_result(service: Service, stream, tmp_path):
    data = stream.read_bytes()
    assert all(word.encode() in data for word in PATIENT)
    with recond_client.Client(service.address) as client:
        result = client.reconstruct(stream, model="rss", outputs=(".mrd", ".nii.gz", ".h5", ".png"))
        written = [result.save(tmp_path / f"out{ending}").read_bytes() for ending in (".mrd", ".nii.gz", ".h5", ".png")]
        with pytest.raises(recond_client.InputError) as caught:
            client.reconstruct(data[:-1], model="rss")
    shown = repr((result.findings, result.geometry, result.reason, caught.value.message)) + service.log.read_text()
    for word in PATIENT:
        assert word not in shown
        assert not [bytes_ for bytes_ in written if word.encode() in bytes_]


def test_command_line(service: Service, stream, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["reconstruct", str(stream), "--model", "rss", "-o", "out.nii.gz", "--json", "--server", service.address])
    assert caught.value.code == 0
    assert Path("out.nii.gz").stat().st_size > 1000


def test_other_versions_and_cut_streams_are_refused_by_name(stub, stream):
    data = stream.read_bytes()
    found = refused(stub.Reconstruct(requests_for(data.replace(b"scanCounter", b"scanKounter")), timeout=60))
    assert (found.code.name, found.reason) == ("FAILED_PRECONDITION", "MRD2_VERSION")
    found = refused(stub.Reconstruct(requests_for(data[: len(data) // 2]), timeout=60))
    assert (found.code.name, found.reason) == ("INVALID_ARGUMENT", "MRD2_TRUNCATED")
