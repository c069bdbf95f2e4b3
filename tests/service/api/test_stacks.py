"""Stacks through the whole service: what streams, what the result says, which files there are."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import ismrmrd
import nibabel
import numpy as np
import pytest
from field_scans import (
    COLUMNS,
    PLANES,
    ROWS,
    USUAL,
    error,
    kspace_of,
    limit,
    lines,
    picture,
    step_limit,
    times,
    volume_kspace,
    volume_lines,
    xml,
)
from raw_builders import block_of, write_mrd
from recond_testing import Service

from recond_client import AcquisitionBatch, Client, Result
from recond_client.errors import InputError

RIGHT = 1e-3


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[Client]:
    with Client(service.address) as connected:
        yield connected


@pytest.fixture(scope="module")
def localizer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """Two slices in each of three planes, and their images."""
    readouts, pictures = [], []
    for plane, directions in enumerate(PLANES.values()):
        for place in range(2):
            pictures.append(picture(gain=1 + 2 * plane + place))
            readouts += lines(
                kspace_of(pictures[-1]),
                counters={"slice": 2 * plane + place},
                position=tuple(9.0 * place * np.array(directions[2])),
                directions=directions,
            )
    path = tmp_path_factory.mktemp("localizer") / "scan.h5"
    return write_mrd(path, xml(), readouts), np.stack(pictures)


def nifti(result: Result, name: str) -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(result.files[name]))


def test_a_localizer(client: Client, localizer: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    path, pictures = localizer
    result = client.reconstruct(path, model="rss", outputs=(".h5", ".mrd", ".nii.gz", ".png"))
    assert error(result.images, pictures) < RIGHT
    assert [stack.name for stack in result.stacks] == list(PLANES)
    assert [index.stack for index in result.index] == [0, 0, 1, 1, 2, 2]
    for number, stack in enumerate(result.stacks):
        np.testing.assert_array_equal(stack.images, result.images[2 * number : 2 * number + 2])
        volume = nifti(result, f"_{stack.name}.nii.gz")
        np.testing.assert_array_equal(np.asarray(volume.dataobj), stack.images.transpose(1, 2, 0))
        normal = np.array(PLANES[stack.name][2]) * [-1, -1, 1]
        np.testing.assert_allclose(volume.affine[:3, 2], 9.0 * normal, atol=1e-4)
    with h5py.File(io.BytesIO(result.files[".h5"])) as file:
        np.testing.assert_array_equal(file["reconstruction"][()], result.images)
        assert file["index"]["stack"].tolist() == [0, 0, 1, 1, 2, 2]
        assert file["index"]["slice"].tolist() == [0, 1, 2, 3, 4, 5]
        assert file["index"].attrs["stacks"].tolist() == [name.encode() for name in PLANES]
    with ismrmrd.Dataset(str(result.save(tmp_path / "out.mrd")), mode="r") as dataset:
        for number in range(3):
            assert dataset.number_of_images(f"image_{number}") == 2
            assert dataset.read_image(f"image_{number}", 1).image_series_index == number
    with pytest.raises(InputError, match="axial, sagittal, coronal"):
        result.save(tmp_path / "out.nii.gz")
    assert [target.name for target in result.save_all(tmp_path / "out.nii.gz")] == [
        f"out_{name}.nii.gz" for name in PLANES
    ]


def test_one_stack_alone(client: Client, localizer: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    path, pictures = localizer
    result = client.reconstruct(path, model="rss", outputs=(".h5", ".nii.gz"), stack="sagittal")
    assert error(result.images, pictures[2:4]) < RIGHT
    assert result.shape == (2, ROWS, COLUMNS)
    assert [stack.name for stack in result.stacks] == ["sagittal"]
    assert nifti(result, ".nii.gz").shape == (ROWS, COLUMNS, 2)
    assert result.save(tmp_path / "out.nii.gz").name == "out.nii.gz"
    with h5py.File(io.BytesIO(result.files[".h5"])) as file:
        assert len(file["reconstruction"]) == 2


def test_a_stack_that_there_is_not(client: Client, localizer: tuple[Path, np.ndarray]) -> None:
    with pytest.raises(InputError, match="'oblique'; it has axial, sagittal, coronal") as caught:
        client.reconstruct(localizer[0], model="rss", stack="oblique")
    assert caught.value.reason == "NO_SUCH_STACK"


def test_images_stream_with_their_stack(client: Client) -> None:
    readouts = [
        line
        for number, directions in enumerate(PLANES.values())
        for line in lines(kspace_of(picture()), counters={"slice": number}, directions=directions)
    ]
    batches = [
        AcquisitionBatch(headers, samples)
        for _, headers, _, samples in (block_of(readouts[start : start + 7]) for start in range(0, len(readouts), 7))
    ]
    with client.stream(xml(), batches, model="rss") as stream:
        stacks = {image.index.slice: image.index.stack for image in stream}
        assert [stack.name for stack in stream.result().stacks] == list(PLANES)
    assert stacks == {0: 0, 1: 1, 2: 2}


def test_stacks_of_several_sizes_have_files_of_their_own(client: Client, tmp_path: Path) -> None:
    small = picture(28, 24)
    first = xml()
    second = xml((28, 24, 1), limits=step_limit(23, 12))
    encoding = second[second.index("<encoding>") : second.index("</ismrmrdHeader>")]
    header = first.replace("</ismrmrdHeader>", f"{encoding}</ismrmrdHeader>")
    readouts = lines(kspace_of(picture())) + lines(kspace_of(small), encoding=1, directions=PLANES["coronal"])
    path = write_mrd(tmp_path / "scan.h5", header, readouts)
    result = client.reconstruct(path, model="rss", outputs=(".h5", ".mrd", ".nii.gz", ".png"))
    assert result.shape == (2, 0, 0)
    assert result.images.shape == (0, 0, 0)
    assert {stack.name: stack.shape for stack in result.stacks} == {
        "axial": (1, ROWS, COLUMNS),
        "coronal": (1, 28, 24),
    }
    assert error(result.stacks[0].images[0], picture()) < RIGHT
    assert error(result.stacks[1].images[0], small) < RIGHT
    assert set(result.files) == {
        ".mrd",
        *(f"_{name}{ending}" for name in ("axial", "coronal") for ending in (".h5", ".nii.gz", ".png")),
    }
    with h5py.File(io.BytesIO(result.files["_coronal.h5"])) as file:
        assert file["reconstruction"].shape == (1, 28, 24)


def test_slabs_of_a_three_dimensional_scan(client: Client, tmp_path: Path) -> None:
    volumes = [np.stack([picture(24, 16, gain=1 + 8 * slab + p) for p in range(8)], -1) for slab in range(2)]
    readouts = [
        line
        for slab, volume in enumerate(volumes)
        for line in volume_lines(volume_kspace(volume), counters={"slice": slab}, position=(0, 0, 40.0 * slab))
    ]
    bounds = step_limit(15, 8) + step_limit(7, 4, axis=2) + limit("slice", 0, 1, 0)
    path = write_mrd(tmp_path / "scan.h5", xml((24, 16, 8), view=(200, 180, 40), limits=bounds), readouts)
    result = client.reconstruct(path, model="rss", outputs=(".nii.gz",))
    assert error(result.images, np.concatenate([volume.transpose(2, 0, 1) for volume in volumes])) < RIGHT
    for slab in range(2):
        volume = nifti(result, f"_slab{slab + 1}.nii.gz")
        assert error(np.asarray(volume.dataobj), volumes[slab]) < RIGHT
        # The position of a slab lies on slice 4 of 8.
        np.testing.assert_allclose((volume.affine @ [12, 8, 4, 1])[:3], [0, 0, 40.0 * slab], atol=1e-4)


@pytest.mark.parametrize(("listed", "step"), [([2500], 2.5), ([], 0.0), ([2500, 30], 0.0)])
def test_the_step_between_volumes_is_the_repetition_time(
    client: Client, tmp_path: Path, listed: list[float], step: float
) -> None:
    readouts = [
        replace(line, counters={"repetition": number}) for number in range(3) for line in lines(kspace_of(picture()))
    ]
    header = xml(limits=USUAL + limit("repetition", 0, 2, 0), after=times(TR=listed))
    result = client.reconstruct(write_mrd(tmp_path / "scan.h5", header, readouts), model="rss", outputs=(".nii.gz",))
    header_ = nifti(result, ".nii.gz").header
    assert header_["pixdim"][4] == pytest.approx(step)
    assert header_.get_data_shape() == (ROWS, COLUMNS, 1, 3)


def test_echoes_claim_no_time_between_them(client: Client, tmp_path: Path) -> None:
    readouts = [line for n in range(2) for line in lines(kspace_of(picture()), counters={"contrast": n})]
    path = write_mrd(tmp_path / "scan.h5", xml(after=times(TR=[2500])), readouts)
    result = client.reconstruct(path, model="rss", outputs=(".nii.gz",))
    assert nifti(result, ".nii.gz").header["pixdim"][4] == 0
