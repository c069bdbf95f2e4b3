"""Why nothing is measured in a label map: one class a remedy."""

from __future__ import annotations


class MeasurementError(ValueError):
    """Base of all errors of measurements; the message says what is wrong and what to do.

    Attributes
    ----------
    reason
        Stable name of what is wrong.
    """

    reason = "MEASUREMENT_REFUSED"


class GridError(MeasurementError):
    """The affine or the spacing cannot be that of a volume: check the geometry of the images."""

    reason = "MEASUREMENT_GRID"


class SpacingUnknownError(MeasurementError):
    """The images do not say how large their voxels are: counts come, millimetres and millilitres do not."""

    reason = "MEASUREMENT_SPACING_UNKNOWN"


class LabelMapError(MeasurementError):
    """The label map, or what was given beside it, has the wrong shape, type or values."""

    reason = "MEASUREMENT_LABEL_MAP"
