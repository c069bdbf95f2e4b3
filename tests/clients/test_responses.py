from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recond.v1 import reconstruction_pb2 as pb
from recond_client.errors import ServiceError
from recond_client.responses import ResponseAssembler
from recond_client.result import Candidate, Evidence, Figures, Geometry, Result


def accepted() -> pb.ReconstructResponse:
    return pb.ReconstructResponse(accepted=pb.Accepted(request_id="r-7"))


def plan(images: int = 1) -> pb.ReconstructResponse:
    return pb.ReconstructResponse(plan=pb.Plan(model="rss", version="1", reason="fully sampled", images=images))


def image(number: int = 0, pixels: np.ndarray | None = None, first: int = 0, last: int | None = None, **fields: object):
    whole = np.arange(6, dtype="<f4").reshape(3, 2) + 10 * number if pixels is None else pixels
    rows = whole[first:last]
    message = pb.Image(
        index=pb.ImageIndex(image=number, slice=number),
        rows=whole.shape[0],
        columns=whole.shape[1],
        first_row=first,
        pixels=rows.astype("<f4").tobytes(),
    )
    message.MergeFrom(pb.Image(**fields))
    return pb.ReconstructResponse(image=message)


def file_chunk(
    data: bytes, offset: int = 0, size: int = 4, kind: int = pb.OUTPUT_FORMAT_NIFTI
) -> pb.ReconstructResponse:
    return pb.ReconstructResponse(file_chunk=pb.FileChunk(format=kind, offset=offset, size_bytes=size, data=data))


def summary(
    order: Iterable[int] = (0,), shape: tuple[int, ...] | None = None, **fields: object
) -> pb.ReconstructResponse:
    order = list(order)
    return pb.ReconstructResponse(
        summary=pb.Summary(
            model="rss", version="1", images=len(order), shape=shape or (len(order), 3, 2), order=order, **fields
        )
    )


def run(*responses: pb.ReconstructResponse, images: bool = True) -> Result:
    assembler = ResponseAssembler(images=images)
    for response in responses:
        assembler.feed(response)
    return assembler.result()


def test_whole_conversation() -> None:
    geometry = pb.Geometry(
        position=(1, 2, 3),
        row_direction=(1, 0, 0),
        column_direction=(0, 1, 0),
        slice_direction=(0, 0, 1),
        spacing=(1, 1, 5),
    )
    result = run(
        accepted(),
        plan(2),
        image(0),
        image(1, geometry=geometry),
        file_chunk(b"ab"),
        file_chunk(b"cd", offset=2),
        summary(
            (1, 0),
            figures=pb.Figures(ssim=0.9, noise_level=0.0),
            seconds=pb.Timings(compute=1.5, total=2),
            findings=[pb.Finding(code="odd", severity=pb.SEVERITY_WARNING, message="Odd.", count=3)],
            reference="file",
            weights_sha256="abc",
        ),
    )
    assert result.images.dtype == np.float32
    assert result.images[:, 0, 0].tolist() == [10, 0]
    assert [index.slice for index in result.index] == [1, 0]
    assert result.geometry == (Geometry((1, 2, 3), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 5)), None)
    assert result.figures == Figures(ssim=0.9, noise_level=0.0)
    assert result.figures.applicable() == {"ssim": 0.9, "noise_level": 0.0}
    assert (result.seconds.compute, result.seconds.total, result.seconds.queue) == (1.5, 2, 0)
    (finding,) = result.findings
    assert (finding.code, finding.severity, finding.count) == ("odd", "warning", 3)
    assert (result.model, result.version, result.reason, result.request_id) == ("rss", "1", "fully sampled", "r-7")
    assert (result.reference, result.weights_sha256, result.shape) == ("file", "abc", (2, 3, 2))
    assert result.files == {".nii.gz": b"abcd"}


def test_images_left_out() -> None:
    result = run(accepted(), plan(), summary((0,)), images=False)
    assert result.images.shape == (0, 0, 0)
    assert result.shape == (1, 3, 2)


def test_feed_returns_an_image_when_it_is_whole() -> None:
    assembler = ResponseAssembler()
    assert assembler.feed(accepted()) is None
    assert assembler.accepted
    assert not assembler.delivered
    assert assembler.feed(plan(5)) is None
    assert (assembler.model, assembler.images_total) == ("rss", 5)
    assert assembler.feed(image(0, last=2)) is None
    assert assembler.delivered
    done = assembler.feed(image(0, first=2))
    assert done is not None
    assert done.pixels.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert assembler.images_done == 1


@pytest.mark.parametrize(
    ("responses", "message"),
    [
        ([plan()], "plan while opened"),
        ([image()], "image while opened"),
        ([summary()], "summary while opened"),
        ([pb.ReconstructResponse()], "unknown kind before accepted"),
        ([accepted(), accepted()], "accepted while accepted"),
        ([accepted(), image()], "image while accepted"),
        ([accepted(), file_chunk(b"ab")], "file_chunk while accepted"),
        ([accepted(), summary()], "summary while accepted"),
        ([accepted(), plan(), plan()], "plan while planned"),
        ([accepted(), plan(), image(), image()], "image 0 came twice"),
        ([accepted(), plan(), image(first=1)], "at row 1"),
        ([accepted(), plan(), image(last=1), image(last=1)], "at row 0"),
        ([accepted(), plan(), image(last=2), image(first=2, pixels=np.zeros((4, 2)))], r"of \(4, 2\)"),
        ([accepted(), plan(), image(pixels=np.zeros((3, 0)))], "0 bytes"),
        ([accepted(), plan(), image(last=0)], "0 bytes"),
        ([accepted(), plan(), image(rows=2)], "24 bytes"),
        ([accepted(), plan(), image(columns=4)], "24 bytes"),
        ([accepted(), plan(), image(geometry=pb.Geometry(position=(1, 2)))], "has 2 components"),
        ([accepted(), plan(), file_chunk(b"ab", offset=1)], "at 1 of 4"),
        ([accepted(), plan(), file_chunk(b"abcde")], "5 bytes"),
        ([accepted(), plan(), file_chunk(b"ab"), file_chunk(b"c", offset=2, size=3)], "of 3"),
        ([accepted(), plan(), file_chunk(b"ab", kind=99)], "file 99"),
        ([accepted(), plan(), image(last=1), summary(())], "not whole"),
        ([accepted(), plan(), image(), file_chunk(b"ab"), summary()], "output file is not whole"),
        ([accepted(), plan(), image(), summary((0, 1))], "names 2 images, 1 came"),
        ([accepted(), plan(), image(), summary((0, 0))], "names 2 images"),
        ([accepted(), plan(), image(), summary((0,), (1, 2, 3))], r"shape \(1, 2, 3\)"),
        ([accepted(), plan(), image(), summary((0,), (3, 2))], "shape"),
        ([accepted(), plan(), image(), summary(), image(1)], "image after the summary"),
        ([accepted(), plan(), image()], "without a summary"),
        ([], "without a summary"),
    ],
)
def test_broken_contract(responses: list[pb.ReconstructResponse], message: str) -> None:
    with pytest.raises(ServiceError, match=message) as caught:
        run(*responses)
    assert caught.value.reason == "PROTOCOL_VIOLATION"
    assert caught.value.request_id == ("r-7" if accepted() in responses else "")


def test_unknown_messages_of_newer_services_are_skipped() -> None:
    assert run(accepted(), pb.ReconstructResponse(), plan(), image(), summary()).shape == (1, 3, 2)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_cut_and_interleaving_gives_the_same_volume(data: st.DataObject) -> None:
    images, rows, columns = (data.draw(st.integers(1, 5)) for _ in range(3))
    volume = np.random.default_rng(0).normal(size=(images, rows, columns)).astype("<f4")
    pieces: dict[int, list[pb.ReconstructResponse]] = {}
    for number in range(images):
        cuts = sorted(data.draw(st.sets(st.integers(1, rows - 1))) if rows > 1 else [])
        bounds = [0, *cuts, rows]
        pieces[number] = [image(number, volume[number], first, last) for first, last in itertools.pairwise(bounds)]
    order = data.draw(st.permutations([number for number in pieces for _ in pieces[number]]))
    whole = run(
        accepted(),
        plan(images),
        *(pieces[number].pop(0) for number in order),
        summary(range(images), (images, rows, columns)),
    )
    np.testing.assert_array_equal(whole.images, volume)


def test_what_a_model_was_chosen_by_comes_with_the_result():
    evidence = pb.Evidence(
        model="tv",
        preferred="ensemble",
        candidates=[
            pb.Evidence.Candidate(model="tv", held_out_error=0.2, expected_ssim=0.93),
            pb.Evidence.Candidate(model="ensemble", held_out_error=0.3, expected_ssim=0.92),
        ],
        slices=3,
        seconds=4.5,
    )
    result = run(accepted(), plan(), image(), summary(evidence=evidence))
    candidates = (Candidate("tv", 0.2, 0.93), Candidate("ensemble", 0.3, 0.92))
    assert result.evidence == Evidence("tv", "ensemble", candidates, 3, 4.5, "")
    assert run(accepted(), plan(), image(), summary()).evidence is None
