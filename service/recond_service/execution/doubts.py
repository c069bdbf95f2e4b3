"""What is done about images that a model doubts itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from recond_models.batch import Reconstruction
from recond_models.note import Note


def trusted(result: Reconstruction, guarded: Sequence[bool]) -> Reconstruction:
    """Answer doubtful frames by the classical image where that is wanted or the other cannot be shown; warn of the rest.

    Parameters
    ----------
    result
        What a model made of a batch.
    guarded
        For each frame whether the classical image is wanted where there is doubt.

    Returns
    -------
    Reconstruction
        Without doubts, with a note on every frame that had one.
    """
    if not any(result.doubts) or not isinstance(result.images, torch.Tensor):
        return result
    images = list(result.images)
    residuals = None if result.residuals is None else result.residuals.clone()
    deviations = None if result.deviations is None else result.deviations.clone()
    notes = list(result.notes or ((),) * len(images))
    for frame, doubt in enumerate(result.doubts):
        if doubt is None:
            continue
        note = doubt.note
        if guarded[frame] or doubt.certain:
            images[frame] = doubt.image
            if deviations is not None:
                deviations[frame] = torch.nan  # the network's are not those of the other image
            if residuals is not None and doubt.residual is not None:
                residuals[frame] = doubt.residual
            note = Note(note.code, f"{note.message}; the image is that of {doubt.method} instead.")
        else:
            note = Note(note.code, f"{note.message}; look at the image with care, or name the model {doubt.method}.")
        notes[frame] = (*notes[frame], note)
    return replace(
        result, images=torch.stack(images), residuals=residuals, notes=tuple(notes), deviations=deviations, doubts=()
    )
