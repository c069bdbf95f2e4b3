"""The runner of heads: answers block by block, and what goes wrong told apart."""

import numpy as np
import pytest
import torch

from recond_models.heads.exported import SliceTooLargeError
from recond_models.heads.framing import Framing
from recond_models.heads.head import Labelled
from recond_service.execution import ModelFailedError, OutOfDeviceMemoryError, device_of
from recond_service.execution.run_head import run_head
from recond_service.processes import SharedBlock, SliceLayout
from recond_service.types import UnsupportedDataError

DEVICE = device_of("cpu")
FRAMING = Framing((8, 6), (8, 6), (0, 0), (32, 32), 1.0)
PIXELS = SliceLayout(5, 1, FRAMING, 2, "pixels")
SLICES = SliceLayout(3, 0, FRAMING, 2, "slices")


class Scripted:
    """A head that labels every pixel with its sum over the block, or does what it is told."""

    class info:  # noqa: N801 - as a head has it
        name = "scripted"

    def __init__(self, error=None, value=0.5, places=1.0) -> None:
        self.error, self.value, self.places, self.calls = error, value, places, 0

    def _check(self) -> None:
        self.calls += 1
        if self.error is not None:
            raise self.error

    def label(self, block, framing):
        self._check()
        count = len(block) - 2
        maps = torch.full((count, *framing.size), int(block[0, 0, 0]), dtype=torch.uint8)
        return Labelled(torch.full((count, 2, 2), self.value), maps, maps)

    def classify(self, block, framing):
        self._check()
        return torch.full((len(block), 2), self.value)

    def explain(self, block, framing):
        count = 12 * len(block)
        return self.classify(block, framing), torch.arange(count).reshape(len(block), 2, 2, 3) * self.places


def run(head, *layouts, **options):
    blocks = [torch.full((layout.slices, 8, 6), float(number)) for number, layout in enumerate(layouts)]
    return run_head(head, blocks, layouts, DEVICE, kind="test", **options)


def test_each_block_has_its_answer():
    first, second = run(Scripted(), PIXELS, PIXELS).frames
    assert [array.shape for array in second.arrays] == [(3, 2, 2), (3, 8, 6), (3, 8, 6)]
    assert (second.arrays[1] == 1).all()
    assert sum(map(len, first.pieces())) == PIXELS.image_bytes
    (scores,) = run(Scripted(), SLICES).frames[0].arrays
    assert scores.shape == (3, 2)
    assert scores.dtype == np.float32


def test_images_that_an_exported_head_cannot_take_are_told_apart():
    with pytest.raises(UnsupportedDataError, match="scripted: 160 x 96") as caught:
        run(Scripted(SliceTooLargeError("160 x 96 pixels")), PIXELS)
    assert (caught.value.reason, caught.value.field) == ("FIELD_TOO_LARGE", "spec.heads")


def test_a_withdrawn_block_is_not_computed_and_the_others_are():
    head = Scripted()
    first, second, third = run(head, PIXELS, PIXELS, PIXELS, withdrawn=lambda number: number == 1).frames
    assert second is None
    assert ((first.arrays[1] == 0).all(), (third.arrays[1] == 2).all(), head.calls) == (True, True, 2)
    assert run(head, PIXELS, PIXELS, withdrawn=lambda number: True).frames == (None, None)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), OutOfDeviceMemoryError),
        (torch.OutOfMemoryError("CUDA out of memory"), OutOfDeviceMemoryError),
        (RuntimeError("shapes"), ModelFailedError),
        (IndexError("channel"), ModelFailedError),
    ],
    ids=["memory", "device", "runtime", "index"],
)
def test_what_goes_wrong_is_told_apart(error, kind):
    with pytest.raises(kind):
        run(Scripted(error), PIXELS)


@pytest.mark.parametrize("layout", [PIXELS, SLICES], ids=["pixels", "slices"])
def test_answers_that_are_no_numbers_fail(layout):
    with pytest.raises(ModelFailedError, match="not finite"):
        run(Scripted(value=float("nan")), layout)


def test_answers_of_another_size_fail():
    with pytest.raises(ModelFailedError, match="outputs of the shape"):
        run(Scripted(), SliceLayout(5, 1, FRAMING, 3, "pixels"))


EXPLAINED = SliceLayout(3, 0, FRAMING, 2, "slices", (2, 3))


def test_attention_maps_come_behind_the_probabilities_and_only_where_asked_for():
    head = Scripted()
    (frame,) = run(head, EXPLAINED).frames
    content = b"".join(frame.pieces())
    assert len(content) == EXPLAINED.image_bytes == 4 * (3 * 2 + 3 * 2 * 2 * 3)
    with SharedBlock.holding("test", *frame.pieces()) as block:
        assert (EXPLAINED.slice_answer(block) == 0.5).all()
        maps = EXPLAINED.attention_answer(block)
        assert maps.shape == EXPLAINED.attention_shape == (3, 2, 2, 3)
        assert maps[2, 1, 1, 2] == 35
    assert run(head, SLICES).frames[0].arrays[0].shape == (3, 2)
    assert len(run(head, SLICES).frames[0].arrays) == 1


def test_attention_maps_of_another_size_or_without_numbers_fail():
    with pytest.raises(ModelFailedError, match="attention map of the shape"):
        run(Scripted(), SliceLayout(3, 0, FRAMING, 2, "slices", (3, 3)))
    with pytest.raises(ModelFailedError, match="not finite"):
        run(Scripted(places=float("inf")), EXPLAINED)


@pytest.mark.parametrize(("answer", "attention"), [("pixels", (2, 3)), ("slices", (2000, 2000)), ("slices", (-1, 1))])
def test_attention_maps_that_cannot_be(answer, attention):
    with pytest.raises(ValueError, match="impossible attention map"):
        SliceLayout(3, 0, FRAMING, 2, answer, attention)
