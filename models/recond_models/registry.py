"""The models that exist, which of them suits a sampling, and how to make one. Free of torch until `load` is called."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, Protocol

from recond_models.store.catalogue import StoredModel, stored_models
from recond_models.store.contract import Contract

if TYPE_CHECKING:
    from recond_models.batch import PackedBatch, Reconstruction
    from recond_models.sampling import Sampling
    from recond_models.store.catalogue import Origin
    from recond_models.store.manifest import Manifest

MINIMUM_CALIBRATION = 8
"""Fewest calibration rows and columns from which coil sensitivities are estimated: room for kernels of 4 and their shifts."""


PREFERRED: Final = "unrolled-brain"
"""The network that `choose` picks within its contract, if it comes with this installation."""


class UnknownModelError(LookupError):
    """There is no model of that name or version."""


class UnsuitableModelError(ValueError):
    """The model cannot reconstruct data that were sampled like this."""


class NoPhaseError(UnsuitableModelError):
    """Complex images were asked of a model that makes magnitudes only."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is known about a model without loading it.

    Parameters
    ----------
    name
        Name, as in ``recond reconstruct --model NAME``.
    version
        Version; another version may give another image.
    description
        One sentence for people.
    kind
        With or without trained weights.
    reference
        Where the method comes from.
    needs_calibration
        It needs a fully sampled calibration region and at least two coils.
    fits_samples
        It fits the measured samples, so that a data-consistency residual says something about its images.
    weights_sha256
        Hexadecimal SHA-256 of the weights, empty for classical models.
    origin
        Part of the program, a network that comes with it, or one that was added on this machine.
    family
        Family of the network, empty for classical models.
    precision
        Type that it computes in.
    licence, source
        Of the weights; empty for classical models, and where that was not stated.
    contract
        What data a network was made for, None for classical models.
    has_phase
        It makes complex images; else magnitudes only.
    """

    name: str
    version: str
    description: str
    kind: Literal["classical", "network"]
    reference: str
    needs_calibration: bool
    fits_samples: bool
    weights_sha256: str = ""
    origin: Literal["built-in", "shipped", "added"] = "built-in"
    family: str = ""
    precision: str = "float32"
    licence: str = ""
    source: str = ""
    contract: Contract | None = None
    has_phase: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """What `auto` picks.

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
    """

    info: ModelInfo
    reason: str
    passed_over: str = ""
    assumed: str = ""


class Reconstructor(Protocol):
    """A loaded model."""

    info: ModelInfo

    def reconstruct(self, batch: PackedBatch) -> Reconstruction:
        """Reconstruct every frame of a batch; the image of a frame does not depend on the others."""
        ...


@dataclass(frozen=True, slots=True)
class _Entry:
    """A model and where its class is. The class is named, not imported: looking at the list must not load torch."""

    info: ModelInfo
    module: str
    class_name: str

    def load(self, device: str) -> Reconstructor:
        """Make the model."""
        factory = getattr(importlib.import_module(self.module), self.class_name)
        model: Reconstructor = factory(self.info, device)
        return model


@dataclass(frozen=True, slots=True)
class _StoredEntry:
    """A trained model on disk."""

    info: ModelInfo
    stored: StoredModel

    def load(self, device: str) -> Reconstructor:
        """Read, verify and warm the model."""
        loader = importlib.import_module("recond_models.store.load")
        model: Reconstructor = loader.load(self.stored, self.info, device)
        return model


_RSS = _Entry(
    ModelInfo(
        name="rss",
        version="1",
        description="Zero-filled root sum of squares of the coil images.",
        kind="classical",
        reference="Roemer et al. 1990, Magn Reson Med 16:192-225, doi:10.1002/mrm.1910160203",
        needs_calibration=False,
        fits_samples=False,
    ),
    "recond_models.classical.rss",
    "RootSumOfSquares",
)
_CG_SENSE = _Entry(
    ModelInfo(
        name="cg-sense",
        version="1",
        description="Iterative SENSE by conjugate gradients with ESPIRiT maps and a small Tikhonov term.",
        kind="classical",
        reference="Pruessmann et al. 2001, Magn Reson Med 46:638-651, doi:10.1002/mrm.1241; "
        "Uecker et al. 2014, Magn Reson Med 71:990-1001, doi:10.1002/mrm.24751",
        needs_calibration=True,
        fits_samples=True,
        has_phase=True,
    ),
    "recond_models.classical.cg_sense",
    "CgSense",
)
_L1_WAVELET = _Entry(
    ModelInfo(
        name="l1-wavelet",
        version="1",
        description="Compressed sensing: SENSE with ESPIRiT maps and sparse wavelet coefficients.",
        kind="classical",
        reference="Lustig et al. 2007, Magn Reson Med 58:1182-1195, doi:10.1002/mrm.21391; "
        "Uecker et al. 2014, Magn Reson Med 71:990-1001, doi:10.1002/mrm.24751",
        needs_calibration=True,
        fits_samples=True,
        has_phase=True,
    ),
    "recond_models.classical.l1_wavelet",
    "L1Wavelet",
)
_TV = _Entry(
    ModelInfo(
        name="tv",
        version="1",
        description="Compressed sensing: SENSE with ESPIRiT maps and small total variation.",
        kind="classical",
        reference="Block et al. 2007, Magn Reson Med 57:1086-1098, doi:10.1002/mrm.21236; "
        "Uecker et al. 2014, Magn Reson Med 71:990-1001, doi:10.1002/mrm.24751",
        needs_calibration=True,
        fits_samples=True,
        has_phase=True,
    ),
    "recond_models.classical.tv",
    "TotalVariation",
)
_CLASSICAL = (_RSS, _CG_SENSE, _L1_WAVELET, _TV)

RESERVED_NAMES: Final = frozenset({"auto", *(entry.info.name for entry in _CLASSICAL)})
"""Names that no trained model can have."""

_FAMILIES_WITH_PHASE: Final = frozenset({"unrolled"})
"""Families of networks that make complex images; fastMRI's combine the coils themselves, to magnitudes."""

_read: tuple[tuple[StoredModel, ...], tuple[_StoredEntry, ...]] = ((), ())


def available() -> tuple[ModelInfo, ...]:
    """Return all models: classical ones, networks that come with recond, networks that were added on this machine."""
    return tuple(entry.info for entry in _entries())


def find(name: str, version: str = "") -> ModelInfo:
    """Return a model by name, the newest unless a version is given.

    Raises
    ------
    UnknownModelError
        There is none; the message lists those there are.
    """
    return _find(name, version).info


def check(info: ModelInfo, sampling: Sampling) -> None:
    """Refuse a model that cannot reconstruct data sampled like this.

    Parameters
    ----------
    info
        The model.
    sampling
        The data.

    Raises
    ------
    UnsuitableModelError
        Something is missing; the message says what, and what to do.
    """
    missing = _missing_for_sensitivities(sampling)
    if info.contract is not None and info.needs_calibration:
        missing = missing or info.contract.lacks_calibration(sampling)
    if info.needs_calibration and missing:
        raise UnsuitableModelError(
            f"{info.name} needs coil sensitivities, but {missing}: acquire calibration lines around the centre of k-space with two "
            f"or more coils, or use the model rss"
        )


def check_phase(info: ModelInfo) -> None:
    """Refuse to make complex images with a model that makes magnitudes only.

    Parameters
    ----------
    info
        The model.

    Raises
    ------
    NoPhaseError
        Its images have no phase; the message names the models whose images have.
    """
    if not info.has_phase:
        others = [other.name for other in available() if other.has_phase]
        raise NoPhaseError(
            f"{info.name} makes magnitude images, which have no phase: for complex images choose {', '.join(others[:-1])} or "
            f"{others[-1]}"
        )


def outside_contract(info: ModelInfo, sampling: Sampling) -> str:
    """Return in what data leave the contract of a model, as one sentence; empty if they do not, or if it has none."""
    problems = info.contract.problems(sampling) if info.contract is not None else []
    return f"{info.name} was not made for these data: {'; '.join(problems)}" if problems else ""


def choose(sampling: Sampling) -> Choice:
    """Pick a model.

    Undersampled data go to the network that comes with recond, if they are within its contract; all other data go to a classical
    model, and so do those that coils alone determine well. Networks that were added are never picked: they have to be named.

    Parameters
    ----------
    sampling
        How the data were sampled.

    Returns
    -------
    Choice
        Always a model that `check` accepts.
    """
    choice = _choose_classical(sampling)
    network = _preferred()
    determined = sampling.pattern == "full" or choice.info is _CG_SENSE.info
    if network is None or network.contract is None or determined:
        return choice
    try:
        check(network, sampling)
    except UnsuitableModelError as error:
        return replace(choice, passed_over=str(error))
    outside = outside_contract(network, sampling)
    if outside:
        return replace(choice, passed_over=outside)
    reason = f"{sampling.acceleration:.1f}-fold {sampling.pattern} undersampling of {sampling.coils} coils is what it was made for"
    anatomy = network.contract.anatomy
    assumed = f"the data do not say what they show, and {network.name} was trained on {anatomy}: name a model for anything else"
    return Choice(network, reason, assumed=assumed if anatomy else "")


def _choose_classical(sampling: Sampling) -> Choice:
    """Pick a classical model.

    The rule comes from simulated heads with noise: with uniform lines and enough coils plain SENSE is as good and faster. Between
    `l1-wavelet` and `tv` a measured head decides: both predict samples that were held out equally well, wavelets a little better
    when more is missing. That `tv` is better on simulated heads says little, for these are smoother than people.
    """
    missing = _missing_for_sensitivities(sampling)
    if sampling.pattern == "full":
        if sampling.whitened and not missing:
            reason = "no line is missing and the noise is white, so combining the coils by their sensitivities is best"
            return Choice(_CG_SENSE.info, f"{reason}: rss would add a floor of noise")
        return Choice(_RSS.info, "no line is missing between the first and the last, so rss is exact")
    if missing:
        return Choice(_RSS.info, f"the data are undersampled, but {missing}: rss is zero-filled and shows aliasing")
    acceleration = f"{sampling.acceleration:.1f}-fold"
    if sampling.pattern == "uniform" and sampling.spacing <= 2 and sampling.coils >= 4:
        reason = f"every second line with calibration is well determined by {sampling.coils} coils without assumptions on the image"
        return Choice(_CG_SENSE.info, reason)
    reason = f"{acceleration} {sampling.pattern} undersampling with calibration gains from a sparse image"
    return Choice(_L1_WAVELET.info, reason)


def load(name: str, version: str = "", device: str = "cpu") -> Reconstructor:
    """Make a model ready to run; imports torch.

    Parameters
    ----------
    name, version
        As for `find`.
    device
        torch device to compute on.

    Returns
    -------
    Reconstructor
        The model.

    Raises
    ------
    UnknownModelError
        There is no such model.
    StoreError
        Its weights are not what they were when it was added, or make other images here.
    """
    return _find(name, version).load(device)


def info_of(manifest: Manifest, origin: Origin) -> ModelInfo:
    """Return the entry of a trained model."""
    return ModelInfo(
        name=manifest.name,
        version=manifest.version,
        description=manifest.description,
        kind="network",
        reference=manifest.reference,
        needs_calibration=manifest.contract.requires_calibration,
        fits_samples=manifest.fits_samples,
        weights_sha256=manifest.weights_sha256,
        origin=origin,
        family=manifest.family,
        precision=manifest.precision,
        licence=manifest.licence,
        source=manifest.source,
        contract=manifest.contract,
        has_phase=manifest.family in _FAMILIES_WITH_PHASE,
    )


def _entries() -> tuple[_Entry | _StoredEntry, ...]:
    """Return all models there are now."""
    global _read  # noqa: PLW0603 - a cache
    stored = stored_models()
    if _read[0] is not stored:
        _read = (
            stored,
            tuple(
                _StoredEntry(info_of(model.manifest, model.origin), model)
                for model in stored
                if model.manifest.name not in RESERVED_NAMES
            ),
        )
    return (*_CLASSICAL, *_read[1])


def _preferred() -> ModelInfo | None:
    """Return the network that `choose` may pick, if it is there."""
    for info in available():
        if info.name == PREFERRED and info.origin == "shipped":
            return info
    return None


def _find(name: str, version: str) -> _Entry | _StoredEntry:
    """Return the first entry of that name and version."""
    entries = _entries()
    for entry in entries:
        if entry.info.name == name and version in {"", entry.info.version}:
            return entry
    names = ", ".join(f"{entry.info.name} ({entry.info.version})" for entry in entries)
    wanted = f"{name!r} in version {version!r}" if version else repr(name)
    raise UnknownModelError(f"there is no model {wanted}; there are {names}")


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
