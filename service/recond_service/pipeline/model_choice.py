"""Which model a frame goes to, and what has to be said about that."""

from __future__ import annotations

from recond_models import registry, selection
from recond_models.model import ModelInfo, NoDeviationError, NoPhaseError, UnknownModelError, UnsuitableModelError
from recond_models.sampling import Sampling
from recond_service.types import FindingList, ModelNotFoundError, UnsupportedDataError

_PHASE_MODEL = "cg-sense"
"""Takes the place of a model that makes magnitudes where `auto` is to make complex images."""


def named_model(name: str, version: str, field: str) -> ModelInfo:
    """Return a model by its name and, unless that is empty, version.

    Parameters
    ----------
    name, version
        Of the model; an empty version means the newest.
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


class ModelChoice:
    """The model of a request: the one that was asked for, or the one that suits its first frame.

    Parameters
    ----------
    asked
        The model that was asked for, None to choose one.
    findings
        Gets what the user should know about the choice.
    field
        Where a model can be asked for, for errors.
    complex_images
        The model has to give images with their phase.
    canary
        Another version of `asked` that this request tries out, None to try nothing.
    uncertainty
        The model has to predict the standard deviation of its images.

    Attributes
    ----------
    model
        The model, None while it is not decided.
    reason
        Why it was taken, in a sentence.
    """

    def __init__(
        self,
        asked: ModelInfo | None,
        findings: FindingList,
        field: str,
        *,
        complex_images: bool = False,
        canary: ModelInfo | None = None,
        uncertainty: bool = False,
    ) -> None:
        self.model = asked
        self.reason = "" if asked is None else f"{asked.name} was asked for"
        self._promoted: ModelInfo | None = None
        if asked is not None and canary is not None:
            self.model, self._promoted = canary, asked
            self.reason = f"{asked.name} was asked for, and {canary.version} is tried out on {canary.canary_share:.0%} of requests"
        self._findings = findings
        self._field = field
        self._complex_images = complex_images
        self._uncertainty = uncertainty

    def for_frame(self, sampling: Sampling) -> ModelInfo:
        """Return the model for a frame; the first frame decides.

        Raises
        ------
        UnsupportedDataError
            The model cannot reconstruct the frame, or makes magnitudes where images with phase are wanted.
        """
        if self.model is None:
            choice = selection.choose(sampling, registry.available())
            for code, text in (("network-not-chosen", choice.passed_over), ("anatomy-assumed", choice.assumed)):
                if text:
                    self._findings.info(code, text)
            self.model, self.reason = self._with_phase(choice.info, choice.reason, sampling)
        if self._promoted is not None:
            try:
                self._check(self.model, sampling)
            except UnsupportedDataError as error:
                self.fall_back(error.message)
        self._check(self.model, sampling)
        return self.model

    def instead_of(self, model: ModelInfo) -> ModelInfo | None:
        """Return the promoted version that takes over where a version that is tried out fails; None for any other model."""
        return self._promoted if self._promoted is not None and model.version != self._promoted.version else None

    def fall_back(self, problem: str) -> None:
        """Have the promoted version make this and all further images, and say so."""
        promoted, tried = self._promoted, self.model
        if promoted is None or tried is None or tried.version == promoted.version:
            return
        self._findings.warn(
            "canary-failed",
            f"{tried.name} {tried.version}, which is being tried out, failed ({problem}); {promoted.version} made the image "
            "instead.",
        )
        self.model = promoted
        self.reason = f"{promoted.name} was asked for"

    def _with_phase(self, model: ModelInfo, reason: str, sampling: Sampling) -> tuple[ModelInfo, str]:
        """Return the chosen model, or another where images are wanted with their phase and it makes magnitudes."""
        other = registry.find(_PHASE_MODEL)
        if not self._complex_images or model.has_phase:
            return model, reason
        try:
            selection.check(other, sampling)
        except UnsuitableModelError:
            return model, reason
        return other, f"complex images were asked for, and {model.name} makes magnitudes"

    def _check(self, model: ModelInfo, sampling: Sampling) -> None:
        try:
            selection.check(model, sampling)
        except UnsuitableModelError as error:
            raise UnsupportedDataError(str(error), reason="MODEL_UNSUITABLE", field=self._field) from error
        if self._complex_images:
            try:
                selection.check_phase(model, registry.available())
            except NoPhaseError as error:
                raise UnsupportedDataError(str(error), reason="NO_PHASE", field=self._field) from error
        if self._uncertainty:
            try:
                selection.check_deviation(model, registry.available())
            except NoDeviationError as error:
                raise UnsupportedDataError(str(error), reason="NO_UNCERTAINTY", field=self._field) from error
        outside = selection.outside_contract(model, sampling)
        if outside:
            self._findings.warn("outside-contract", f"{outside}. Its image may show what is not there.")
