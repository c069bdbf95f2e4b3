"""Parameters that a scanner's console may set for a scan: one table for the label of OpenRecon, for docs and for reading them.

OpenRecon sends them in the first TEXT message behind the header: ``{"parameters": {"model": "auto", "lesion": "true"}}``. Values
may come as JSON values or as text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import ValidationError

from recond_gateway.config.pipeline import Pipeline

Kind = Literal["choice", "boolean", "double", "int", "string"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """Something that the console may set.

    Parameters
    ----------
    name
        Its id, letters and digits.
    kind
        As OpenRecon calls its types.
    label, about
        For the user interface of the scanner: a few words, and a sentence.
    default
        What holds if it is not sent.
    choices
        Id and label of each choice.
    smallest, largest, unit
        Of a number.
    """

    name: str
    kind: Kind
    label: str
    about: str
    default: str | float | bool
    choices: tuple[tuple[str, str], ...] = ()
    smallest: float = 0.0
    largest: float = 0.0
    unit: str = ""


PARAMETERS: Final = (
    Parameter(
        "model",
        "choice",
        "Reconstruction",
        "Network or classical method that makes the images.",
        "pipeline",
        (
            ("pipeline", "As configured"),
            ("auto", "Chosen by the service"),
            ("tv", "Total variation"),
            ("l1wavelet", "L1 wavelet"),
            ("cgsense", "CG-SENSE"),
            ("rss", "Zero-filled"),
        ),
    ),
    Parameter("tissue", "boolean", "Brain structures", "Return label maps of brain structures.", default=False),
    Parameter("lesion", "boolean", "Lesions", "Return label maps of lesions.", default=False),
    Parameter(
        "series",
        "boolean",
        "Contrast and artefacts",
        "Say what the series shows, in the comments of the images.",
        default=False,
    ),
    Parameter(
        "uncertainty",
        "boolean",
        "Uncertainty",
        "Return the standard deviation of the error as a series.",
        default=False,
    ),
    Parameter("phase", "boolean", "Phase images", "Return the phase as a series of its own.", default=False),
    Parameter(
        "partialFourier",
        "choice",
        "Partial Fourier",
        "What becomes of the part of k-space that was left out.",
        "pipeline",
        (("pipeline", "As configured"), ("zerofill", "Zero filling"), ("pocs", "POCS")),
    ),
    Parameter(
        "sliceDeadline",
        "double",
        "Deadline per image",
        "Seconds after the last readout until the classical method is asked too; 0 for what is configured.",
        0.0,
        largest=600.0,
        unit="s",
    ),
)

_HEADS: Final = ("tissue", "lesion", "series")
_MODELS: Final = {"l1wavelet": "l1-wavelet", "cgsense": "cg-sense"}
_PARTIAL_FOURIER: Final = {"zerofill": "zero-fill", "pocs": "pocs"}
#: Sent by every console of OpenRecon and FIRE, and read elsewhere or by nobody.
_NOT_OURS: Final = frozenset({"config", "customconfig"})


def parameters_of(text: str) -> dict[str, Any] | None:
    """Return the parameters in a TEXT message; None if it holds none: then it is a line of a log.

    Parameters
    ----------
    text
        The message.
    """
    if not text.lstrip().startswith("{"):
        return None
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        return None
    found = read.get("parameters") if isinstance(read, dict) else None
    return found if isinstance(found, dict) else None


def chosen(pipeline: Pipeline, parameters: Mapping[str, Any]) -> tuple[Pipeline, list[str]]:
    """Return a pipeline as the parameters change it, and what is wrong with them.

    A parameter that is unknown or malformed costs no image: it is told, and what is configured holds.

    Parameters
    ----------
    pipeline
        As configured.
    parameters
        As `parameters_of` returns them.

    Returns
    -------
    pipeline
        What to do.
    complaints
        A sentence for each parameter that was not followed.
    """
    known = {parameter.name: parameter for parameter in PARAMETERS}
    values: dict[str, Any] = {}
    complaints = []
    for name, value in parameters.items():
        if name in _NOT_OURS:
            continue
        if name not in known:
            complaints.append(f"there is no parameter of this name: {name[:40]!r}")
            continue
        try:
            values[name] = _value(known[name], value)
        except ValueError as error:
            complaints.append(f"parameter {name}: {error}")
    changes = _changes(pipeline, values)
    try:
        return Pipeline.model_validate({**pipeline.model_dump(), **changes}), complaints
    except ValidationError as error:
        return pipeline, [*complaints, f"the parameters do not fit together: {error.errors()[0]['msg']}"]


def _changes(pipeline: Pipeline, values: Mapping[str, Any]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if values.get("model", "pipeline") != "pipeline":
        changes |= {"model": _MODELS.get(values["model"], values["model"]), "model_version": ""}
    if values.get("partialFourier", "pipeline") != "pipeline":
        changes["partial_fourier"] = _PARTIAL_FOURIER[values["partialFourier"]]
    if values.get("sliceDeadline", 0) > 0:
        changes["slice_deadline"] = values["sliceDeadline"]
    if values.get("uncertainty"):
        changes["uncertainty"] = True
    if values.get("phase") and "phase" not in pipeline.outputs:
        changes["outputs"] = (*pipeline.outputs, "phase")
    wanted = tuple(head for head in _HEADS if values.get(head) and head not in pipeline.heads)
    if wanted:
        changes["heads"] = (*pipeline.heads, *wanted)
    return changes


def _value(parameter: Parameter, value: object) -> str | float | bool:
    """Return a value in its own type.

    Raises
    ------
    ValueError
        It is no value of this parameter; the message says what would be.
    """
    text = str(value).strip()
    if parameter.kind == "boolean":
        if text.lower() not in {"true", "false", "1", "0"}:
            raise ValueError("true or false is wanted")
        return text.lower() in {"true", "1"}
    if parameter.kind == "choice":
        choices = [name for name, _ in parameter.choices]
        if text not in choices:
            raise ValueError(f"one of {', '.join(choices)} is wanted")
        return text
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not parameter.smallest <= number <= parameter.largest:
        raise ValueError(f"a number from {parameter.smallest:g} to {parameter.largest:g} is wanted")
    return number
