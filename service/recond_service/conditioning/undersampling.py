"""Retrospective undersampling: the full data become the reference, part of them the input."""

from __future__ import annotations

import numpy as np

from recond_models.masks import Kind, mask_for
from recond_service.conditioning.reference_image import reference_image
from recond_service.conditioning.sampling import calibration_extent
from recond_service.types import Frame, InvalidInputError, Undersampling, UndersamplingKind

_KINDS: dict[UndersamplingKind, Kind] = {
    UndersamplingKind.RANDOM: "random",
    UndersamplingKind.EQUISPACED: "equispaced",
    UndersamplingKind.EQUISPACED_FRACTION: "equispaced_fraction",
}


def undersample(frame: Frame, undersampling: Undersampling, name: str) -> Frame:
    """Return a frame with part of the samples, and the finished root-sum-of-squares image of all of them as its reference.

    Parameters
    ----------
    frame
        Fully sampled; zero padding at both edges is allowed, and stays unmeasured. Its k-space is overwritten.
    undersampling
        Which lines to keep.
    name
        File name that seeds the mask, as in fastMRI, so that all slices of a file share one.

    Raises
    ------
    InvalidInputError
        If the frame is not fully sampled, or the mask that is wanted cannot be.
    """
    rows, columns = frame.mask.shape
    measured = frame.mask.any(axis=0)
    width = frame.calibration_extent[1]
    if frame.calibration_extent[0] != rows or int(measured.sum()) > width + 1:
        raise InvalidInputError(
            f"Undersampling was asked for, but slice {frame.index.slice} is not fully sampled ({int(frame.mask.sum())} of "
            f"{rows * columns} samples, {width} columns without a gap): send full data, or leave the undersampling out.",
            reason="NOT_FULLY_SAMPLED",
            field="spec.undersampling",
        )
    try:
        lines = mask_for(
            _KINDS[undersampling.kind],
            columns,
            undersampling.acceleration,
            undersampling.center_fraction,
            name or "kspace",
        )
    except ValueError as error:
        raise InvalidInputError(
            f"The undersampling cannot be: {error}.", reason="UNDERSAMPLING", field="spec.undersampling"
        ) from error
    reference = reference_image(frame)
    frame.mask = frame.mask & lines
    frame.kspace = np.where(frame.mask, frame.kspace, np.complex64(0))
    frame.calibration_extent = calibration_extent(frame.mask)
    frame.calibration = None
    frame.reference = reference
    frame.reference_source = "undersampling"
    if not frame.mask.any():
        raise InvalidInputError("The undersampling leaves no line.", reason="UNDERSAMPLING", field="spec.undersampling")
    return frame
