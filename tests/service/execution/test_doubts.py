"""What becomes of images that a model doubts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from recond_models.batch import Doubt, Reconstruction
from recond_models.note import Note
from recond_service.execution.doubts import trusted

NOTE = Note("network-contradicted", "net is contradicted")
MADE = torch.ones(2, 3, 4, dtype=torch.complex64)
RESIDUALS = torch.tensor([0.1, 0.2], dtype=torch.float64)


def doubtful(*, certain: bool = False) -> Reconstruction:
    doubt = Doubt(NOTE, torch.full((3, 4), 5, dtype=torch.complex64), "tv", certain=certain, residual=0.7)
    return Reconstruction(MADE, RESIDUALS, ((Note("a", "A."),), ()), doubts=(None, doubt))


@pytest.mark.parametrize(("guarded", "certain"), [(True, False), (False, True)])
def test_the_classical_image_stands_in_its_place_and_says_so(guarded, certain):
    result = trusted(doubtful(certain=certain), [guarded, guarded])
    assert torch.equal(result.images[0], MADE[0])
    assert torch.equal(result.images[1], torch.full((3, 4), 5, dtype=torch.complex64))
    assert result.residuals.tolist() == [0.1, 0.7]
    assert result.notes[0] == (Note("a", "A."),)
    assert result.notes[1] == (Note(NOTE.code, "net is contradicted; the image is that of tv instead."),)
    assert RESIDUALS.tolist() == [0.1, 0.2]


def test_a_named_model_gets_a_warning_only():
    result = trusted(doubtful(), [False, False])
    assert torch.equal(result.images, MADE)
    assert result.residuals.tolist() == [0.1, 0.2]
    assert result.notes[1][0].code == NOTE.code
    assert "name the model tv" in result.notes[1][0].message


def test_without_doubt_nothing_changes():
    result = replace(doubtful(), doubts=())
    assert trusted(result, [True, True]) is result
