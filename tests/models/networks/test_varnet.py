"""fastMRI's variational network on packed batches: equal to the paper's formula, whatever else is in the batch."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from network_builders import INFO, frame_of, lines_of, packed, plainly, relative, varnet

from recond_models.batch import PackedBatch
from recond_models.finishing import magnitudes
from recond_models.model import UnsuitableModelError
from recond_models.networks import compiled
from recond_models.networks.families import FAMILIES, of_architecture
from recond_models.networks.lines import calibration_lines, fastmri_count
from recond_models.networks.unet import Unet
from recond_models.networks.varnet_reconstructor import VarNetReconstructor

ARCHITECTURE = {
    "family": "varnet",
    "cascades": 3,
    "channels": 4,
    "pools": 2,
    "sensitivity_channels": 4,
    "sensitivity_pools": 2,
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def notes_of(result, frame=0):
    return [note.code for note in result.notes[frame]] if result.notes else []


@pytest.fixture(scope="module")
def network():
    return varnet()


@pytest.fixture(scope="module")
def model(network):
    return VarNetReconstructor(INFO, network, compiled=False)


class TestEquality:
    @pytest.mark.parametrize("size", [(32, 48), (41, 37), (33, 64), (100, 24)])
    @pytest.mark.parametrize("cascades", [1, 2, 5])
    def test_cascades_without_kspace_equal_the_formula(self, size, cascades):
        network = varnet(cascades=cascades)
        frame = frame_of(5, *size, generator())
        image = magnitudes(VarNetReconstructor(INFO, network, compiled=False).reconstruct(packed([frame])))[0]
        assert relative(image, plainly(network, *frame)) < 1e-5

    def test_compiled_networks_equal_plain_ones(self, network, monkeypatch):
        pytest.importorskip("openvino")
        model = VarNetReconstructor(INFO, network)
        frame = frame_of(3, 60, 50, generator())
        first = magnitudes(model.reconstruct(packed([frame])))
        assert not model.networks.ready((64, 64))  # a few small images are not worth it
        monkeypatch.setattr(compiled, "_SAVED_SECONDS", 1.0)
        assert relative(magnitudes(model.reconstruct(packed([frame]))), first) < 1e-5
        assert model.networks.ready((64, 64))
        assert relative(magnitudes(model.reconstruct(packed([frame]))), first) < 1e-5

    def test_all_frames_at_once_equal_one_by_one(self, network, model):
        frames = [frame_of(coils, 36, 40, generator(coils)) for coils in (3, 1, 9)]
        result = model.reconstruct(packed(frames))
        together = VarNetReconstructor(INFO, network, compiled=False)
        together._plain, together.networks = [together.networks.latest(number, (48, 48)) for number in range(4)], None
        other = together.reconstruct(packed(frames))
        assert relative(magnitudes(other), magnitudes(result)) < 1e-5
        assert other.notes == result.notes

    def test_gradients_flow_through_the_plain_network(self):
        network = varnet(cascades=2)
        kspace, lines = frame_of(2, 32, 32, generator())
        network(kspace[None], lines, kspace[None]).sum().backward()
        assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in network.parameters())

    @pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e12, 1e30])
    def test_scale(self, model, scale):
        frame = frame_of(3, 32, 32, generator())
        expected = magnitudes(model.reconstruct(packed([frame]))).double()
        image = magnitudes(model.reconstruct(packed([frame], scale))).double() / scale
        assert relative(image, expected) < 1e-5


class TestIndependence:
    @settings(max_examples=12, deadline=None)
    @given(
        coils=st.lists(st.integers(1, 9), min_size=1, max_size=4),
        rows=st.integers(17, 50),
        columns=st.integers(20, 50),
        seed=st.integers(0, 2**31),
    )
    def test_image_does_not_depend_on_the_batch(self, model, coils, rows, columns, seed):
        source = generator(seed)
        frames = [frame_of(count, rows, columns, source) for count in coils]
        together = magnitudes(model.reconstruct(packed(frames)))
        for number, frame in enumerate(frames):
            alone = magnitudes(model.reconstruct(packed([frame])))[0]
            assert relative(together[number], alone) < 1e-5

    @settings(max_examples=6, deadline=None)
    @given(coils=st.lists(st.integers(1, 12), min_size=2, max_size=4), seed=st.integers(0, 2**31))
    def test_image_does_not_depend_on_the_batch_when_all_are_computed_at_once(self, network, coils, seed):
        model = VarNetReconstructor(INFO, network, compiled=False)
        model._plain, model.networks = [model.networks.latest(number, (32, 48)) for number in range(4)], None
        source = generator(seed)
        frames = [frame_of(count, 30, 41, source) for count in coils]
        together = magnitudes(model.reconstruct(packed(frames)))
        for number, frame in enumerate(frames):
            assert relative(together[number], magnitudes(model.reconstruct(packed([frame])))[0]) < 1e-5

    def test_input_is_left_as_it_was(self, model):
        batch = packed([frame_of(3, 32, 32, generator())])
        before = batch.kspace.clone()
        model.reconstruct(batch)
        assert torch.equal(batch.kspace, before)


class TestTraps:
    def test_frame_of_zeros(self, model):
        sound = frame_of(2, 32, 32, generator())
        silent = (torch.zeros(2, 32, 32, dtype=torch.complex64), sound[1])
        result = model.reconstruct(packed([silent, sound]))
        assert not magnitudes(result)[0].any()
        assert notes_of(result, 0) == ["no-signal"]
        assert notes_of(result, 1) == []
        assert magnitudes(result)[1].isfinite().all()

    def test_nothing_measured(self, model):
        kspace, _ = frame_of(2, 32, 32, generator())
        result = model.reconstruct(PackedBatch.pack([kspace], [torch.zeros(32, 32, dtype=torch.bool)]))
        assert not magnitudes(result).any()
        assert notes_of(result) == ["no-signal"]

    def test_zero_coil_adds_nothing(self, model):
        kspace, lines = frame_of(3, 32, 32, generator())
        with_zero = torch.cat([kspace[:1], torch.zeros_like(kspace[:1]), kspace[1:]])
        result = model.reconstruct(packed([(with_zero, lines)]))
        assert notes_of(result) == ["zero-coil"]
        assert "coil(s) 1 " in result.notes[0][0].message
        assert relative(magnitudes(result), magnitudes(model.reconstruct(packed([(kspace, lines)])))) < 1e-5

    def test_constant_coil_images(self, model):
        kspace = torch.zeros(2, 32, 32, dtype=torch.complex64)
        kspace[:, 16, 16] = 3
        _, lines = frame_of(1, 32, 32, generator())
        assert magnitudes(model.reconstruct(packed([(kspace, lines)]))).isfinite().all()

    def test_fully_sampled(self, model, network):
        kspace, _ = frame_of(4, 40, 200, generator())
        kspace = torch.randn_like(kspace)
        lines = torch.ones(200, dtype=torch.bool)
        result = model.reconstruct(packed([(kspace, lines)]))
        assert notes_of(result) == ["fully-sampled"]
        choice = calibration_lines(lines, as_fastmri=False)
        assert (choice.start, choice.stop) == (92, 108)
        assert relative(magnitudes(result)[0], plainly(network, kspace, lines)) < 1e-5
        as_fastmri = VarNetReconstructor(INFO, network, compiled=False, as_fastmri=True)
        other = as_fastmri.reconstruct(packed([(kspace, lines)]))
        assert notes_of(other) == ["few-calibration-lines"]
        assert relative(magnitudes(other), magnitudes(result)) > 1e-3

    def test_few_calibration_lines(self, model):
        result = model.reconstruct(packed([frame_of(2, 32, 32, generator(), middle=4)]))
        assert notes_of(result) == ["few-calibration-lines"]
        assert magnitudes(result).isfinite().all()

    def test_centre_not_measured(self, model):
        kspace, lines = frame_of(2, 32, 32, generator())
        lines[14:18] = False
        kspace = torch.where(lines, kspace, 0)
        result = model.reconstruct(packed([(kspace, lines)]))
        assert notes_of(result) == ["few-calibration-lines"]
        assert "only no middle" not in result.notes[0][0].message
        assert magnitudes(result).isfinite().all()

    def test_calibration_measured_beside(self, model):
        full = torch.randn(4, 48, 64, dtype=torch.complex64, generator=generator())
        lines = torch.zeros(64, dtype=torch.bool)
        lines[::3] = True
        mask = lines.expand(48, 64).clone()
        block = full[:, 12:36, 22:42] * 1e6
        result = model.reconstruct(PackedBatch.pack([torch.where(lines, full, 0)], [mask], [block]))
        assert notes_of(result) == ["separate-calibration"]
        without = model.reconstruct(PackedBatch.pack([torch.where(lines, full, 0)], [mask], [None]))
        assert relative(magnitudes(result), magnitudes(without)) > 1e-2

    def test_calibration_that_is_part_of_the_kspace_changes_nothing(self, model):
        kspace, lines = frame_of(3, 40, 48, generator())
        mask = lines.expand(40, 48).clone()
        with_block = model.reconstruct(PackedBatch.pack([kspace], [mask], [kspace[:, 8:32, 18:30]]))
        assert torch.equal(magnitudes(with_block), magnitudes(model.reconstruct(PackedBatch.pack([kspace], [mask]))))

    def test_padding_columns(self, model, network):
        kspace, lines = frame_of(3, 32, 64, generator())
        lines[:9] = lines[-7:] = False
        kspace = torch.where(lines, kspace, 0)
        image = magnitudes(model.reconstruct(packed([(kspace, lines)])))[0]
        assert relative(image, plainly(network, kspace, lines)) < 1e-5

    def test_lines_measured_in_part_are_refused(self, model):
        kspace, lines = frame_of(2, 32, 32, generator())
        mask = lines.expand(32, 32).clone()
        mask[:5] = False
        with pytest.raises(UnsuitableModelError, match=r"mask of frame 0 .* measured in part .* l1-wavelet"):
            model.reconstruct(PackedBatch.pack([kspace], [mask]))

    def test_too_small_for_the_network(self):
        model = VarNetReconstructor(INFO, varnet(cascades=1, pools=4), compiled=False)
        with pytest.raises(UnsuitableModelError, match="17 x 17 and more, got 16 x 32"):
            model.reconstruct(packed([frame_of(1, 16, 32, generator())]))
        assert magnitudes(model.reconstruct(packed([frame_of(1, 17, 32, generator())]))).isfinite().all()

    def test_wrong_network_or_precision(self, network):
        with pytest.raises(TypeError, match="expected a VarNet, got Unet"):
            VarNetReconstructor(INFO, Unet(1, 1, 4, 2))
        with pytest.raises(ValueError, match="float16"):
            VarNetReconstructor(INFO, network, "cpu", "float16")


class TestLines:
    @pytest.mark.parametrize(
        ("measured", "columns", "count"),
        [
            (range(13, 22), 32, 6),
            (range(10, 22), 32, 12),
            (range(16), 32, 1),
            (range(32), 32, 1),
            (range(1, 31), 32, 30),
            (range(14, 20), 33, 4),
            ((3, 9), 32, 1),
        ],
    )
    def test_count_of_fastmri(self, measured, columns, count):
        lines = torch.zeros(columns, dtype=torch.bool)
        lines[list(measured)] = True
        assert fastmri_count(lines) == count

    @given(columns=st.integers(20, 60), seed=st.integers(0, 2**31))
    def test_chosen_lines_were_measured_where_there_are_enough(self, columns, seed):
        lines = lines_of(columns, generator(seed))
        choice = calibration_lines(lines, as_fastmri=False)
        assert choice.notes == ()
        # For odd sizes fastMRI places the block one line above the centre.
        assert lines[choice.start : choice.stop - columns % 2].all()
        assert choice.stop - choice.start >= 10


class TestFamily:
    def test_architecture_is_known_by_the_weights(self):
        family = FAMILIES["varnet"]
        network = family.build(ARCHITECTURE)
        assert not network.training
        assert family.infer(network.state_dict()) == ARCHITECTURE
        assert FAMILIES["unet"].infer(network.state_dict()) is None

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"cascades": 0}, "cascades of a varnet must be a whole number from 1 to 100, got 0"),
            ({"pools": 2.0}, "pools of a varnet"),
            ({"channels": True}, "channels of a varnet"),
            ({"depth": 3}, "has the fields"),
        ],
    )
    def test_bad_architecture(self, change, message):
        with pytest.raises(ValueError, match=message):
            FAMILIES["varnet"].build(ARCHITECTURE | change)

    def test_unknown_family(self):
        with pytest.raises(ValueError, match="no family of networks 'resnet'"):
            of_architecture({"family": "resnet"})

    def test_official_size_has_the_published_keys(self):
        sizes = {"cascades": 12, "channels": 18, "pools": 4, "sensitivity_channels": 8, "sensitivity_pools": 4}
        state = FAMILIES["varnet"].build({"family": "varnet", **sizes}).state_dict()
        assert len(state) == 324
        assert state["cascades.11.dc_weight"].shape == (1,)
        assert state["cascades.0.model.unet.up_conv.3.1.bias"].shape == (2,)
        assert state["sens_net.norm_unet.unet.up_transpose_conv.0.layers.0.weight"].shape == (128, 64, 2, 2)
        assert math.prod(state["cascades.3.model.unet.conv.layers.0.weight"].shape) == 288 * 144 * 9


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gpu_equals_cpu(precision):
    frames = [frame_of(coils, 64, 48, generator(coils)) for coils in (4, 7)]
    expected = VarNetReconstructor(INFO, varnet(), compiled=False).reconstruct(packed(frames))
    model = VarNetReconstructor(INFO, varnet(), "cuda", precision)
    limit = {"float32": 1e-4, "bfloat16": 0.1}[precision]
    for _ in range(3):  # plain, then recorded, then replayed
        result = model.reconstruct(packed(frames))
        assert relative(magnitudes(result), magnitudes(expected)) < limit
