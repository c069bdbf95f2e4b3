"""Confidence of heads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from recond_models.training.heads.calibration import calibrate
from recond_models.training.heads.samples import Sample


@pytest.mark.parametrize("sharpness", [0.8, 1.0, 2.0])
def test_the_temperature_undoes_too_much_confidence(sharpness: float) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 1.5, (4, 5, 32, 32)).astype(np.float32)
    shares = torch.softmax(torch.from_numpy(logits[:, :3]), dim=1).numpy()
    # The target is drawn from the probabilities: as they are, they are right.
    drawn = (generator.random((4, 1, 32, 32)) > np.cumsum(shares, axis=1)).sum(axis=1).clip(max=2).astype(np.uint8)

    def network(images: Tensor) -> Tensor:
        return sharpness * images[:, :3]

    temperature, before, after = calibrate(
        network, [Sample(image, target) for image, target in zip(logits, drawn, strict=True)]
    )

    assert temperature == pytest.approx(sharpness, rel=0.15)
    assert after < 0.06
    assert after <= before + 0.01
