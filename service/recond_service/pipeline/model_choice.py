"""Which model a frame goes to, and what has to be said about that."""

from __future__ import annotations

from recond_models import registry, selection
from recond_models.evidence import ENSEMBLE, NETWORK, Cell
from recond_models.model import ModelInfo, NoDeviationError, NoPhaseError, UnknownModelError, UnsuitableModelError
from recond_models.sampling import Sampling
from recond_models.selection import Choice
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
    cell
        Figures of scans that were sampled alike, where these decided: held-out samples of the scan may decide otherwise.
    automatic
        It was not asked for by name.
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
        self.cell: Cell | None = None
        self.automatic = asked is None
        self._choice: Choice | None = None
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
        model = self.suggest(sampling)
        if self._choice is not None:
            choice, self._choice = self._choice, None
            for code, text in (("network-not-chosen", choice.passed_over), ("anatomy-assumed", choice.assumed)):
                if text:
                    self._findings.info(code, text)
        if self._promoted is not None:
            try:
                self._check(model, sampling)
            except UnsupportedDataError as error:
                self.fall_back(error.message)
                model = self.model or model
        self._check(model, sampling)
        return model

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

    def suggest(self, sampling: Sampling) -> ModelInfo:
        """Return the model for a frame before anybody is told; until `for_frame` is called, `settle` may change it."""
        if self.model is None:
            self._choice = selection.choose(sampling, registry.available())
            # What predicts its uncertainty is not put to the vote: classical models do not.
            self.cell = None if self._uncertainty else self._choice.cell
            self.model, self.reason = self._with_phase(self._choice.info, self._choice.reason, sampling)
            if self._uncertainty:
                self.model, self.reason = self._with_uncertainty(self.model, self.reason, sampling)
        return self.model

    def settle(self, name: str, reason: str) -> None:
        """Take another model than was suggested, or the same for another reason.

        Parameters
        ----------
        name
            Of the model, a candidate of `recond_models.evidence`.
        reason
            Why, in a sentence.
        """
        if self.cell is None:
            raise ValueError("the model was not chosen by figures, so that nothing else can be settled on")
        network = registry.find(NETWORK)
        self._choice = selection.with_evidence(registry.find(name), network, self.cell, reason)
        self.model, self.reason = self._choice.info, reason

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

    def _with_uncertainty(self, model: ModelInfo, reason: str, sampling: Sampling) -> tuple[ModelInfo, str]:
        """Return the chosen model, or one that predicts its uncertainty where that does not and the data are of its kind."""
        known = {info.name: info for info in registry.available()}
        for name in (model.name, ENSEMBLE, NETWORK):
            other = known.get(name)
            if other is not None and other.has_deviation and not selection.outside_contract(other, sampling):
                told = (
                    reason if other.name == model.name else f"uncertainty was asked for, and {model.name} predicts none"
                )
                return other, told
        return model, reason

    @staticmethod
    def _why_none_predicts(sampling: Sampling) -> str:
        """Return why no model was picked that predicts its uncertainty, and what to do."""
        network = next((info for info in registry.available() if info.name == NETWORK), None)
        if network is None:
            return f"no model predicts the uncertainty of its images, as {NETWORK} is not installed: ask for none"
        try:
            selection.check(network, sampling)
        except UnsuitableModelError as error:
            return f"no model predicts the uncertainty of images of these data, so ask for none: {error}"
        return (
            f"no model that predicts the uncertainty of its images was made for these data: ask for none, or name {NETWORK} to run "
            f"it nevertheless. {selection.outside_contract(network, sampling)}"
        )

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
                problem = self._why_none_predicts(sampling) if self.automatic else str(error)
                raise UnsupportedDataError(problem, reason="NO_UNCERTAINTY", field=self._field) from error
        outside = selection.outside_contract(model, sampling)
        if outside:
            self._findings.warn("outside-contract", f"{outside}. Its image may show what is not there.")
