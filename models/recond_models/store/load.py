"""Makes a stored model ready to run, if it still is what it was."""

from __future__ import annotations

import hashlib
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors

from recond_models.batch import Reconstructor
from recond_models.heads.head import Head
from recond_models.store import golden
from recond_models.store.catalogue import StoredModel
from recond_models.store.errors import DamagedModelError
from recond_models.store.heads import check_head
from recond_models.store.manifest import GOLDEN_FILE, WEIGHTS_FILE, Manifest
from recond_models.store.package import make_ready


def load(stored: StoredModel, device: str) -> Reconstructor:
    """Read the weights of a stored model, verify them, build the network and run it once on its golden input.

    Parameters
    ----------
    stored
        The model.
    device
        torch device to compute on.

    Returns
    -------
    Reconstructor
        The model, warm.

    Raises
    ------
    DamagedModelError
        A file is missing or has another hash than the manifest says.
    WrongKeysError
        The weights are not those of the architecture in the manifest.
    GoldenMismatchError
        It makes other images here than when it was recorded.
    """
    manifest = stored.manifest
    # What was hashed is what is loaded: the bytes are read once.
    data = _verified(stored.folder / WEIGHTS_FILE, manifest.weights_sha256, manifest)
    pair = _verified(stored.folder / GOLDEN_FILE, manifest.golden_sha256, manifest)
    try:
        weights = load_safetensors(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise DamagedModelError(
            f"the weights of {manifest.name} cannot be read ({error}): add the model again"
        ) from error
    del data
    model = make_ready(stored.info, manifest.architecture, weights, device, manifest.precision)
    factor = 1.0 if device == "cpu" else golden.OTHER_DEVICE
    golden.check(pair, model, min(factor * manifest.golden_tolerance, 1.0))
    return model


def load_head(stored: StoredModel, device: str) -> Head:
    """Read the weights of a stored head, verify them, build the network and compare with its golden pair; as `load`.

    Raises
    ------
    DamagedModelError, WrongKeysError, GoldenMismatchError
        As `load` does.
    """
    manifest = stored.manifest
    data = _verified(stored.folder / WEIGHTS_FILE, manifest.weights_sha256, manifest)
    pair = _verified(stored.folder / GOLDEN_FILE, manifest.golden_sha256, manifest)
    return check_head(manifest, stored.info, data, pair, device)


def _verified(path: Path, sha256: str, manifest: Manifest) -> bytes:
    """Return the bytes of a file if they have that hash."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DamagedModelError(f"{path} cannot be read ({error.strerror}): add {manifest.name} again") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise DamagedModelError(
            f"{path} has the SHA-256 {found}, but {sha256} was recorded when {manifest.name} was added: the file has changed "
            "since; add the model again from a file that you trust"
        )
    return data
