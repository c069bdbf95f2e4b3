"""Which model suits a sampling: refuse one that does not, pick one that does. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from recond_models.evidence import ENSEMBLE, NETWORK, Cell, calibration
from recond_models.model import MINIMUM_CALIBRATION, ModelInfo, NoDeviationError, NoPhaseError, UnsuitableModelError
from recond_models.sampling import Sampling

_SPARSE = ("l1-wavelet", "tv")
_WHOLE = 1.02  # grid points per measured point up to which k-space is called whole


@dataclass(frozen=True, slots=True)
class Choice:
    """The model that was picked, and why.

    Parameters
    ----------
    info
        The model.
    reason
        Why, in one sentence.
    passed_over
        Why the network that comes with recond was not picked, in one sentence; empty if it was, or if there is none or no need.
    assumed
        What was taken for granted about the data because they do not tell, in one sentence; empty if nothing was.
    cell
        The figures that decided between the network, classical models and their mean; None where a rule did. Held-out samples of
        the very scan may decide otherwise: see `recond_models.evidence.decide`.
    """

    info: ModelInfo
    reason: str
    passed_over: str = ""
    assumed: str = ""
    cell: Cell | None = None


def check(info: ModelInfo, sampling: Sampling) -> None:
    """Refuse a model that cannot reconstruct data sampled like this.

    Parameters
    ----------
    info
        The model.
    sampling
        How the data were sampled.

    Raises
    ------
    UnsuitableModelError
        Something is missing; the message says what, and what to do.
    """
    impossible = info.contract.impossible(sampling) if info.contract is not None else []
    if impossible:
        raise UnsuitableModelError(
            f"{info.name} cannot take these data: {'; '.join(impossible)}: use another model, or auto"
        )
    missing = _missing_for_sensitivities(sampling)
    if info.contract is not None and info.needs_calibration:
        missing = missing or info.contract.lacks_calibration(sampling)
    if info.needs_calibration and missing:
        raise UnsuitableModelError(
            f"{info.name} needs coil sensitivities, but {missing}: acquire calibration lines around the centre of k-space with two "
            f"or more coils, or use the model rss"
        )


def check_phase(info: ModelInfo, models: Sequence[ModelInfo]) -> None:
    """Refuse to make complex images with a model that makes magnitudes only.

    Parameters
    ----------
    info
        The model.
    models
        All models there are, for the remedy.

    Raises
    ------
    NoPhaseError
        Its images have no phase; the message names the models whose images have.
    """
    if not info.has_phase:
        others = [other.name for other in models if other.has_phase]
        raise NoPhaseError(
            f"{info.name} makes magnitude images, which have no phase: for complex images choose {', '.join(others[:-1])} or "
            f"{others[-1]}"
        )


def check_deviation(info: ModelInfo, models: Sequence[ModelInfo]) -> None:
    """Refuse to tell the uncertainty of images of a model that predicts none.

    Parameters
    ----------
    info
        The model.
    models
        All models there are, for the remedy.

    Raises
    ------
    NoDeviationError
        The message names the models that predict it.
    """
    if not info.has_deviation:
        others = [other.name for other in models if other.has_deviation]
        remedy = (
            f"choose {' or '.join(others)}, or ask for none" if others else "ask for none: no model here predicts it"
        )
        raise NoDeviationError(f"{info.name} does not predict the uncertainty of its images: {remedy}")


def outside_contract(info: ModelInfo, sampling: Sampling) -> str:
    """Return in what data leave the contract of a model, as one sentence; empty if they do not, or if it has none."""
    problems = info.contract.problems(sampling) if info.contract is not None else []
    return f"{info.name} was not made for these data: {'; '.join(problems)}" if problems else ""


def choose(sampling: Sampling, models: Sequence[ModelInfo]) -> Choice:
    """Pick a model.

    Undersampled data that are within the contract of the network that comes with recond go to the model that is best on measured
    and simulated scans of their kind: the network, a classical model, or the mean of both. All other data go to a classical model,
    and so do those that coils alone determine well. Networks that were added are never picked: they have to be named.

    Parameters
    ----------
    sampling
        How the data were sampled.
    models
        The models to pick from: `recond_models.registry.available`, with all the classical ones.

    Returns
    -------
    Choice
        Always a model that `check` accepts.
    """
    name, reason = _choose_classical(sampling)
    by_name = {info.name: info for info in models if info.origin != "added"}
    choice = Choice(by_name[name], reason)
    network = by_name.get(NETWORK)
    cell = calibration().cell(sampling)
    if network is None or network.contract is None or sampling.pattern == "full" or name == "cg-sense":
        return choice
    try:
        check(network, sampling)
    except UnsuitableModelError as error:
        return replace(choice, passed_over=str(error))
    outside = outside_contract(network, sampling)
    if outside:
        return replace(choice, passed_over=outside)
    if cell is None:
        return choice
    return with_evidence(by_name[cell.best], network, cell, _of_figures(cell, network))


def with_evidence(info: ModelInfo, network: ModelInfo, cell: Cell, reason: str) -> Choice:
    """Return the choice of a model for which figures or held-out samples speak.

    Parameters
    ----------
    info
        The model.
    network
        The network that comes with recond.
    cell
        Figures of scans that were sampled alike.
    reason
        What speaks for the model, in one sentence.
    """
    if info.name not in {NETWORK, ENSEMBLE}:
        return Choice(info, reason, passed_over=f"{network.name} was not chosen, because {reason}", cell=cell)
    anatomy = network.contract.anatomy if network.contract is not None else ""
    assumed = f"the data do not say what they show, and {network.name} was trained on {anatomy}: name a model for anything else"
    return Choice(info, reason, assumed=assumed if anatomy else "", cell=cell)


def _of_figures(cell: Cell, network: ModelInfo) -> str:
    """Return what figures speak for the best model of a cell."""
    others = sorted((name for name in cell.ssim if name != cell.best), key=lambda name: -cell.ssim[name])
    listed = " and ".join(f"{cell.ssim[name]:.4f} of {name}" for name in others[:2])
    learnt = calibration().weights_sha256 == network.weights_sha256
    older = "" if learnt else f" (with an earlier version of {network.name})"
    figure = f"{cell.best} had the highest SSIM in the object{older}, {cell.ssim[cell.best]:.4f} against {listed}"
    return f"on {cell.describe()} {figure}"


def _choose_classical(sampling: Sampling) -> tuple[str, str]:
    """Return the name of a classical model and why.

    With uniform lines and enough coils plain SENSE is as good as a sparse image and faster: simulated heads with noise show it.
    Between `l1-wavelet` and `tv` the figures of `recond_models.evidence` decide.
    """
    missing = _missing_for_sensitivities(sampling)
    if sampling.pattern == "full":
        if sampling.whitened and not missing:
            whole = "" if sampling.acceleration <= _WHOLE else " between the first and the last"
            reason = f"no line is missing{whole} and the noise is white, so combining the coils by their sensitivities is best"
            return "cg-sense", f"{reason}: rss would add a floor of noise"
        if sampling.acceleration > _WHOLE:
            beyond = f"the {1 - 1 / sampling.acceleration:.0%} of the lines beyond them, which are taken as zero"
            return "rss", f"no line is missing between the first and the last: rss is exact but for {beyond}"
        return "rss", "no line is missing between the first and the last, so rss is exact"
    if missing:
        return "rss", f"the data are undersampled, but {missing}: rss is zero-filled and shows aliasing"
    acceleration = f"{sampling.acceleration:.1f}-fold"
    if sampling.pattern == "uniform" and sampling.spacing <= 2 and sampling.coils >= 4:
        reason = f"every second line with calibration is well determined by {sampling.coils} coils without assumptions on the image"
        return "cg-sense", reason
    cell = calibration().cell(sampling)
    name = "l1-wavelet" if cell is None else max(_SPARSE, key=lambda name: cell.ssim[name])
    return name, f"{acceleration} {sampling.pattern} undersampling with calibration gains from a sparse image"


def _missing_for_sensitivities(sampling: Sampling) -> str:
    """Return what is missing to estimate coil sensitivities, empty if nothing is."""
    if sampling.coils < 2:
        return "there is a single coil"
    rows, columns = sampling.calibration
    if min(rows, columns) == 0:
        return "there is no calibration region"
    if min(rows, columns) < MINIMUM_CALIBRATION:
        return f"the calibration region of {rows} x {columns} is smaller than {MINIMUM_CALIBRATION} x {MINIMUM_CALIBRATION}"
    return ""
