"""Images as integers: what their scale is, and what becomes of numbers that have none."""

from __future__ import annotations

import numpy as np
import pytest
from defusedxml import ElementTree

from recond_client.result import Image, ImageIndex
from recond_gateway.config import Pipeline
from recond_gateway.mrd.parser import MrdParser
from recond_gateway.scan.groups import GroupLedger
from recond_gateway.scan.header import EncodingFacts, HeaderFacts
from recond_gateway.scan.images import ImageWriter, Origin

RAMP = np.linspace(0.0, 1.0, 32 * 24, dtype=np.float32).reshape(32, 24)


def sent(images: list[np.ndarray], **pipeline: object) -> list[tuple[int, np.ndarray, dict[str, str]]]:
    """Series, pixels (rows, columns) in the units of the image, and attributes of each."""
    header = HeaderFacts((EncodingFacts(),))
    writer = ImageWriter("scan", header, GroupLedger(header), Pipeline(**{"pixels": "int16", **pipeline}))
    found = []
    for number, pixels in enumerate(images):
        parser = MrdParser()
        for message in writer.messages(Image(ImageIndex(number, slice=number), pixels), Origin("rss", "1")):
            room = parser.buffer()
            room[: len(message)] = message
            parser.received(len(message))
        for message in parser.messages():
            root = ElementTree.fromstring(message.attributes)
            about = {meta.findtext("name"): meta.findtext("value") or "" for meta in root.iter("meta")}
            dtype = {2: "<i2", 5: "<f4"}[int(message.header["data_type"])]
            x, y, _ = message.header["matrix_size"]
            values = np.frombuffer(message.pixels, dtype).reshape(y, x).T * float(about.get("RescaleSlope", 1))
            found.append((int(message.header["image_series_index"]), values, about))
    return found


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e9])
def test_a_first_image_of_air_sets_no_scale(size):
    empty, ramp = sent([np.zeros_like(RAMP), RAMP * np.float32(size)])
    assert not empty[1].any()
    assert ramp[1] == pytest.approx(RAMP * size, abs=size / 4000)
    assert (empty[0], ramp[0]) == (1, 1)


def test_an_image_that_leaves_the_scale_of_the_first_begins_another_series():
    noise, bright, dark = sent([RAMP * 0.01, RAMP, RAMP * 0.5])
    assert bright[1] == pytest.approx(RAMP, abs=1 / 4000)
    assert dark[1] == pytest.approx(RAMP * 0.5, abs=1 / 4000)
    assert "another RescaleSlope" in bright[2]["RecondWarning"]
    assert "RecondWarning" not in dark[2]
    assert noise[0] != bright[0] == dark[0]
    assert bright[2]["RescaleSlope"] == dark[2]["RescaleSlope"]


def test_images_within_the_range_keep_the_scale_of_the_first():
    images = sent([RAMP, RAMP * 5, RAMP * 0.1])
    assert {series for series, _, _ in images} == {1}
    assert len({about["RescaleSlope"] for _, _, about in images}) == 1


def test_a_single_bright_pixel_has_a_scale():
    spot = np.zeros_like(RAMP)
    spot[1, 1] = 1e-3
    ((_, values, _),) = sent([spot])
    assert values == pytest.approx(spot, abs=1e-6)


@pytest.mark.parametrize("pixels", ["int16", "float32"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_numbers_that_are_none_cost_no_other_pixel(pixels, wrong):
    broken = RAMP.copy() * 1000
    broken[4:20] = wrong
    first, second = sent([broken, RAMP * 1000], pixels=pixels)
    kept = np.isfinite(broken)
    assert first[1][kept] == pytest.approx(broken[kept], abs=0.5)
    assert second[1] == pytest.approx(RAMP * 1000, abs=0.5)
    if pixels == "int16":
        assert first[2]["RecondNotFinitePixels"] == str(int((~kept).sum()))


def test_phases_of_numbers_that_are_none():
    header = HeaderFacts((EncodingFacts(),))
    writer = ImageWriter("scan", header, GroupLedger(header), Pipeline(pixels="int16", outputs=("phase",)))
    whole = RAMP.astype(np.complex64) * 1j
    whole[3, 4] = np.nan
    (message,) = writer.messages(Image(ImageIndex(0), np.abs(whole), complex_pixels=whole), Origin("rss", "1"))
    values = np.frombuffer(message[-2 * whole.size :], "<i2").reshape(whole.shape[::-1]).T
    assert values[3, 4] == 0
    assert values[5, 5] * np.pi / 4096 == pytest.approx(np.pi / 2, abs=1e-3)
