"""The mean of the network and a classical method, and what happens when they contradict each other."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from undersampled import batch_of, undersampled

from recond_models import guard, loading, registry
from recond_models.ensemble.model import Ensemble
from recond_models.networks.unrolled_reconstructor import UnrolledReconstructor


@pytest.fixture(scope="module")
def ensemble():
    return loading.load("ensemble")


@pytest.fixture(scope="module")
def network():
    return loading.load("unrolled-brain")


def damaged(network: UnrolledReconstructor, factor: float) -> UnrolledReconstructor:
    """Return the network with other weights."""
    weights = copy.deepcopy(network.network)
    with torch.no_grad():
        for parameter in weights.regulariser.parameters():
            parameter.mul_(factor)
    return UnrolledReconstructor(network.info, weights, "cpu", "float32")


@pytest.mark.parametrize(("points", "partner"), [(False, "tv"), (True, "l1-wavelet")], ids=["lines", "points"])
def test_it_is_the_mean_of_the_network_and_its_partner(ensemble, network, points, partner):
    batch = batch_of(undersampled(points=points))
    result = ensemble.reconstruct(batch)
    members = [model.reconstruct(batch) for model in (network, loading.load(partner))]
    mean = (members[0].images + members[1].images) / 2
    torch.testing.assert_close(result.images, mean, rtol=1e-4, atol=1e-5 * float(mean.abs().max()))
    assert torch.equal(result.scales, members[0].scales)
    assert 0 < float(result.residuals[0]) < 1.5 * max(float(member.residuals[0]) for member in members)
    assert result.doubts == ()


def test_frames_do_not_depend_on_what_they_are_batched_with(ensemble):
    frames = [undersampled(), undersampled(points=True, coils=3), undersampled(coils=5, seed=1)]
    together = ensemble.reconstruct(batch_of(*frames))
    for number, frame in enumerate(frames):
        alone = ensemble.reconstruct(batch_of(frame))
        torch.testing.assert_close(together.images[number], alone.images[0], rtol=1e-4, atol=1e-6)


def test_the_network_is_in_memory_once(network):
    assert loading.load("unrolled-brain") is network
    assert loading.load("ensemble")._network is network


def test_its_entry_follows_the_network():
    info, member = registry.find("ensemble"), registry.find("unrolled-brain")
    assert (info.weights_sha256, info.contract, info.version) == (
        member.weights_sha256,
        member.contract,
        f"1.{member.version}",
    )
    assert "held-out-trial" not in {each.name for each in registry.available()}


def test_a_network_with_damaged_weights_is_contradicted(network):
    batch = batch_of(undersampled(), undersampled(points=True))
    result = Ensemble(registry.find("ensemble"), damaged(network, 2.0)).reconstruct(batch)
    for number, method in enumerate(("tv", "l1-wavelet")):
        doubt = result.doubts[number]
        assert (doubt.note.code, doubt.method) == (guard.CONTRADICTED, method)
        alone = loading.load(method).reconstruct(batch)
        torch.testing.assert_close(doubt.image, alone.images[number], rtol=1e-4, atol=1e-6)
        assert doubt.residual == pytest.approx(float(alone.residuals[number]), rel=1e-3)


@pytest.mark.parametrize("name", ["ensemble", "unrolled-brain"])
def test_a_network_whose_pixels_are_no_numbers_is_answered_by_a_classical_image(network, name):
    broken = damaged(network, float("nan"))
    model = broken if name == "unrolled-brain" else Ensemble(registry.find("ensemble"), broken)
    result = model.reconstruct(batch_of(undersampled()))
    assert bool(torch.isfinite(torch.view_as_real(result.images)).all())
    assert float(result.images.abs().max()) > 0
    (doubt,) = result.doubts
    assert doubt.certain
    assert doubt.note.code == guard.NOT_FINITE
    torch.testing.assert_close(result.images[0], doubt.image)
    assert np.isfinite(float(result.residuals[0]))
