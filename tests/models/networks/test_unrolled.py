import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recond_models import loading, registry
from recond_models.batch import PackedBatch
from recond_models.finishing import Finishing, finish_deviations, magnitudes
from recond_models.model import NoDeviationError, UnsuitableModelError
from recond_models.networks.families import FAMILIES, of_architecture
from recond_models.networks.unrolled import UnrolledArchitecture, UnrolledNetwork
from recond_models.networks.unrolled_reconstructor import UnrolledReconstructor
from recond_models.sampling import centre_block
from recond_models.selection import check_deviation
from recond_models.simulate.scan import ScanSettings, simulate

SMALL = UnrolledArchitecture(rounds=2, channels=(8, 16, 16), bottleneck_blocks=1, iterations=3, calibration=16, coils=8)
INFO = registry.find("cg-sense")


def network(seed=0, architecture=SMALL):
    torch.manual_seed(seed)
    made = UnrolledNetwork(architecture)
    with torch.no_grad():
        # Away from the gentle start of training, so that the network has something to say.
        for parameter in made.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return made.eval()


def frame(coils=4, rows=48, columns=40, seed=1, acceleration=3.0):
    scan = simulate(
        ScanSettings(
            coils=coils, slices=1, rows=rows, columns=columns, acceleration=acceleration, calibration_lines=16,
            phantom="shepp-logan", oversampling=1, seed=seed,
        )
    )  # fmt: skip
    kspace = scan.kspace.reshape(-1, *scan.kspace.shape[-2:]).astype(np.complex64)
    mask = np.broadcast_to(scan.lines, kspace.shape[1:]).copy()
    kspace = np.where(mask, kspace, np.complex64(0))
    return kspace, mask, centre_block(kspace, (16, 16)).copy()


def pack(*frames):
    return PackedBatch.pack(*(list(part) for part in zip(*frames, strict=True)))


def test_weights_of_a_family_fit_its_architecture():
    architecture = {"family": "unrolled", **SMALL.to_json()}
    built = of_architecture(architecture).build(architecture)
    built.load_state_dict(network().state_dict())
    assert UnrolledArchitecture.from_json(SMALL.to_json()) == SMALL
    assert FAMILIES["unrolled"].infer(built.state_dict()) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rounds": 0}, "rounds"),
        ({"channels": [8]}, "channels"),
        ({"channels": [8, 100_000]}, "channels"),
        ({"coils": 1}, "coils"),
        ({"depth": 3}, "depth"),
    ],
)
def test_impossible_architectures_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        UnrolledArchitecture.from_json(SMALL.to_json() | change)


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.tuples(st.integers(2, 9), st.integers(0, 50)), min_size=1, max_size=4),
    st.sampled_from([(48, 40), (47, 41), (50, 37)]),
)
def test_an_image_does_not_depend_on_its_batch(mix, shape):
    model = UnrolledReconstructor(INFO, network(), "cpu", "float32")
    frames = [frame(coils, *shape, seed=seed) for coils, seed in mix]
    together = magnitudes(model.reconstruct(pack(*frames)))
    for image, one in zip(together, frames, strict=True):
        alone = magnitudes(model.reconstruct(pack(one)))[0]
        assert (image - alone).abs().max() <= 1e-5 * alone.abs().max()


def test_frames_solved_in_one_go_are_the_same(monkeypatch):
    """As on a GPU, where the frames of a batch are not taken apart."""
    from recond_models import per_frame

    model = UnrolledReconstructor(INFO, network(), "cpu", "float32")
    batch = pack(frame(3, seed=1), frame(5, seed=2), frame(9, seed=3))
    apart = magnitudes(model.reconstruct(batch))
    monkeypatch.setattr(per_frame, "split", lambda whole: [whole])
    together = magnitudes(model.reconstruct(batch))
    assert (together - apart).abs().max() <= 1e-5 * apart.abs().max()


@pytest.mark.parametrize("exponent", [-40, 30])
def test_images_scale_with_the_samples(exponent):
    model = UnrolledReconstructor(INFO, network(), "cpu", "float32")
    kspace, mask, block = frame()
    factor = np.float32(2.0**exponent)
    image = magnitudes(model.reconstruct(pack((kspace, mask, block))))
    scaled = magnitudes(model.reconstruct(pack((kspace * factor, mask, block * factor))))
    torch.testing.assert_close(scaled / factor, image, rtol=1e-5, atol=0)


def test_half_precision_is_near():
    batch = pack(frame())
    exact = magnitudes(UnrolledReconstructor(INFO, network(), "cpu", "float32").reconstruct(batch))
    half = magnitudes(UnrolledReconstructor(INFO, network(), "cpu", "bfloat16").reconstruct(batch))
    assert 0 < (half - exact).abs().max() < 0.05 * exact.max()


def test_zeros_stay_zeros():
    kspace, mask, block = frame()
    result = UnrolledReconstructor(INFO, network(), "cpu", "float32").reconstruct(
        pack((kspace * 0, mask, block * 0), (kspace, mask, block))
    )
    assert torch.isfinite(magnitudes(result)).all()
    assert not magnitudes(result)[0].any()
    assert magnitudes(result)[1].any()


def test_no_calibration_is_refused():
    kspace, mask, _ = frame()
    with pytest.raises(UnsuitableModelError, match="calibration"):
        UnrolledReconstructor(INFO, network(), "cpu", "float32").reconstruct(pack((kspace, mask, None)))


def test_fewer_rounds_are_the_first_rounds():
    made = network()
    data = torch.randn(1, 16, 12, dtype=torch.complex64)
    arguments = (data, lambda images: 0.5 * images, torch.tensor([0.01]), torch.tensor([0.5]))
    with torch.inference_mode():
        all_rounds = made(*arguments).images
        first, proposals, _ = made(*arguments, rounds=1)
    assert len(all_rounds) == 2
    assert len(first) == len(proposals) == 1
    assert torch.equal(first[0], all_rounds[0])


def test_added_parts_are_in_an_architecture_only_where_they_are_used():
    assert not {"context", "trust", "resolution", "calibrated_noise", "spectral", "recycle", "deviation"} & set(
        SMALL.to_json()
    )
    added = dataclasses.replace(
        SMALL, context=24, trust=True, resolution=True, calibrated_noise=True, spectral=True, recycle=True, deviation=8
    )
    assert UnrolledArchitecture.from_json(added.to_json()) == added
    for info in registry.available():
        if info.name.startswith("unrolled-brain"):
            loading.load(info.name)


@pytest.mark.parametrize(
    "change",
    [
        {"context": 24},
        {"trust": True},
        {"resolution": True},
        {"calibrated_noise": True},
        {"spectral": True},
        {"recycle": True},
        {"deviation": 8},
    ],
)
def test_added_parts_reconstruct_alone_as_in_a_batch(change):
    sizes = dataclasses.replace(SMALL, **change)
    model = UnrolledReconstructor(INFO, network(architecture=sizes), "cpu", "float32")
    frames = [frame(seed=1), frame(coils=6, seed=2)]
    together = model.reconstruct(pack(*frames)).images
    for number, one in enumerate(frames):
        alone = model.reconstruct(pack(one)).images[0]
        torch.testing.assert_close(together[number], alone, rtol=1e-4, atol=1e-5 * float(alone.abs().max()))


def test_deviations_come_where_they_are_wanted_and_known_alone_as_in_a_batch():
    sizes = dataclasses.replace(SMALL, deviation=8)
    model = UnrolledReconstructor(INFO, network(architecture=sizes), "cpu", "float32")
    frames = [frame(seed=1), frame(coils=6, seed=2)]
    columns = [list(part) for part in zip(*frames, strict=True)]
    together = model.reconstruct(PackedBatch.pack(*columns, deviations=True))
    plain = model.reconstruct(pack(*frames))
    assert plain.deviations is None
    assert torch.equal(plain.images, together.images)
    assert together.deviations.shape == together.images.shape
    assert bool((together.deviations[together.images != 0] > 0).all())
    alone = model.reconstruct(PackedBatch.pack(*([one] for one in frames[1]), deviations=True)).deviations[0]
    torch.testing.assert_close(together.deviations[1], alone, rtol=1e-3, atol=1e-4 * float(alone.max()))
    silent = UnrolledReconstructor(INFO, network(), "cpu", "float32")
    assert silent.reconstruct(PackedBatch.pack(*columns, deviations=True)).deviations is None


def test_deviations_scale_with_the_samples():
    sizes = dataclasses.replace(SMALL, deviation=8)
    model = UnrolledReconstructor(INFO, network(architecture=sizes), "cpu", "float32")
    kspace, mask, calibration = frame()
    finishing = Finishing((40, 36))
    shown = []
    for factor in (1.0, 2.0**40):
        batch = PackedBatch.pack(
            [kspace * np.float32(factor)], [mask], [calibration * np.float32(factor)], deviations=True
        )
        (finished,) = finish_deviations(model.reconstruct(batch), [finishing])
        assert finished.shape == (40, 36)
        shown.append(finished / factor)
    torch.testing.assert_close(*shown)


def test_models_without_deviations_are_refused_by_name():
    known = dataclasses.replace(INFO, name="knows", has_deviation=True)
    with pytest.raises(NoDeviationError, match=r"cg-sense does not predict .* choose knows"):
        check_deviation(INFO, [INFO, known])
    check_deviation(known, [known])
    with pytest.raises(NoDeviationError, match="no model here"):
        check_deviation(INFO, [INFO])
