"""Why a trained model is refused: one class a remedy."""

from __future__ import annotations


class StoreError(ValueError):
    """Base of all errors of the store; the message says what is wrong and what to do.

    Attributes
    ----------
    reason
        Stable name of what is wrong.
    """

    reason = "MODEL_REFUSED"


class UnsafeFileError(StoreError):
    """Reading the file would run code that it brings: get it as safetensors, or as a bare state dict."""

    reason = "MODEL_HAS_CODE"


class UnreadableFileError(StoreError):
    """The file is missing, too big, damaged, or no file of weights: get another copy."""

    reason = "MODEL_UNREADABLE"


class WrongKeysError(StoreError):
    """The tensors are not those of a network that is known here."""

    reason = "MODEL_WRONG_KEYS"


class WeightsNotFiniteError(StoreError):
    """A weight is NaN or infinite: the training diverged, or the file is damaged."""

    reason = "MODEL_NOT_FINITE"


class ProgramRefusedError(StoreError):
    """An exported program calls what is not run here, or does not take k-space and return an image."""

    reason = "MODEL_PROGRAM"


class TrialError(StoreError):
    """An exported program took too much time or memory when it was tried out, or ended the process that tried it."""

    reason = "MODEL_TRIAL"


class PluginError(StoreError):
    """A plug-in cannot be loaded here: install it again, or ask whoever made it."""

    reason = "MODEL_PLUGIN"


class HashMismatchError(StoreError):
    """The file is not the one that was meant."""

    reason = "MODEL_HASH"


class NameTakenError(StoreError):
    """There is a model of that name and version: choose another, or replace it on purpose."""

    reason = "MODEL_NAME_TAKEN"


class UnsafeNameError(StoreError):
    """The name cannot be that of a model and of its folder."""

    reason = "MODEL_NAME"


class VersionError(StoreError):
    """There is no such version, or nothing to go back to."""

    reason = "MODEL_VERSION"


class ManifestError(StoreError):
    """The manifest cannot be read or says what cannot be."""

    reason = "MODEL_MANIFEST"


class DamagedModelError(StoreError):
    """A stored model is not what it was when it was added: add it again."""

    reason = "MODEL_DAMAGED"


class GoldenMismatchError(StoreError):
    """A model does not make the images here that it made when it was recorded."""

    reason = "MODEL_GOLDEN"
