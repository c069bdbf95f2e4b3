"""Which model a frame goes to, and what has to be said about that."""

from __future__ import annotations

from recond_models import registry, selection
from recond_models.model import ModelInfo, UnknownModelError, UnsuitableModelError
from recond_models.sampling import Sampling
from recond_service.types import FindingList, ModelNotFoundError, UnsupportedDataError


def named_model(name: str, version: str, field: str) -> ModelInfo:
    """Return a model by its name and, unless that is empty, version.

    Parameters
    ----------
    name, version
        As asked for.
    field
        Where that was asked, for the error.

    Raises
    ------
    ModelNotFoundError
        There is none.
    """
    try:
        return registry.find(name, version)
    except UnknownModelError as error:
        raise ModelNotFoundError(str(error.args[0]), reason="NO_SUCH_MODEL", field=field) from error


def chosen_model(sampling: Sampling, findings: FindingList) -> tuple[ModelInfo, str]:
    """Choose a model by how a frame was sampled; return why, too.

    Parameters
    ----------
    sampling
        The frame.
    findings
        Gets what the user should know about the choice.
    """
    choice = selection.choose(sampling, registry.available())
    for code, text in (("network-not-chosen", choice.passed_over), ("anatomy-assumed", choice.assumed)):
        if text:
            findings.info(code, text)
    return choice.info, choice.reason


def check_suitable(model: ModelInfo, sampling: Sampling, findings: FindingList, field: str) -> None:
    """Refuse a model that cannot reconstruct a frame, and say so if the frame is not what it was made for.

    Parameters
    ----------
    model, sampling
        The model and the frame.
    findings
        Gets a warning where the frame leaves the contract of the model.
    field
        Where the model was asked for.

    Raises
    ------
    UnsupportedDataError
        It cannot.
    """
    try:
        selection.check(model, sampling)
    except UnsuitableModelError as error:
        raise UnsupportedDataError(str(error), reason="MODEL_UNSUITABLE", field=field) from error
    outside = selection.outside_contract(model, sampling)
    if outside:
        findings.warn("outside-contract", f"{outside}. Its image may show what is not there.")
