"""Frames that are withdrawn while their batch is computed: they stop within a cascade or iteration, the others go on."""

import itertools

import pytest
import torch
from network_builders import INFO, frame_of, packed, unet, varnet

from recond_kernels.interruption import Interrupted, watching
from recond_models import loading, per_frame
from recond_models.contract import Contract
from recond_models.finishing import magnitudes
from recond_models.networks import cascades
from recond_models.networks.unet_reconstructor import UnetReconstructor
from recond_models.networks.unrolled import UnrolledArchitecture, UnrolledNetwork
from recond_models.networks.unrolled_reconstructor import UnrolledReconstructor
from recond_models.networks.varnet_reconstructor import VarNetReconstructor
from recond_models.store import golden

CASCADES = 6


def unrolled() -> UnrolledReconstructor:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UnrolledNetwork(UnrolledArchitecture(CASCADES, (4, 8), 1, 2, 2, 16, 4)).eval()
    return UnrolledReconstructor(INFO, network.requires_grad_(requires_grad=False), "cpu", "float32")


@pytest.fixture
def model(request):
    makers = {
        "varnet": lambda: VarNetReconstructor(INFO, varnet(CASCADES), compiled=False),
        "unet": lambda: UnetReconstructor(INFO, unet(), compiled=False),
        "unrolled": unrolled,
    }
    return makers[request.param]() if request.param in makers else loading.load(request.param)


@pytest.fixture
def batch():
    return golden.make_input(Contract())


@pytest.mark.parametrize("model", ["varnet", "unet", "unrolled", "cg-sense", "l1-wavelet", "tv"], indirect=True)
@pytest.mark.parametrize("gone", [0, 1])
def test_the_others_of_a_batch_keep_their_images(model, batch, gone):
    whole = model.reconstruct(batch)
    with watching(lambda frame: frame == gone, 2):
        rest = model.reconstruct(batch)
    torch.testing.assert_close(magnitudes(rest)[1 - gone], magnitudes(whole)[1 - gone], rtol=0, atol=0)
    assert not magnitudes(rest)[gone].any()
    if whole.residuals is not None:
        assert rest.residuals[1 - gone] == whole.residuals[1 - gone]
        assert rest.residuals[gone].isnan()
    if whole.notes:
        assert rest.notes[1 - gone] == whole.notes[1 - gone]


@pytest.mark.parametrize("model", ["varnet", "unet", "unrolled", "cg-sense", "l1-wavelet", "tv"], indirect=True)
def test_of_a_batch_that_nobody_waits_for_there_is_no_image(model, batch):
    with pytest.raises(Interrupted), watching(lambda _: True, 2):
        model.reconstruct(batch)


@pytest.mark.parametrize("seen", [1, 3])
def test_a_variational_network_stops_before_the_next_cascade(monkeypatch, seen):
    model = VarNetReconstructor(INFO, varnet(CASCADES), compiled=False)
    batch = packed([frame_of(3, 48, 40, torch.Generator().manual_seed(1))])
    computed = []
    apply = cascades.apply

    def counted(engine, images):
        computed.append(engine)
        return apply(engine, images)

    monkeypatch.setattr(cascades, "apply", counted)
    # Three networks for the sensitivities of three coils, then the cascades; the scan is called off within cascade `seen`.
    with pytest.raises(Interrupted), watching(lambda _: len(computed) >= 3 + seen, 1):
        model.reconstruct(batch)
    assert len(computed) == 3 + seen


@pytest.mark.parametrize("seen", [1, 3])
def test_an_unrolled_network_stops_before_the_next_round(monkeypatch, seen, batch):
    model = unrolled()
    one = per_frame.split(batch)[0]
    rounds = itertools.count(1)
    made = [0]
    model.network.regulariser.register_forward_hook(lambda *_: made.append(next(rounds)))
    with pytest.raises(Interrupted), watching(lambda _: made[-1] >= seen, 1):
        model.reconstruct(one)
    assert made[-1] == seen


def test_a_frame_stops_alone_in_its_thread(batch, monkeypatch):
    """Of two frames side by side one is withdrawn in its tenth step; the other makes all of its own."""
    model = loading.load("l1-wavelet")
    whole = model.reconstruct(batch)
    looks = {0: 0, 1: 0}

    def withdrawn(frame: int) -> bool:
        looks[frame] += 1
        return frame == 0 and looks[0] >= 10

    with watching(withdrawn, 2):
        rest = model.reconstruct(batch)
    assert looks[0] == 10
    assert looks[1] > 20
    torch.testing.assert_close(magnitudes(rest)[1], magnitudes(whole)[1], rtol=0, atol=0)
