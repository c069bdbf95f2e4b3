"""Which images make a stack, what it is called, and how volumes are put together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recond_service.series import Assembly, StackNumbers, make_series
from recond_service.types import Crossing, FindingList, FinishedImage, Frame, FrameIndex, Geometry

AXIAL = Geometry((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1.0, 1.0, 4.0))
SHAPE = (6, 5)


def frame(number: int = 0, z: float = 0.0, geometry: Geometry | None = AXIAL, **fields: object) -> Frame:
    made = Frame(
        FrameIndex(slice=number),
        np.zeros((0, 0, 0), np.complex64),
        np.zeros((0, 0), np.bool_),
        (0, 0),
        1.0,
        SHAPE,
        geometry=None if geometry is None else replace(geometry, position=(0.0, 0.0, z)),
    )
    return replace(made, **fields)


def series_of(frames: list[Frame]) -> tuple[list[tuple[str, list[int]]], FindingList]:
    """Name and slice counters of each stack."""
    assembly, numbers, findings = Assembly(), StackNumbers(), FindingList()
    images: list[FinishedImage] = []
    for number, each in enumerate(frames):
        assembly.announce(number, each)
        complete = assembly.add(number, each, np.full(each.image_shape, number, np.float32))
        images += [
            replace(image, stack=numbers.of(image.index, image.geometry, image.pixels.shape, each))
            for image in complete
        ]
    made = make_series(images, numbers, None, findings)
    return [(stack.name, [image.index.slice for image in stack.images]) for stack in made.stacks], findings


def test_slices_at_even_distances_are_one_stack() -> None:
    stacks, findings = series_of([frame(n, z) for n, z in enumerate((8.0, 0.0, 12.0, 4.0))])
    assert stacks == [("axial", [1, 3, 0, 2])]
    assert not len(findings)


@pytest.mark.parametrize(
    ("places", "parts"),
    [
        ((0, 4, 8, 30, 34, 38), [[0, 1, 2], [3, 4, 5]]),
        ((30, 34, 38, 0, 4, 8), [[0, 1, 2], [3, 4, 5]]),
        ((0, 30, 4, 34, 60, 64), [[0, 2], [1, 3], [4, 5]]),
        ((0, 4, 8, 16, 20), [[0, 1, 2], [3, 4]]),
    ],
)
def test_a_gap_parts_stacks(places: tuple[float, ...], parts: list[list[int]]) -> None:
    stacks, _ = series_of([frame(n, z) for n, z in enumerate(places)])
    assert [slices for _, slices in stacks] == parts
    assert [name for name, _ in stacks] == [f"slab{number + 1}" for number in range(len(parts))]


def test_a_slice_that_lies_apart_stays_with_the_others() -> None:
    stacks, _ = series_of([frame(n, z) for n, z in enumerate((0.0, 4.0, 8.0, 20.0))])
    assert stacks == [("axial", [0, 1, 2, 3])]


@pytest.mark.parametrize("degrees", [0.0, 0.4, 3.0, 20.0])
def test_orientations_that_differ_clearly_are_stacks(degrees: float) -> None:
    angle = np.deg2rad(degrees)
    turned = replace(
        AXIAL, column_direction=(0, np.cos(angle), np.sin(angle)), slice_direction=(0, -np.sin(angle), np.cos(angle))
    )
    stacks, findings = series_of([frame(0), frame(1, geometry=turned)])
    assert len(stacks) == (2 if degrees > 1 else 1)
    assert ("orientation-varies" in findings) == (0 < degrees < 1)
    if degrees > 1:
        assert [name for name, _ in stacks] == ["axial1", "axial2"]


def test_sizes_and_encodings_are_stacks() -> None:
    stacks, findings = series_of([frame(0), frame(1, image_shape=(8, 8)), frame(2, index=FrameIndex(2, encoding=1))])
    assert len(stacks) == 3
    assert "several-stacks" in findings


def test_images_without_geometry_are_a_stack_without_a_plane() -> None:
    stacks, _ = series_of([frame(n, geometry=None) for n in (2, 0, 1)])
    assert stacks == [("stack1", [0, 1, 2])]


def test_the_planes_of_a_volume_become_its_slices_in_any_order() -> None:
    rng = np.random.default_rng(0)
    volume = rng.random((7, 6, 5)).astype(np.float32)  # readout, phase encode, partition
    assembly = Assembly()
    frames = [frame(0, crossing=Crossing(number, 7)) for number in range(7)]
    for number, each in enumerate(frames):
        assembly.announce(number, each)
    done = [assembly.add(number, frames[number], volume[number]) for number in (3, 0, 6, 1, 5, 2, 4)]
    assert [len(images) for images in done] == [0, 0, 0, 0, 0, 0, 5]
    np.testing.assert_array_equal(np.stack([image.pixels for image in done[-1]]), volume.transpose(2, 0, 1))
    assert [image.geometry.position[2] for image in done[-1]] == [-8.0, -4.0, 0.0, 4.0, 8.0]
    assert [image.number for image in done[-1]] == [0, 1, 2, 3, 4]


def test_images_are_numbered_in_the_order_of_their_frames() -> None:
    assembly = Assembly()
    frames = [frame(0), *(frame(1, crossing=Crossing(n, 2)) for n in range(2)), frame(2)]
    for number, each in enumerate(frames):
        assembly.announce(number, each)
    numbers = {}
    for number in (3, 2, 0, 1):
        for image in assembly.add(number, frames[number], np.zeros(SHAPE, np.float32)):
            numbers.setdefault(number, []).append(image.number)
    assert numbers == {3: [6], 0: [0], 1: [1, 2, 3, 4, 5]}
