"""The command: what it sends, prints, writes and returns."""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Callable
from pathlib import Path

import ismrmrd
import numpy as np
import pytest
from click.testing import CliRunner, Result
from mrd_files import slices, waves, write_scan
from mrd_server import Answering, reconstruct, serving
from PIL import Image

from recond_client.cli import RecondGroup
from recond_gateway.replay.commands import replay


def recond(*arguments: object) -> Result:
    """Run the command inside the group that turns errors into exit codes."""
    group = RecondGroup("recond", entry_group="recond.none", own={}, about={})
    group.add_command(replay)
    return CliRunner().invoke(group, ["replay", *map(str, arguments)])


def played(
    path: Path, *arguments: object, answer: Callable[[Answering], None] = reconstruct
) -> tuple[Result, Answering]:
    with serving(answer) as (port, sessions):
        result = recond(path, "--to", f"127.0.0.1:{port}", "--rate", "MAX", *arguments)
    return result, sessions[0]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scan(tmp_path_factory.mktemp("scan") / "scan.h5", slices(), waves())


def test_what_people_see(path: Path) -> None:
    result, session = played(path, "--config", "brain", "--parameters", '{"model": "rss"}')
    assert result.exit_code == 0, result.output
    assert session.received[0] == "brain"
    assert json.loads(session.received[2]) == {"parameters": {"model": "rss"}}
    assert "image 1 of series 1, slice 0" in result.output
    assert "sent 24 acquisitions, 5 waveforms in" in result.output
    assert "image_1: 3 x 16 x 8 magnitude" in result.output
    assert "ms after the last acquisition" in result.output
    assert result.output.rstrip().endswith("INFO 24 acquisitions, 3 images")


def test_one_object_of_json(path: Path, tmp_path: Path) -> None:
    result, _ = played(path, "--json", "-o", tmp_path / "out.npz")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.output)
    assert answer["sent"] | {"seconds": 0, "bytes": 0} == {
        "acquisitions": 24,
        "waveforms": 5,
        "bytes": 0,
        "seconds": 0,
        "behind": 0.0,
        "complete": True,
    }
    assert [(image["slice"], image["series"], image["shape"], image["type"]) for image in answer["images"]] == [
        (number, 1, [1, 1, 16, 8], "magnitude") for number in range(3)
    ]
    assert all(image["latency"] >= 0 for image in answer["images"])
    assert answer["verdict"] == {"severity": "INFO", "text": "24 acquisitions, 3 images"}
    assert (answer["closed"], answer["failure"], answer["outputs"]) == (True, None, [str(tmp_path / "out.npz")])


def two_series(session: Answering) -> None:
    """Send magnitudes, and complex images and others of half the width as a second series."""
    lines = [item for item in session.items() if isinstance(item, ismrmrd.Acquisition)]
    for number in range(3):
        session.send_slice(lines[8 * number : 8 * number + 8], image_index=number)
        session.send_slice(lines[8 * number : 8 * number + 4], image_series_index=2, image_index=number)
    session.send_slice(lines[:8], image_series_index=2, image_index=9)
    session.send_complex(lines[:8], image_series_index=3)
    session.say("INFO    done")
    session.close()


def test_files_of_images(path: Path, tmp_path: Path) -> None:
    outputs = [tmp_path / f"out{ending}" for ending in (".h5", ".npz", ".png")]
    result, _ = played(path, *itertools.chain(*(("-o", output) for output in outputs)), answer=two_series)
    assert result.exit_code == 0, result.output
    for output in outputs:
        assert f"wrote {output}" in result.output
    names = ["image_1", "image_2", "image_2_2", "image_3"]
    with np.load(outputs[1]) as loaded:
        arrays = dict(loaded)
    assert sorted(arrays) == sorted([*names, *(f"{name}_header" for name in names)])
    dataset = ismrmrd.Dataset(outputs[0], mode="r")
    assert sorted(dataset.list()) == [*names, "xml"]
    for name in names:
        assert dataset.number_of_images(name) == len(arrays[name])
        for number, pixels in enumerate(arrays[name]):
            image = dataset.read_image(name, number)
            assert np.array_equal(image.data, pixels)
            assert image.meta["DataRole"] == "Image"
    assert arrays["image_1"].shape == (3, 1, 1, 16, 8)
    assert arrays["image_2"].shape == (3, 1, 1, 16, 4)
    assert arrays["image_3"].dtype == np.complex64
    assert arrays["image_1_header"]["image_index"].tolist() == [0, 1, 2]
    dataset.close()
    with Image.open(outputs[2]) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (4 * 20, 3 * 10)
    assert pixels.dtype == np.uint8
    assert pixels.max() == 255
    magnitudes = arrays["image_1"][:, 0, 0]
    expected = (255 * (magnitudes / np.percentile(magnitudes, 99.8)).clip(0, 1)).astype(int)
    assert np.abs(pixels[:16, :8].astype(int) - expected[0]).max() <= 1
    assert np.abs(pixels[:16, 20:28].astype(int) - expected[2]).max() <= 1


def test_an_error_line_is_bad_input(path: Path) -> None:
    def answer(session: Answering) -> None:
        list(session.items())
        session.say("INFO    begun")
        session.say("ERROR   the encoding is spiral: choose another sequence")
        session.close()

    result, _ = played(path, answer=answer)
    assert result.exit_code == 3
    assert "the gateway says: the encoding is spiral: choose another sequence" in result.output


def test_no_answer_at_all_is_a_failure(path: Path) -> None:
    def answer(session: Answering) -> None:
        list(session.items())
        session.close()

    result, _ = played(path, answer=answer)
    assert result.exit_code == 5
    assert "nothing came back" in result.output


def test_an_end_without_close_is_a_failure(path: Path) -> None:
    def answer(session: Answering) -> None:
        list(session.items())

    result, _ = played(path, "--json", answer=answer)
    assert result.exit_code == 5
    assert "without CLOSE" in result.output


def test_nobody_there_is_unavailable(path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    result = recond(path, "--to", f"127.0.0.1:{port}")
    assert result.exit_code == 4
    assert "no gateway answers" in result.output


def test_a_file_that_is_none_is_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    path.write_bytes(b"text")
    result = recond(path, "--to", "127.0.0.1:1")
    assert result.exit_code == 3
    assert "not an HDF5 file" in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--to", "9002"], "HOST:PORT"),
        (["--to", "localhost:99999"], "HOST:PORT"),
        (["--to", "localhost:9002", "--rate", "fast"], "REAL, MAX"),
        (["--to", "localhost:9002", "--parameters", "{"], "not JSON"),
        (["--to", "localhost:9002", "--parameters", "[1]"], "not a JSON object"),
        (["--to", "localhost:9002", "-o", "images.dcm"], "does not end in"),
        (["--to", "localhost:9002", "--config", "n" * 1024], "1023"),
        (["--to", "localhost:9002", "--nul", "some"], "nul"),
    ],
)
def test_usage(path: Path, arguments: list[str], said: str) -> None:
    result = recond(path, *arguments)
    assert result.exit_code == 2
    assert said in result.output


def test_configurations_may_be_files(path: Path, tmp_path: Path) -> None:
    (tmp_path / "config.xml").write_text("<configuration/>")
    _, session = played(path, "--config-text", tmp_path / "config.xml")
    assert session.received[0] == "<configuration/>"


def test_the_frame_of_parameters_is_not_put_around_twice(path: Path) -> None:
    _, session = played(path, "--parameters", '{"parameters": {"model": "rss"}}')
    assert json.loads(session.received[2]) == {"parameters": {"model": "rss"}}
