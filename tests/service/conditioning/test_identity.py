"""What tells images apart that no counter does: positions that differ by little, the table, dwell times that were never set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from field_scans import (
    COLUMNS,
    FULL,
    RIGHT,
    error,
    from_file,
    joined,
    kspace_of,
    limit,
    lines,
    picture,
    rss,
    step_limit,
    volume_kspace,
    xml,
)
from raw_builders import Readout

PICTURES = [picture(tilt=0.4 * number) for number in range(4)]


@pytest.mark.parametrize("interleaved", [True, False])
@pytest.mark.parametrize("apart", ["by 1.5 mm", "by 4 degrees"])
def test_a_line_that_comes_again_elsewhere_is_no_motion(read, interleaved: bool, apart: str) -> None:
    slices = []
    for number, image in enumerate(PICTURES):
        angle = np.deg2rad(4 * number) if apart == "by 4 degrees" else 0.0
        cosine, sine = float(np.cos(angle)), float(np.sin(angle))
        directions = ((1, 0, 0), (0, cosine, sine), (0, -sine, cosine))
        position = (0.0, 0.0, 0.0 if angle or apart == "by 4 degrees" else 1.5 * number)
        slices.append(lines(kspace_of(image), position=position, directions=directions))
    readouts = [line for together in zip(*slices, strict=True) for line in together] if interleaved else joined(slices)
    found = read(xml(view=(200, 180, 6)), readouts)
    assert error(np.sort(found.images, axis=0), np.sort(np.stack(PICTURES), axis=0)) < RIGHT
    assert "positions-differ" in found.warnings
    assert "lines-repeated" not in found.warnings


class AtTable(Readout):
    """A readout with the table 300 mm farther."""

    def header(self) -> np.ndarray:
        head = super().header()
        head["patient_table_position"] = (0, 0, 300)
        return head


def test_stations_that_the_table_alone_tells_apart_are_images_of_their_own(read) -> None:
    farther = [AtTable(line.data, line.step, line.flags) for line in lines(kspace_of(PICTURES[2]))]
    found = read(xml(), lines(FULL) + farther)
    assert error(found.images, np.stack([picture(), PICTURES[2]])) < RIGHT
    assert "positions-differ" in found.warnings


def test_a_table_that_moves_during_an_image_does_not_split_it(read) -> None:
    readouts = lines(FULL)
    moved = [AtTable(line.data, line.step, line.flags) for line in readouts[COLUMNS // 2 :]]
    found = read(xml(), readouts[: COLUMNS // 2] + moved)
    assert error(found.images, picture()[None]) < RIGHT


@pytest.mark.parametrize("unset", [0.0, float("nan")])
@pytest.mark.parametrize("where", [slice(0, 4), slice(10, 14)])
def test_a_dwell_time_that_was_never_set_splits_no_image(read, unset: float, where: slice) -> None:
    readouts = lines(FULL)
    readouts[where] = [replace(line, dwell=unset) for line in readouts[where]]
    found = read(xml(), readouts)
    assert error(found.images, picture()[None]) < RIGHT
    assert "dwell-times-differ" not in found.warnings


@pytest.mark.parametrize("counted", [True, False])
def test_slices_whose_partition_counter_is_that_of_the_slice(read, counted: bool) -> None:
    slices = [
        lines(
            kspace_of(image),
            position=(0.0, 0.0, 6.0 * number),
            counters={"slice": number if counted else 0, "kspace_encode_step_2": number},
        )
        for number, image in enumerate(PICTURES)
    ]
    found = read(xml(), joined(slices))
    assert error(found.images, np.stack(PICTURES)) < RIGHT
    assert "lines-outside-matrix" not in found.warnings


VOLUME = np.stack([picture(24, 16, gain=1 + 0.2 * p) for p in range(8)], -1)
LIMITS = step_limit(15, 8) + step_limit(7, 4, axis=2)


def counted_as_slices(spacing: float = 0.0) -> list[Readout]:
    kspace = volume_kspace(VOLUME)
    return joined(
        lines(kspace[..., number], counters={"slice": number}, position=(0.0, 0.0, spacing * number))
        for number in range(8)
    )


def test_partitions_that_were_counted_as_slices(tmp_path: Path) -> None:
    found = from_file(tmp_path, xml((24, 16, 8), view=(200, 180, 40), limits=LIMITS), counted_as_slices())
    assert error(found.images, VOLUME.transpose(2, 0, 1)) < RIGHT
    assert "partitions-counted-as-slices" in found.warnings


@pytest.mark.parametrize("reason", ["positions", "limits"])
def test_slices_that_are_no_partitions(tmp_path: Path, reason: str) -> None:
    limits = LIMITS + (limit("slice", 0, 7, 0) if reason == "limits" else "")
    readouts = counted_as_slices(5.0 if reason == "positions" else 0.0)
    found = from_file(tmp_path, xml((24, 16, 8), view=(200, 180, 40), limits=limits), readouts)
    expected = np.stack([rss(plane) for plane in np.moveaxis(volume_kspace(VOLUME), -1, 0)])
    assert error(found.images, expected) < RIGHT
    assert "partitions-counted-as-slices" not in found.warnings
