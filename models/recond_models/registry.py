"""The models that there are: classical ones, networks that come with recond or were added, plug-ins. Free of torch."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import Final

from recond_models import plugins
from recond_models.evidence import ENSEMBLE, NETWORK
from recond_models.model import ModelInfo, UnknownModelError
from recond_models.store.catalogue import StoredModel, stored_models

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """A model and what it is made from; `recond_models.loading` makes it.

    Parameters
    ----------
    info
        The model.
    implementation
        ``"module:class"`` of a classical model or a plug-in: named, not imported, because looking at the list must not load torch.
    stored
        Where a trained model lies; None for one that is made by its implementation.
    network
        Where the network lies that the implementation works with; None if it needs none.
    """

    info: ModelInfo
    implementation: str = ""
    stored: StoredModel | None = None
    network: StoredModel | None = None


CLASSICAL: Final = (
    Entry(
        ModelInfo(
            name="rss",
            version="1",
            description="Zero-filled root sum of squares of the coil images.",
            kind="classical",
            reference="Roemer et al. 1990, Magn Reson Med 16:192-225, doi:10.1002/mrm.1910160203",
            needs_calibration=False,
            fits_samples=False,
        ),
        "recond_models.classical.rss:RootSumOfSquares",
    ),
    Entry(
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
        "recond_models.classical.cg_sense:CgSense",
    ),
    Entry(
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
        "recond_models.classical.l1_wavelet:L1Wavelet",
    ),
    Entry(
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
        "recond_models.classical.tv:TotalVariation",
    ),
)
"""The models without trained weights."""

HELD_OUT: Final = "held-out-trial"
"""Predicts held-out samples of a frame by every candidate; gives no image, so that it is found by name and not listed."""

RESERVED_NAMES: Final = frozenset({"auto", ENSEMBLE, HELD_OUT, *(entry.info.name for entry in CLASSICAL)})
"""Names that no trained model can have."""

_classical: tuple[Entry, ...] = CLASSICAL


@dataclass(frozen=True, slots=True)
class _Read:
    """What was made of the stored models when they were last read: models that are listed, those that are not, and heads."""

    stored: tuple[StoredModel, ...] = ()
    listed: tuple[Entry, ...] = ()
    unlisted: tuple[Entry, ...] = ()
    heads: tuple[Entry, ...] = ()


_read = _Read()


def available() -> tuple[ModelInfo, ...]:
    """Return all models: classical ones, networks that come with recond, networks that were added on this machine, plug-ins.

    Of a model with several versions the promoted one; `versions` returns the others.
    """
    return tuple(entry.info for entry in entries() if entry.info.promoted)


def versions(name: str = "") -> tuple[ModelInfo, ...]:
    """Return all versions of a model, the promoted one first; of all models without a name."""
    return tuple(entry.info for entry in entries() if name in {"", entry.info.name})


def heads() -> tuple[ModelInfo, ...]:
    """Return all heads: those that come with recond, then those that were added. Of several versions the promoted one."""
    return tuple(entry.info for entry in head_entries() if entry.info.promoted)


def find_head(name: str, version: str = "") -> ModelInfo:
    """Return a head by name, as `find` does a model.

    Raises
    ------
    UnknownModelError
        There is none; the message lists those there are.
    """
    return find_head_entry(name, version).info


def find_head_entry(name: str, version: str = "") -> Entry:
    """Return the entry of a head, as `find_head` does.

    Raises
    ------
    UnknownModelError
        There is none; the message lists those there are.
    """
    return _chosen(head_entries(), name, version, "head")


def find(name: str, version: str = "") -> ModelInfo:
    """Return a model by name: the promoted version, unless another is given.

    Parameters
    ----------
    name
        Of the model, or ``NAME@VERSION``.
    version
        Of the model; empty for the promoted one.

    Raises
    ------
    UnknownModelError
        There is none; the message lists those there are.
    """
    return find_entry(name, version).info


def find_entry(name: str, version: str = "") -> Entry:
    """Return the entry of a model, as `find` does.

    Raises
    ------
    UnknownModelError
        There is none; the message lists those there are.
    """
    known = entries()
    return _chosen(known, name, version, "model", _read.unlisted)


def find_entry_of_any_kind(name: str, version: str = "") -> Entry:
    """Return the entry of a model or of a head; the names of heads are not those of models.

    Raises
    ------
    UnknownModelError
        There is neither.
    """
    return _chosen((*entries(), *head_entries()), name, version, "model", _read.unlisted)


def _chosen(known: Sequence[Entry], name: str, version: str, what: str, unlisted: Sequence[Entry] = ()) -> Entry:
    """Return the entry of that name and version; say what there is where there is none."""
    plain, _, named_version = name.partition("@")
    if not version:
        name, version = plain, named_version
    for entry in (*known, *unlisted):
        if entry.info.name == name and version in {"", entry.info.version}:
            return entry
    names = ", ".join(f"{entry.info.name} ({entry.info.version})" for entry in known) or "none"
    wanted = f"{name!r} in version {version!r}" if version else repr(name)
    raise UnknownModelError(f"there is no {what} {wanted}; there are {names}")


def find_canary(name: str) -> ModelInfo | None:
    """Return the version of a model that is tried out on a share of its requests, None if there is none."""
    return next((info for info in versions(name) if info.canary_share > 0), None)


def entries() -> tuple[Entry, ...]:
    """Return the entries of all models that reconstruct, the promoted version of a model before its others."""
    return (*_classical, *_current().listed)


def head_entries() -> tuple[Entry, ...]:
    """Return the entries of all heads that there are now, the promoted version of a head before its others."""
    return _current().heads


def _current() -> _Read:
    global _read  # noqa: PLW0603 - a cache
    stored = stored_models()
    if _read.stored is not stored:
        everything = [model for model in stored if model.manifest.name not in RESERVED_NAMES]
        usable = [model for model in everything if model.manifest.head is None]
        network = next((model for model in usable if (model.manifest.name, model.origin) == (NETWORK, "shipped")), None)
        together = () if network is None else (_ensemble(network),)
        unlisted = () if network is None else (_trial(network),)
        taken = RESERVED_NAMES | {model.manifest.name for model in everything}
        trained = (Entry(model.info, stored=model) for model in usable)
        found_heads = tuple(Entry(model.info, stored=model) for model in everything if model.manifest.head is not None)
        _read = _Read(stored, (*together, *trained, *_plugins(taken)), unlisted, found_heads)
    return _read


def _plugins(taken: Set[str]) -> Iterator[Entry]:
    """Yield the entries of plug-ins whose names are free; warn of the others."""
    for plugin in plugins.installed():
        if plugin.info.name in taken:
            _log.warning("the plug-in %s of %s is left out: its name is taken", plugin.info.name, plugin.info.package)
        else:
            yield Entry(plugin.info, plugin.implementation)


def _ensemble(network: StoredModel) -> Entry:
    """Return the entry of the mean of a network and a classical method."""
    info = replace(
        _made_with(network, ENSEMBLE),
        description=f"Mean of the images of {network.info.name} and of tv (whole lines) or l1-wavelet (other sampling).",
        reference="Ensemble averaging (Perrone and Cooper 1993, doi:10.1142/9789812795885_0025) of the models that it names",
    )
    return Entry(info, "recond_models.ensemble.model:Ensemble", network=network)


def _trial(network: StoredModel) -> Entry:
    """Return the entry of the trial by held-out samples."""
    info = replace(
        _made_with(network, HELD_OUT),
        description="Predicts held-out samples of a frame by every model between which auto decides.",
        reference="Cross-validation (Stone 1974, doi:10.1111/j.2517-6161.1974.tb00994.x)",
        fits_samples=False,
        has_deviation=False,
    )
    return Entry(info, "recond_models.ensemble.trial:HeldOutTrial", network=network)


def _made_with(network: StoredModel, name: str) -> ModelInfo:
    """Return what a model that works with a network shares with it: weights, contract, precision and licence."""
    member = network.info
    return replace(member, name=name, version=f"1.{member.version}", family="ensemble", origin="built-in")
