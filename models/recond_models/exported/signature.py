"""What an exported program takes and returns: which axis of each tensor is which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch

from recond_models.contract import Contract, Range
from recond_models.exported.arguments import DTYPES
from recond_models.exported.errors import SignatureError
from recond_models.exported.program import Program
from recond_models.exported.sizes import Size
from recond_models.sampling import Pattern

Axis = Literal["batch", "coils", "rows", "columns", "parts", "1"]
"""``parts``: real and imaginary part. ``1``: of length one, for broadcasting."""

_KSPACES: Final[dict[tuple[bool, int], tuple[Axis, ...]]] = {
    (True, 3): ("coils", "rows", "columns"),
    (True, 4): ("batch", "coils", "rows", "columns"),
    (False, 4): ("coils", "rows", "columns", "parts"),
    (False, 5): ("batch", "coils", "rows", "columns", "parts"),
}
_MASK_TYPES: Final = frozenset({torch.bool, torch.uint8, torch.int32, torch.int64, torch.float32, torch.complex64})
_WANTED: Final = (
    "a program takes (k-space, mask) or (k-space, mask, maps) and returns an image, where k-space is complex64 (coils, rows, "
    "columns) or (batch, coils, rows, columns), or float32 with a last axis of 2 behind these"
)


@dataclass(frozen=True, slots=True)
class TensorForm:
    """A tensor that a program takes or returns.

    Parameters
    ----------
    dtype
        Its type.
    axes
        What its axes are.
    """

    dtype: torch.dtype
    axes: tuple[Axis, ...]

    @property
    def is_complex(self) -> bool:
        """Its values have a phase: complex, or real with an axis of parts."""
        return self.dtype.is_complex or "parts" in self.axes

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')} ({', '.join(self.axes)})"


@dataclass(frozen=True, slots=True)
class Signature:
    """What a program takes and returns.

    Parameters
    ----------
    kspace, mask, image
        Two inputs and the output.
    maps
        Coil sensitivities, None if it takes none.
    sizes
        By axis of k-space.
    """

    kspace: TensorForm
    mask: TensorForm
    maps: TensorForm | None
    image: TensorForm
    sizes: dict[Axis, Size]

    @classmethod
    def of(cls, program: Program) -> Signature:
        """Read the signature of a program.

        Raises
        ------
        SignatureError
            It is another; the message says what was found.
        """
        found = [FoundTensor.of(program, name) for name in (*program.inputs, program.output)]
        if len(found) not in {3, 4}:
            raise SignatureError(f"the program takes {_listed(found[:-1])}, but {_WANTED}")
        kspace_found, mask_found, *others = found
        kspace = _kspace(kspace_found)
        sizes = dict(zip(kspace.axes, kspace_found.sizes, strict=True))
        mask = TensorForm(mask_found.dtype, _mask_axes(mask_found, kspace, sizes))
        maps = None
        if len(others) == 2:
            maps = _kspace(others[0])
            _require_sizes(
                others[0], maps.axes, sizes, "coil sensitivities have the coils, rows and columns of the k-space"
            )
        image = TensorForm(others[-1].dtype, _image_axes(others[-1], sizes))
        return cls(kspace, mask, maps, image, {axis: size for axis, size in sizes.items() if axis != "parts"})

    @property
    def takes_lines(self) -> bool:
        """Its mask has no rows: whole lines are measured or not."""
        return "rows" not in self.mask.axes

    @property
    def takes_batches(self) -> bool:
        """Its batch may have several frames."""
        return "batch" in self.sizes and self.sizes["batch"].most > 1

    def contract(self, stated: Contract, calibration: int) -> Contract:
        """Return what was stated about the training, with the sizes that the program takes.

        Parameters
        ----------
        stated
            By whoever adds the model. Coils that it was trained on may be fewer than it takes: others are then only warned of.
        calibration
            Fewest calibration rows and columns from which sensitivities are estimated.
        """
        coils, rows, columns = (self.sizes[axis] for axis in ("coils", "rows", "columns"))
        coils_range = _within(coils, stated.coils)
        needed = (calibration, calibration) if self.maps is not None else (0, 0)
        lines: tuple[Pattern, ...] = ("full", "uniform", "irregular") if self.takes_lines else ()
        return Contract(
            patterns=stated.patterns or lines,
            acceleration=stated.acceleration,
            coils=coils_range,
            rows=(rows.least, rows.most),
            columns=(columns.least, columns.most),
            calibration=needed,
            requires_calibration=self.maps is not None,
            anatomy=stated.anatomy,
            contrast=stated.contrast,
            required=(*(("coils",) if coils_range == (coils.least, coils.most) else ()), "rows", "columns"),
        )

    def problems(self, coils: int, rows: int, columns: int) -> list[str]:
        """Return why the program cannot take a frame, one clause each; empty if it can."""
        values: dict[Axis, int] = {"coils": coils, "rows": rows, "columns": columns}
        clauses = [(axis, value, self.sizes[axis].problem(value)) for axis, value in values.items()]
        return [f"the number of {axis} is {value}, {problem}" for axis, value, problem in clauses if problem]

    def to_json(self) -> dict[str, Any]:
        """Return in words what the program takes and returns."""
        return {
            "kspace": str(self.kspace),
            "mask": str(self.mask),
            "maps": "" if self.maps is None else str(self.maps),
            "image": str(self.image),
            "complex_images": self.image.is_complex,
        }


@dataclass(frozen=True, slots=True)
class FoundTensor:
    """A tensor of the graph: its type and sizes."""

    name: str
    dtype: torch.dtype
    sizes: tuple[Size, ...]

    @classmethod
    def of(cls, program: Program, name: str) -> FoundTensor:
        """Return what a program says of a tensor by its name.

        Raises
        ------
        SignatureError
            It says nothing, or its sizes are no numbers, ranges or multiples of these.
        """
        try:
            meta = program.graph["tensor_values"][name]
            sizes = tuple(Size.read(size, program.constraints) for size in meta["sizes"])
            return cls(name[:40], DTYPES[meta["dtype"]], sizes)
        except (AttributeError, KeyError, TypeError) as error:
            raise SignatureError(f"the program does not say what {name[:40]!r} is: export it again") from error

    def __str__(self) -> str:
        shown = ", ".join(str(size.offset) if not size.factor else f"{size.least}..{size.most}" for size in self.sizes)
        return f"{self.name}: {str(self.dtype).removeprefix('torch.')} ({shown})"


def _kspace(found: FoundTensor) -> TensorForm:
    """Return the form of k-space, or of sensitivities."""
    axes = _KSPACES.get((found.dtype == torch.complex64, len(found.sizes)))
    if (
        axes is None
        or found.dtype not in {torch.complex64, torch.float32}
        or (axes[-1] == "parts" and not _is(found, -1, 2))
    ):
        raise SignatureError(f"the program takes {found}, but {_WANTED}")
    if axes[0] == "batch" and found.sizes[0].least > 1 and not found.sizes[0].factor:
        raise SignatureError(
            f"the program takes {found}, a fixed batch of several frames: export it with a batch of 1, or a dynamic one"
        )
    return TensorForm(found.dtype, axes)


def _mask_axes(found: FoundTensor, kspace: TensorForm, sizes: Mapping[Axis, Size]) -> tuple[Axis, ...]:
    """Return the axes of the mask: those of k-space from the last on, as in broadcasting, or batch, rows and columns."""
    whole = kspace.axes
    without = tuple(axis for axis in whole if axis != "parts")
    candidates = [whole[-len(found.sizes) :], without[-len(found.sizes) :]]
    if len(found.sizes) == 3 and "batch" in sizes:
        candidates.append(("batch", "rows", "columns"))
    for candidate in candidates:
        if len(candidate) == len(found.sizes):
            axes = tuple(_mask_axis(axis, size, sizes) for axis, size in zip(candidate, found.sizes, strict=True))
            if None not in axes and "columns" in axes and found.dtype in _MASK_TYPES:
                return tuple(axis for axis in axes if axis is not None)
    kinds = "bool, integer, float32 or complex64"
    raise SignatureError(
        f"the program takes {found} as its mask, but a mask is {kinds} and has the axes of the k-space ({kspace}) or, for "
        "broadcasting, ones in their place, at least its columns"
    )


def _mask_axis(axis: Axis, size: Size, sizes: Mapping[Axis, Size]) -> Axis | None:
    if axis != "parts" and size.same_as(sizes[axis]):
        return axis
    if axis == "parts" and size.same_as(sizes["parts"]):
        return "parts"
    return "1" if not size.factor and size.offset == 1 else None


def _image_axes(found: FoundTensor, sizes: Mapping[Axis, Size]) -> tuple[Axis, ...]:
    """Return the axes of the image."""
    real = found.dtype in {torch.float32, torch.float16, torch.bfloat16}
    if not real and found.dtype != torch.complex64:
        raise SignatureError(f"the program returns {found}, but an image is complex64 or float32")
    forms: list[tuple[Axis, ...]] = [
        ("rows", "columns"),
        ("1", "rows", "columns"),
        ("batch", "rows", "columns"),
        ("batch", "1", "rows", "columns"),
    ]
    if real:
        forms += [(*form, "parts") for form in forms] + [
            ("batch", "parts", "rows", "columns"),
            ("parts", "rows", "columns"),
        ]
    known = {**sizes, "1": Size(0, 1, "", 1, 1), "parts": Size(0, 2, "", 2, 2)}
    several = "batch" in sizes and sizes["batch"].most > 1
    for form in forms:
        fits = len(form) == len(found.sizes) and all(
            axis in known and size.same_as(known[axis]) for axis, size in zip(form, found.sizes, strict=True)
        )
        if fits and (not several or "batch" in form):
            return form
    rows, columns = (_shown(sizes[axis]) for axis in ("rows", "columns"))
    raise SignatureError(
        f"the program returns {found}, but an image has the {rows} x {columns} pixels of the k-space, with or without axes of "
        "batch and of two parts: return the whole image, without cropping it and without coils"
    )


def _require_sizes(found: FoundTensor, axes: Sequence[Axis], sizes: Mapping[Axis, Size], rule: str) -> None:
    for axis, size in zip(axes, found.sizes, strict=True):
        if axis in sizes and not size.same_as(sizes[axis]):
            raise SignatureError(f"the program takes {found}, but {rule}: {axis} differ")


def _is(found: FoundTensor, axis: int, number: int) -> bool:
    return not found.sizes[axis].factor and found.sizes[axis].offset == number


def _within(size: Size, stated: Range | None) -> Range:
    """Return the range of a size, narrowed by what was stated where both overlap."""
    least, most = float(size.least), float(size.most)
    if stated is not None and stated[0] <= most and least <= stated[1]:
        return max(least, stated[0]), min(most, stated[1])
    return least, most


def _shown(size: Size) -> str:
    return str(size.offset) if not size.factor else f"{size.least}..{size.most}"


def _listed(found: Sequence[FoundTensor]) -> str:
    return "; ".join(map(str, found)) or "nothing"
