"""A head on slices of a volume: labels, confidence and sums, and no dependence on how a volume is cut."""

import numpy as np
import pytest
import torch
from head_packages import brightness_network, lesion_contract, tissue_contract

from recond_models.heads.framing import Framing, frame
from recond_models.heads.head import Head, options_of
from recond_models.model import ModelInfo


def head(contract, **options) -> Head:
    info = ModelInfo("bright", "1", "", "head", "", needs_calibration=False, fits_samples=False, head=contract)
    return Head(info, brightness_network(contract.outputs), "cpu", **options)


def volume(slices: int = 9) -> np.ndarray:
    """Return a bright cube with a brighter one in it."""
    values = np.zeros((slices, 48, 40), np.float32)
    values[:, 8:40, 8:32] = 500
    values[:, 16:24, 16:24] = 1000
    return values


def test_pixels_get_the_class_of_their_brightness():
    values = volume()
    framing = frame(values, (3.0, 1.0, 1.0))
    labelled = head(tissue_contract()).label(torch.from_numpy(values), framing)
    middle = values[2:-2]
    x = middle / framing.scale
    assert np.array_equal(labelled.labels.numpy(), np.where(x > 0.9, 2, np.where(x > 0.3, 1, 0)))
    counts = np.stack([(labelled.labels.numpy() == value).sum(axis=(1, 2)) for value in range(3)], axis=1)
    assert np.allclose(labelled.sums[:, :, 0].numpy(), counts, atol=2)
    assert labelled.confidence.min() > 245


def test_a_volume_cut_into_blocks_is_labelled_alike():
    values = volume(12)
    framing = frame(values, (3.0, 1.3, 0.8))
    network = head(tissue_contract())
    whole = network.label(torch.from_numpy(values), framing)
    parts = [network.label(torch.from_numpy(values[first : first + 6]), framing) for first in (0, 2, 4, 6)]
    assert torch.equal(torch.cat([part.labels for part in parts]), whole.labels)
    assert torch.allclose(torch.cat([part.sums for part in parts]), whole.sums, rtol=1e-5, atol=1e-2)


def test_lesions_are_labelled_where_they_are_more_probable_than_not():
    values = volume()
    framing = frame(values, (3.0, 1.0, 1.0))
    labelled = head(lesion_contract()).label(torch.from_numpy(values), framing)
    assert np.array_equal(labelled.labels.numpy() == 1, values[2:-2] / framing.scale > 0.3)
    assert labelled.confidence[:, 0, 0].max() == 0


def test_what_is_beyond_the_crop_is_background():
    values = np.zeros((7, 200, 200), np.float32)
    values[:, 80:120, 80:120] = 1
    framing = frame(values, (2.0, 1.0, 1.0))
    assert max(framing.seen) < 200
    labels = head(tissue_contract()).label(torch.from_numpy(values), framing).labels
    assert labels.shape == (3, 200, 200)
    assert not labels[:, :40].any()


def test_too_few_slices_and_a_network_of_other_classes_are_refused():
    framing = Framing((32, 32), (32, 32), (0, 0), (32, 32), 1.0)
    with pytest.raises(ValueError, match="5 slices"):
        head(tissue_contract()).label(torch.zeros(4, 32, 32), framing)
    with pytest.raises(ValueError, match="labels pixels"):
        head(tissue_contract()).classify(torch.zeros(5, 32, 32), framing)
    info = ModelInfo("x", "1", "", "head", "", needs_calibration=False, fits_samples=False, head=tissue_contract())
    with pytest.raises(ValueError, match="classes"):
        Head(info, brightness_network(5), "cpu")


def test_a_merged_head_adds_probabilities():
    values = volume()
    framing = frame(values, (3.0, 1.0, 1.0))
    info = ModelInfo("x", "1", "", "head", "", needs_calibration=False, fits_samples=False, head=lesion_contract())
    merged = Head(info, brightness_network(3), "cpu", merged=(0, 1, 1))
    labels = merged.label(torch.from_numpy(values), framing).labels.numpy()
    assert np.array_equal(labels, values[2:-2] / framing.scale > 0.3)


@pytest.mark.parametrize("given", [{"merged": [0, "a"]}, {"merged": 3}, {"temperature": 0.0}, {"temperature": 1e9}])
def test_impossible_options_are_refused(given):
    with pytest.raises(ValueError, match=r"merged|temperature"):
        options_of(given)


def test_a_head_that_labels_pixels_explains_nothing():
    values = volume()
    with pytest.raises(ValueError, match="no attention map"):
        head(tissue_contract()).explain(torch.from_numpy(values), frame(values, (3.0, 1.0, 1.0)))
