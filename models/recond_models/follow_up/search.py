"""The search for the rigid transform that maximises mutual information."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from recond_models.follow_up.errors import RegistrationFailedError, RegistrationUnavailableError
from recond_models.follow_up.views import View
from recond_models.heads.measurements import Grid

if TYPE_CHECKING:
    import SimpleITK

_FLIP: Final = np.diag([-1.0, -1.0, 1.0, 1.0])
_BINS: Final = 32
_SEED: Final = 20
_SAMPLES: Final = 60_000
_ANGLES: Final = (-40, -20, 20, 40)
_BEST: Final = 4
_LEAST_OVERLAP: Final = 0.5
_STRIPPED: Final = 0.7
_LEVER_MM: Final = 30.0
"""A turn by a radian counts as a shift by so much. ITK's own estimates from voxel shifts made the search stop half way."""

Matrix = NDArray[np.float64]


def start(fixed: View, moving: View, threads: int) -> Matrix:
    """Return a first transform: the best of many places and angles, each of the best few followed for some steps.

    Parameters
    ----------
    fixed, moving
        On coarse grids.
    threads
        Of SimpleITK.

    Returns
    -------
    ndarray
        (4, 4): positions in the fixed scan to positions in the moving one, RAS+ mm.

    Raises
    ------
    RegistrationFailedError
        The scans hardly overlap from any start.
    RegistrationUnavailableError
        SimpleITK is not installed.
    """
    centre = _centroid(fixed.head & fixed.foreground, fixed.grid)
    turns = [np.eye(3)]
    turns += [Rotation.from_euler(axis, angle, degrees=True).as_matrix() for axis in "xyz" for angle in _ANGLES]
    candidates = [_about(centre, turn, shift) for shift in _shifts(fixed, moving) for turn in turns]
    candidates = [one for one in candidates if overlap(fixed, moving, one) >= _LEAST_OVERLAP]
    if not candidates:
        raise RegistrationFailedError(
            "the current scan does not overlap with the prior one from any start: check that both show the same part of the body"
        )
    method = _Method(fixed, moving, threads)
    values = np.array([method.value(one) for one in candidates])
    followed = [method.descend(candidates[index], 4.0, 0.1, 100) for index in np.argsort(values)[:_BEST]]
    inside = [one for one in followed if overlap(fixed, moving, one[0]) >= _LEAST_OVERLAP]
    if not inside:
        raise RegistrationFailedError(
            "the scans drift apart while they are registered: check that both show the same part"
        )
    return min(inside, key=lambda one: one[1])[0]


def refine(fixed: View, moving: View, found: Matrix, threads: int) -> Matrix:
    """Return a transform (4, 4) improved on a finer grid."""
    return _Method(fixed, moving, threads).descend(found, 1.0, 0.005, 100)[0]


def overlap(fixed: View, moving: View, matrix: Matrix) -> float:
    """Return which share of the smaller head lies inside the other, 0 to 1."""
    index = np.linalg.inv(moving.grid.affine) @ matrix @ fixed.grid.affine
    inside = ndimage.affine_transform(
        moving.foreground.astype(np.float32), index[:3, :3], index[:3, 3], fixed.foreground.shape, order=1
    )
    here = fixed.foreground & fixed.head
    # The voxels of the two grids differ in size: volumes are compared in mL.
    other = (moving.foreground & moving.head).sum() * moving.grid.voxel_ml
    smaller = min(here.sum() * fixed.grid.voxel_ml, other)
    both = float((inside[fixed.foreground] >= 0.5).sum()) * fixed.grid.voxel_ml
    return min(1.0, both / smaller) if smaller > 0 else 0.0


def _shifts(fixed: View, moving: View) -> list[NDArray[np.float64]]:
    """Return translations to start from: as the scanner says, by the fields of view, by the heads, and by all that has signal."""
    middles = [view.grid.positions((np.array([view.values.shape]) - 1) / 2)[0] for view in (fixed, moving)]
    heads = [_centroid(view.head & view.foreground, view.grid) for view in (fixed, moving)]
    signal = [_centroid(view.foreground, view.grid) for view in (fixed, moving)]
    found = [np.zeros(3), middles[1] - middles[0], heads[1] - heads[0], signal[1] - signal[0]]
    return [one for index, one in enumerate(found) if all(np.linalg.norm(one - other) > 1 for other in found[:index])]


def _centroid(mask: NDArray[np.bool_], grid: Grid) -> NDArray[np.float64]:
    """Return the mean position of a mask, RAS+ mm."""
    return np.asarray(grid.positions(np.argwhere(mask).mean(axis=0)[None])[0])


def _about(centre: NDArray[np.float64], turn: NDArray[np.float64], shift: NDArray[np.float64]) -> Matrix:
    """Return a rotation about a centre followed by a translation, (4, 4)."""
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = centre + shift - turn @ centre
    return matrix


class _Method:
    """Mutual information of two views, and the way down from a start."""

    def __init__(self, fixed: View, moving: View, threads: int) -> None:
        try:
            import SimpleITK  # noqa: PLC0415 - optional, and takes a while
        except ImportError as error:
            raise RegistrationUnavailableError(
                "registration needs SimpleITK: pip install 'recond[follow-up]'"
            ) from error
        self._sitk: Any = SimpleITK
        self._fixed = self._image(fixed.values, fixed.grid)
        self._moving = self._image(moving.values, moving.grid)
        self._centre = _FLIP[:3, :3] @ _centroid(fixed.head & fixed.foreground, fixed.grid)
        where = fixed.head if fixed.brain is None else fixed.brain
        method = SimpleITK.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(_BINS)
        method.SetInterpolator(SimpleITK.sitkLinear)
        method.SetMetricFixedMask(self._image(where.astype(np.uint8), fixed.grid))
        if moving.brain is not None and fixed.brain is not None:
            method.SetMetricMovingMask(self._image(moving.brain.astype(np.uint8), moving.grid))
        elif _volume(moving) < _STRIPPED * _volume(fixed):  # without its skull: what lies beside it says nothing
            method.SetMetricMovingMask(self._image(moving.head.astype(np.uint8), moving.grid))
        # ITK shifts random samples off the voxels, also if it takes all: on them, noise favours angles at which grids coincide.
        method.SetMetricSamplingStrategy(SimpleITK.ImageRegistrationMethod.RANDOM)
        method.SetMetricSamplingPercentage(min(1.0, _SAMPLES / max(1, int(where.sum()))), _SEED)
        method.SetNumberOfThreads(threads)
        self._method: Any = method

    def value(self, matrix: Matrix) -> float:
        """Return the negative mutual information at a transform; infinite where the scans do not overlap."""
        self._method.SetInitialTransform(self._transform(matrix), inPlace=False)
        try:
            return float(self._method.MetricEvaluate(self._fixed, self._moving))
        except RuntimeError:  # ITK: all samples map outside the moving image
            return float("inf")

    def descend(self, matrix: Matrix, step: float, smallest: float, steps: int) -> tuple[Matrix, float]:
        """Return where regular-step gradient descent ends, and the negative mutual information there.

        Parameters
        ----------
        matrix
            Where to start.
        step, smallest
            First and last step, mm.
        steps
            At most so many.
        """
        self._method.SetInitialTransform(self._transform(matrix), inPlace=False)
        self._method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=step, minStep=smallest, numberOfIterations=steps, relaxationFactor=0.8
        )
        self._method.SetOptimizerScales([_LEVER_MM**2] * 3 + [1.0] * 3)
        try:
            result = self._method.Execute(self._fixed, self._moving)
        except RuntimeError:
            return matrix, float("inf")
        found = np.eye(4)
        origin = np.array(result.TransformPoint((0.0, 0.0, 0.0)))
        for axis, unit in enumerate(np.eye(3)):
            found[:3, axis] = np.array(result.TransformPoint(tuple(unit))) - origin
        found[:3, 3] = origin
        return _FLIP @ found @ _FLIP, float(self._method.GetMetricValue())

    def _transform(self, matrix: Matrix) -> SimpleITK.Euler3DTransform:
        """Return a rigid transform in ITK's coordinates (LPS) about the middle of the head."""
        flipped = _FLIP @ matrix @ _FLIP
        transform = self._sitk.Euler3DTransform()
        transform.SetCenter(tuple(self._centre))
        transform.SetMatrix(tuple(flipped[:3, :3].ravel()), 1e-6)
        moved = flipped[:3, :3] @ self._centre + flipped[:3, 3]
        transform.SetTranslation(tuple(moved - self._centre))
        return transform

    def _image(self, values: NDArray[Any], grid: Grid) -> SimpleITK.Image:
        """Return a volume with its place, which ITK has in LPS and in the order (column, row, slice)."""
        image = self._sitk.GetImageFromArray(np.ascontiguousarray(values))
        affine = _FLIP @ grid.affine
        axes = affine[:3, [2, 1, 0]]
        spacing = np.linalg.norm(axes, axis=0)
        image.SetSpacing(tuple(spacing))
        image.SetDirection(tuple((axes / spacing).ravel()))
        image.SetOrigin(tuple(affine[:3, 3]))
        return image


def _volume(view: View) -> float:
    """Return the volume of a head without its neck, mL."""
    return float((view.foreground & view.head).sum()) * view.grid.voxel_ml
