"""Label maps of heads on their way into files."""

import gzip
import io
import json

import nibabel
import numpy as np
import pytest

from recond_service.results.head_maps import HeadMaps
from recond_service.results.writers.label_map import write_attention_map, write_label_map
from recond_service.series import Series, Stack, StackNumbers, make_series
from recond_service.types import (
    Attention,
    FindingList,
    FinishedImage,
    FrameIndex,
    Geometry,
    HeadResult,
    LabelDescription,
)

SPACING = (2.0, 1.0, 4.0)


def series_of(volumes: int = 1, *, geometry: bool = True) -> Series:
    images = []
    for number in range(3 * volumes):
        where = Geometry((0.0, 0.0, 4.0 * (number % 3)), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), SPACING)
        index = FrameIndex(slice=number % 3, repetition=number // 3)
        images.append(FinishedImage(number, index, np.ones((4, 5), np.float32), where if geometry else None))
    numbers = StackNumbers()
    for image in images:
        numbers.of(image.index, image.geometry, image.pixels.shape, None)
    return make_series(images, numbers, None, FindingList())


def stack(volumes: int = 1, *, geometry: bool = True) -> Stack:
    return series_of(volumes, geometry=geometry).stacks[0]


def result(images: tuple[int, ...], *names: str) -> HeadResult:
    labels = tuple(LabelDescription(value, name) for value, name in enumerate(names, 1))
    return HeadResult("lesion", "1", "", "lesions", images=images, labels=labels)


def maps(value: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((3, 4, 5), value, np.uint8), np.full((3, 4, 5), 200, np.uint8)


def test_maps_of_two_volumes_lie_at_their_images():
    series = series_of(2)
    (both,) = series.stacks
    order = [image.number for image in both.images]
    found = HeadMaps()
    found.add(result((0, 1, 2), "lesion 1"), ())  # without a map
    assert found.heads == ()
    found.add(result(tuple(order[:3]), "lesion 1"), maps(1))
    assert found.on("", series) == ()  # half of the images have none
    found.add(result(tuple(order[3:]), "lesion 1", "lesion 2"), maps(2))
    assert found.on("", series) == ("lesion",)
    assert found.of("lesion", both)[:, 0, 0].tolist() == [1, 1, 1, 2, 2, 2]
    assert (found.confidence("lesion", both) == 200).all()
    assert [label.name for label in found.labels("lesion")] == ["lesion 1", "lesion 2"]
    assert found.task("lesion") == "lesions"
    assert found.label_slice("lesion", order[4]).max() == 2
    assert found.label_slice("lesion", 99) is None


@pytest.mark.parametrize("order", [None, (0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_a_label_map_in_the_axes_of_its_file(order):
    labels = np.arange(60, dtype=np.uint16).reshape(3, 4, 5)
    content = io.BytesIO()
    names = [LabelDescription(7, "weiße Substanz")]
    write_label_map(stack(), labels, names, FindingList(), content, voxel_order=order)
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(content.getvalue()))
    rows, columns, slices = order or (0, 1, 2)
    stored = np.asarray(image.dataobj).transpose(rows, columns, slices)
    assert np.array_equal(stored.transpose(2, 0, 1), labels)
    steps = image.affine[:3, [rows, columns, slices]]
    assert np.linalg.norm(steps, axis=0).tolist() == list(SPACING)
    assert int(image.header["sform_code"]) == 1
    (extension,) = image.header.extensions
    assert json.loads(extension.get_content()) == {"labels": {"weiße Substanz": 7}}


def test_volumes_are_the_fourth_axis_and_images_without_place_say_so():
    content = io.BytesIO()
    labels = np.repeat(np.uint8([1, 1, 1, 2, 2, 2]), 20).reshape(6, 4, 5)
    write_label_map(stack(2, geometry=False), labels, [], FindingList(), content)
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(content.getvalue()))
    assert image.shape == (4, 5, 3, 2)
    assert np.asarray(image.dataobj)[0, 0, 0].tolist() == [1, 2]
    assert int(image.header["sform_code"]) == 2


def explained(images: tuple[int, ...], contrast: str) -> HeadResult:
    attention = (Attention("contrast", contrast), Attention("failed reconstruction", "none"))
    return HeadResult("series", "1", "", "classification", images=images, rows=4, columns=5, attention=attention)


def test_attention_maps_lie_at_the_images_that_were_looked_at():
    series = series_of(2)
    (both,) = series.stacks
    order = [image.number for image in both.images]
    found = HeadMaps()
    values = np.stack([np.full((1, 4, 5), 2, np.float32), np.full((1, 4, 5), -1, np.float32)])
    found.add(explained((order[1],), "T1"), (values,))
    found.add(explained((order[4],), "T2"), (values * 2,))
    assert found.heads == found.on("", series) == ()
    maps = found.attention_on("", series)
    assert list(maps) == ["series_attention-contrast", "series_attention-failed-reconstruction"]
    contrast, failed = maps.values()
    assert contrast.of(both)[:, 0, 0].tolist() == [0, 2, 0, 0, 4, 0]
    assert failed.of(both)[:, 0, 0].tolist() == [0, -1, 0, 0, -2, 0]
    assert contrast.classes(both) == ["", "T1", "", "", "T2", ""]
    assert found.attention_on("no such stack", series) == {}


def test_names_of_groups_that_look_alike_in_files_are_told_apart():
    found, values = HeadMaps(), np.zeros((3, 1, 4, 5), np.float32)
    attention = tuple(Attention(group, "a") for group in ("Motion (x)", "motion x", "å"))
    result = HeadResult("mine", "1", "", "classification", images=(0,), rows=4, columns=5, attention=attention)
    found.add(result, (values,))
    found.add(result, (values,))
    assert list(found.attention_on("", series_of())) == [
        "mine_attention-motion-x",
        "mine_attention-motion-x-2",
        "mine_attention-group",
    ]


@pytest.mark.parametrize("order", [None, (2, 0, 1)])
def test_an_attention_map_in_the_axes_of_its_file(order):
    found = HeadMaps()
    values = np.arange(80, dtype=np.float32).reshape(2, 2, 4, 5) - 40
    found.add(explained((0, 2), "T1"), (values,))
    content = io.BytesIO()
    contrast = found.attention_on("", series_of())["series_attention-contrast"]
    write_attention_map(stack(), contrast, FindingList(), content, voxel_order=order)
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(content.getvalue()))
    stored = np.asarray(image.dataobj).transpose(order or (0, 1, 2)).transpose(2, 0, 1)
    assert stored.dtype == np.float32
    assert np.array_equal(stored[[0, 2]], values[0])
    assert not stored[1].any()
    (extension,) = image.header.extensions
    about = {"head": "series", "group": "contrast", "classes": ["T1"], "unit": "contribution to the logit"}
    assert json.loads(extension.get_content()) == {"attention": about}
