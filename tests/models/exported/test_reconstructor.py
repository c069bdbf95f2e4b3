"""Which axis is which, and that frames come out as the program alone makes them, at any scale and in any company."""

import numpy as np
import pytest
import torch
from exported_programs import (
    OneFrame,
    RealParts,
    Unrolled,
    WholeBatch,
    complex_example,
    export,
    one_frame_file,
    unrolled_file,
)
from torch import nn

from recond_kernels import espirit
from recond_models.batch import PackedBatch
from recond_models.contract import Contract
from recond_models.exported.archive import read_archive
from recond_models.exported.errors import SignatureError
from recond_models.exported.program import Program
from recond_models.exported.reconstructor import ExportedReconstructor
from recond_models.exported.signature import Signature
from recond_models.exported.sizes import Size
from recond_models.finishing import magnitudes
from recond_models.model import ModelInfo, UnsuitableModelError
from recond_models.sampling import Sampling
from recond_models.selection import check
from recond_models.store import golden

INFO = ModelInfo("theirs", "1", "", "network", "", needs_calibration=False, fits_samples=False)


def program_in(path) -> Program:
    archive = read_archive(path)
    return Program(archive.program, archive.tensors)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("programs")
    auto = torch.export.Dim.AUTO
    pair = (torch.randn(2, 4, 48, 40, 2), torch.ones(2, 1, 1, 40, 1))
    batch = complex_example(batch=2)
    sizes = {0: auto, 1: auto, 2: auto, 3: auto}
    mask_sizes = {0: auto, 1: auto, 2: auto}
    return {
        "unrolled": unrolled_file(folder / "unrolled.pt2"),
        "one": one_frame_file(folder / "one.pt2"),
        "real": export(folder / "real.pt2", RealParts(), pair, {"kspace": sizes, "mask": {0: auto, 3: auto}}),
        "whole": export(folder / "whole.pt2", WholeBatch(), batch, {"kspace": sizes, "mask": mask_sizes}),
    }


def test_signatures(paths):
    unrolled = Signature.of(program_in(paths["unrolled"]))
    assert unrolled.to_json() == {
        "kspace": "complex64 (batch, coils, rows, columns)",
        "mask": "bool (batch, rows, columns)",
        "maps": "complex64 (batch, coils, rows, columns)",
        "image": "complex64 (batch, rows, columns)",
        "complex_images": True,
    }
    contract = unrolled.contract(Contract(coils=(4, 8), anatomy="knee"), 8)
    assert (contract.coils, contract.rows, contract.columns) == ((4, 8), (16, 256), (16, 320))
    assert contract.required == ("rows", "columns")  # it was trained on 4 to 8 coils, and takes others
    assert contract.requires_calibration
    one = Signature.of(program_in(paths["one"]))
    assert (str(one.kspace), str(one.mask), one.maps) == (
        "complex64 (coils, rows, columns)",
        "float32 (1, columns)",
        None,
    )
    contract = one.contract(Contract(), 8)
    assert (contract.coils, contract.rows, contract.columns) == ((4, 4), (80, 80), (64, 64))
    assert contract.required == ("coils", "rows", "columns")
    assert contract.patterns == ("full", "uniform", "irregular")
    real = Signature.of(program_in(paths["real"]))
    assert str(real.kspace) == "float32 (batch, coils, rows, columns, parts)"
    assert str(real.mask) == "float32 (batch, 1, 1, columns, 1)"
    assert not real.image.is_complex


def test_frames_that_a_program_cannot_take_are_refused_before_they_are_computed(paths):
    contract = Signature.of(program_in(paths["one"])).contract(Contract(), 8)
    info = ModelInfo("theirs", "1", "", "network", "", needs_calibration=False, fits_samples=False, contract=contract)
    fitting = Sampling(4, 80, 64, 4.0, "uniform", 4, (80, 16))
    check(info, fitting)
    with pytest.raises(UnsuitableModelError, match=r"coils is 8, it takes 4; the number of rows is 96, it takes 80"):
        check(info, Sampling(8, 96, 64, 4.0, "uniform", 4, (80, 16)))
    model = ExportedReconstructor(INFO, program_in(paths["one"]))
    with pytest.raises(UnsuitableModelError, match=r"rows is 160, it is fixed to 80"):
        model.reconstruct(golden.make_input(Contract(coils=(4, 4)), 2))
    points = golden.make_input(Contract(coils=(4, 4)))
    points.masks[0, 3, 5] ^= True
    with pytest.raises(UnsuitableModelError, match="line"):
        model.reconstruct(points)


def test_images_are_those_of_the_network(paths):
    """The program by itself, on k-space whose zero-filled image has the brightest pixel 1."""
    batch = golden.make_input(Contract())
    made = ExportedReconstructor(INFO, program_in(paths["unrolled"])).reconstruct(batch)
    network = Unrolled().eval()
    network.load_state_dict(dict(read_archive(paths["unrolled"]).tensors))
    for number, segment in enumerate(batch.layout.segments()):
        kspace = batch.kspace[segment]
        peak = torch.fft.ifft2(kspace, norm="ortho").abs().square().sum(dim=0).sqrt().max()
        block = batch.calibrations[number]
        block = block[:, block.shape[1] // 2 - 12 : block.shape[1] // 2 + 12]
        maps = espirit.estimate_batch([block], (80, 64), crop=0.95)
        with torch.inference_mode():
            expected = network((kspace / peak)[None], batch.masks[number : number + 1], maps[None])[0] * peak
        image = made.images[number] * float(made.scales[number])
        torch.testing.assert_close(image, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["unrolled", "one", "real"])
@pytest.mark.parametrize("scale", [1e-6, 1e12])
def test_every_scale(paths, name, scale):
    model = ExportedReconstructor(INFO, program_in(paths[name]))
    batch = golden.make_input(Contract(coils=(4, 4)))
    image = magnitudes(model.reconstruct(batch))
    scaled = PackedBatch(batch.kspace * scale, batch.coil_offsets, batch.masks, batch.calibrations)
    again = magnitudes(model.reconstruct(scaled)).double()
    torch.testing.assert_close(again / scale, image.double(), rtol=1e-3, atol=1e-5 * float(image.max()))
    assert image.amax(dim=(1, 2)).min() > 0


def test_frames_together_have_the_images_that_they_have_alone(paths):
    """Given together and frame by frame, with equal and with mixed numbers of coils."""
    for coils in ((4, 4), (3, 6)):
        batch = golden.make_input(Contract(coils=coils))
        apart = magnitudes(ExportedReconstructor(INFO, program_in(paths["unrolled"])).reconstruct(batch))
        both = ExportedReconstructor(INFO, program_in(paths["unrolled"]), together=True).reconstruct(batch)
        torch.testing.assert_close(magnitudes(both), apart, rtol=0, atol=1e-5 * float(apart.max()))


def test_silent_frames_are_zero_and_leave_others_alone(paths):
    batch = golden.make_input(Contract(coils=(4, 4)))
    silent = batch.kspace.clone()
    silent[4:] = 0
    made = ExportedReconstructor(INFO, program_in(paths["one"])).reconstruct(
        PackedBatch(silent, batch.coil_offsets, batch.masks, batch.calibrations)
    )
    assert not made.images[1].any()
    assert [note.code for note in made.notes[1]] == ["no-signal"]
    alone = ExportedReconstructor(INFO, program_in(paths["one"])).reconstruct(batch)
    torch.testing.assert_close(made.images[0], alone.images[0])


class Returns(nn.Module):
    def __init__(self, what) -> None:
        super().__init__()
        self.what = what

    def forward(self, *inputs):
        return self.what(*inputs)


@pytest.mark.parametrize(
    ("what", "inputs", "message"),
    [
        (
            lambda kspace, mask: kspace.abs().sum(0) + mask,
            (np.ones((4, 48, 40), np.complex128), np.ones((48, 40))),
            "complex128",
        ),
        (
            lambda kspace, mask: kspace.sum(0) + mask,
            (np.ones((4, 48, 40), np.float32), np.ones((48, 40))),
            r"float32 \(4, 48, 40\)",
        ),
        (
            lambda kspace, mask: kspace[:, 0].abs() + mask,
            (np.ones((3, 4, 48, 40), np.complex64), np.ones((48, 40))),
            "a fixed batch",
        ),
        (
            lambda kspace, mask: kspace.abs() + mask,
            (np.ones((4, 48, 40), np.complex64), np.ones((48, 40))),
            "returns abs_1|returns add",
        ),
        (
            lambda kspace, mask: kspace.abs().sum(0)[4:44] * mask[4:44],
            (np.ones((4, 48, 40), np.complex64), np.ones((48, 40))),
            "48 x 40 pixels",
        ),
        (
            lambda kspace, mask: kspace.abs().sum(0) + mask.sum(),
            (np.ones((4, 48, 40), np.complex64), np.ones((48, 39))),
            "as its mask",
        ),
        (lambda kspace: kspace.abs().sum(0), (np.ones((4, 48, 40), np.complex64),), "a program takes"),
        (
            lambda kspace, mask, maps: (kspace * mask).abs().sum(0) + maps.abs().sum(),
            (np.ones((4, 48, 40), np.complex64), np.ones((48, 40)), np.ones((3, 48, 40), np.complex64)),
            "coils differ",
        ),
    ],
)
def test_other_signatures_are_refused(tmp_path, what, inputs, message):
    tensors = tuple(
        torch.from_numpy(array.astype(np.float32) if array.dtype == np.float64 else array) for array in inputs
    )
    path = export(tmp_path / "a.pt2", Returns(what), tensors)
    with pytest.raises(SignatureError, match=message):
        Signature.of(program_in(path))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("s0", (1, 0)),
        ("Symbol('s0', positive=True, integer=True)", (1, 0)),
        ("Mul(Integer(16), Symbol('s0', integer=True))", (16, 0)),
        ("16*s0 + 2", (16, 2)),
        ("Add(Integer(-1), Mul(Integer(2), Symbol('s0')))", (2, -1)),
    ],
)
def test_sizes_with_symbols(text, size):
    found = Size.read({"as_expr": {"expr_str": text}}, {"s0": {"min_val": 2, "max_val": 10}})
    assert (found.factor, found.offset) == size
    assert (found.least, found.most) == (2 * size[0] + size[1], 10 * size[0] + size[1])
    assert found.problem(3 * size[0] + size[1]) == ""
    if size[0] > 1:
        assert "multiples of" in found.problem(3 * size[0] + size[1] + 1)
    assert "it takes" in found.problem(11 * size[0] + size[1])


@pytest.mark.parametrize(
    "text", ["s0*s1", "open('/etc/passwd')", "2**s0", "Mul(s0, s0)", "(" * 400, "lambda: 1", "-s0"]
)
def test_sizes_that_are_none(text):
    with pytest.raises(SignatureError, match="a size of the program is"):
        Size.read({"as_expr": {"expr_str": text}}, {})


def test_a_program_that_writes_into_its_inputs_has_copies(tmp_path):
    class Writes(nn.Module):
        def forward(self, kspace, mask):
            mask.zero_()
            kspace.mul_(2)
            return kspace.abs().sum(dim=0) + mask

    program = program_in(export(tmp_path / "writes.pt2", Writes(), complex_example(4, 80, 64)))
    batch = golden.make_input(Contract(coils=(4, 4)))
    before = batch.masks.clone(), batch.kspace.clone()
    made = ExportedReconstructor(INFO, program).reconstruct(batch)
    assert made.images.any()
    assert torch.equal(batch.masks, before[0])
    assert torch.equal(batch.kspace, before[1])


def test_one_frame_of_the_network_itself(paths):
    batch = golden.make_input(Contract(coils=(4, 4)))
    network = OneFrame().eval()
    network.load_state_dict(dict(read_archive(paths["one"]).tensors))
    made = ExportedReconstructor(INFO, program_in(paths["one"])).reconstruct(batch)
    kspace = batch.kspace[:4]
    peak = torch.fft.ifft2(kspace, norm="ortho").abs().square().sum(dim=0).sqrt().max()
    with torch.inference_mode():
        expected = network(kspace / peak, batch.masks[0, :1].float()) * peak
    torch.testing.assert_close(made.images[0] * float(made.scales[0]), expected, rtol=1e-4, atol=1e-5 * float(peak))
