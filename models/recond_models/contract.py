"""What data a trained model was made for."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Final, get_args

from recond_models.sampling import Pattern, Sampling

Range = tuple[float, float]

_SIZES: Final = ("coils", "rows", "columns")


@dataclass(frozen=True, slots=True)
class Contract:
    """What data a trained model was made for; None and empty where that was not stated.

    Parameters
    ----------
    patterns
        Kinds of sampling, as `Sampling.pattern`.
    acceleration
        (least, most) grid points per measured point.
    coils
        (fewest, most) receive coils.
    rows, columns
        (smallest, largest) k-space: readout, phase encode.
    calibration
        Fewest (rows, columns) of calibration data around the centre of k-space.
    requires_calibration
        It cannot compute without `calibration`, because it estimates coil sensitivities from it, which also takes two coils.
    anatomy, contrast
        What the training data showed, in words; a sampling does not tell these, so nothing checks them.
    required
        Of ``"coils"``, ``"rows"`` and ``"columns"``, those beyond whose range it cannot compute.

    Raises
    ------
    ValueError
        A pattern is unknown, or a range is empty, not positive, or required and not stated.
    """

    patterns: tuple[Pattern, ...] = ()
    acceleration: Range | None = None
    coils: Range | None = None
    rows: Range | None = None
    columns: Range | None = None
    calibration: tuple[int, int] = (0, 0)
    requires_calibration: bool = False
    anatomy: str = ""
    contrast: str = ""
    required: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for pattern in self.patterns:
            if pattern not in get_args(Pattern):
                raise ValueError(
                    f"unknown sampling pattern {pattern!r}, expected some of {', '.join(get_args(Pattern))}"
                )
        for name in ("acceleration", "coils", "rows", "columns"):
            limits = getattr(self, name)
            if limits is not None and not (0 < limits[0] <= limits[1] < float("inf")):
                raise ValueError(f"{name} is {limits}; it must be (least, most), both finite and more than 0")
        for name in self.required:
            if name not in _SIZES or getattr(self, name) is None:
                raise ValueError(f"{name!r} cannot be required: it must be one of {', '.join(_SIZES)}, with a range")
        if min(self.calibration) < 0:
            raise ValueError(f"calibration is {self.calibration}; it cannot be negative")

    def problems(self, sampling: Sampling) -> list[str]:
        """Return in what the data leave the contract.

        Parameters
        ----------
        sampling
            How the data were sampled.

        Returns
        -------
        list of str
            One clause each, without a full stop; empty for data that the model was made for.
        """
        found = []
        if self.patterns and sampling.pattern not in self.patterns:
            found.append(f"the sampling is {sampling.pattern}, it is made for {_listed(self.patterns)}")
        for what, value, limits in (
            ("acceleration is", sampling.acceleration, self.acceleration),
            ("number of coils is", sampling.coils, self.coils),
            ("number of rows is", sampling.rows, self.rows),
            ("number of columns is", sampling.columns, self.columns),
        ):
            # A tenth of a percent: accelerations are quotients of counts.
            if limits is not None and not limits[0] * 0.999 <= value <= limits[1] * 1.001:
                found.append(f"the {what} {value:.4g}, it is made for {limits[0]:g} to {limits[1]:g}")
        lacking = self.lacks_calibration(sampling)
        if lacking:
            found.append(lacking)
        return found

    def impossible(self, sampling: Sampling) -> list[str]:
        """Return why it cannot compute on data of this size, one clause each; empty if it can."""
        return [
            f"the number of {name} is {getattr(sampling, name)}, it takes {_shown(getattr(self, name))}"
            for name in self.required
            if not getattr(self, name)[0] <= getattr(sampling, name) <= getattr(self, name)[1]
        ]

    def lacks_calibration(self, sampling: Sampling) -> str:
        """Return what is missing to estimate coil sensitivities, as a clause; empty if nothing is."""
        if self.requires_calibration and sampling.coils < 2:
            return "there is a single coil"
        rows, columns = sampling.calibration
        if rows >= self.calibration[0] and columns >= self.calibration[1]:
            return ""
        wanted = f"{self.calibration[0]} x {self.calibration[1]}"
        if min(rows, columns) == 0:
            return f"there is no calibration region, it is made for {wanted} or more"
        return f"the calibration region is {rows} x {columns}, it is made for {wanted} or more"

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary of plain values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, data: object) -> Contract:
        """Return what `to_json` described.

        Raises
        ------
        ValueError
            Fields are missing, unknown or of another type, or the contract cannot be.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(data, dict) or not names - {"required"} <= set(data) <= names:
            raise ValueError(f"a contract has exactly the fields {', '.join(sorted(names))}, got {data!r}")
        try:
            calibration_rows, calibration_columns = data["calibration"]
            return cls(
                patterns=tuple(data["patterns"]),
                acceleration=_range(data["acceleration"]),
                coils=_range(data["coils"]),
                rows=_range(data["rows"]),
                columns=_range(data["columns"]),
                calibration=(int(calibration_rows), int(calibration_columns)),
                requires_calibration=_of_type(data["requires_calibration"], bool),
                anatomy=_of_type(data["anatomy"], str),
                contrast=_of_type(data["contrast"], str),
                required=tuple(data.get("required", ())),  # manifests of earlier versions have none
            )
        except TypeError as error:
            raise ValueError(f"a field of the contract has another type than it should: {error}") from error


def _range(value: object) -> Range | None:
    """Return (least, most) for a JSON list of two numbers, None for null; raise TypeError for anything else."""
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2:
        raise TypeError(f"{value!r} is no range [least, most]")
    least, most = value
    return float(least), float(most)


def _of_type(value: Any, kind: type) -> Any:  # noqa: ANN401 - returned unchanged
    """Return the value if it is of that type."""
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def _shown(limits: Range) -> str:
    """Return a range of whole numbers as a sentence has it."""
    return f"{limits[0]:.0f}" if limits[0] == limits[1] else f"{limits[0]:.0f} to {limits[1]:.0f}"


def _listed(names: tuple[str, ...]) -> str:
    """Return names as a sentence has them: ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
