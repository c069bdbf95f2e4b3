"""The models that a worker has in memory, by what they are: name, version and weights."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from recond_models import loading, registry
from recond_models.batch import Reconstructor
from recond_models.heads.head import Head
from recond_models.model import ModelInfo, UnknownModelError
from recond_models.store.catalogue import stored_models
from recond_models.store.errors import StoreError
from recond_service.types import ModelNotFoundError, UnavailableError, UnsupportedDataError

_log = structlog.get_logger(__name__)

_MOST_ADDED = 4  # added models that stay in memory: one of the published size takes 120 MB
_DRAIN_SECONDS = 60.0
"""A model that is no longer in the store serves requests that were planned with it until it has been unused this long."""

Key = tuple[str, str, str]


@dataclass(slots=True)
class _Loaded:
    model: Reconstructor | Head
    last_use: float


class LoadedModels:
    """Loads models at their first use, and replaces them when the store does. May be used from several threads.

    Parameters
    ----------
    device
        torch device to compute on.
    clock
        Seconds, monotonic.
    """

    def __init__(self, device: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._device = device
        self._clock = clock
        self._loaded: OrderedDict[Key, _Loaded] = OrderedDict()  # the one unused longest first
        self._changing = threading.Lock()
        self._loading = threading.Lock()
        self._refused: dict[Key, StoreError] = {}
        self._refused_of: object = None

    @property
    def keys(self) -> tuple[Key, ...]:
        """Name, version and hash of the weights of what is in memory, the one unused longest first."""
        with self._changing:
            return tuple(self._loaded)

    def get(self, name: str, version: str, weights_sha256: str) -> Reconstructor | Head:
        """Return a model or a head. It is loaded if it is not in memory, unless the store has another in its place.

        Raises
        ------
        ModelNotFoundError
            There is no such model.
        UnavailableError
            There is another model of that name and version by now.
        UnsupportedDataError
            Its files are damaged, or it makes other images here.
        """
        key = (name, version, weights_sha256)
        found = self._use(key)
        if found is not None:
            return found
        with self._loading:
            return self._use(key) or self._load(key)

    def warm(self, info: ModelInfo) -> bool:
        """Load a model ahead of its first use, and tell whether that went well: a damaged one must not keep others from working."""
        try:
            self.get(info.name, info.version, info.weights_sha256)
        except (
            ModelNotFoundError,
            UnavailableError,
            UnsupportedDataError,
            ArithmeticError,
            RuntimeError,
            TypeError,
        ) as error:
            _log.error("model-out-of-order", model=info.name, version=info.version, problem=str(error))
            return False
        return True

    def refresh(self) -> None:
        """Load what has taken the place of a model in memory, or is tried out beside it, and forget models that have drained.

        To be called once in a while from another thread: the old ones serve meanwhile. What is refused does not come into memory,
        and the old one serves those that name it.
        """
        wanted = {
            (info.name, info.version, info.weights_sha256): info
            for info in (*registry.versions(), *(entry.info for entry in registry.head_entries()))
            if info.kind != "classical"
        }
        names = {key[0] for key in self.keys}
        for key, info in wanted.items():
            runs = info.promoted or info.canary_share > 0
            if key[0] in names and runs and key not in self.keys and self._refusal(key) is None and self.warm(info):
                _log.info("model-replaced", model=info.name, version=info.version, weights_sha256=info.weights_sha256)
        end = self._clock() - _DRAIN_SECONDS
        with self._changing:
            for key, loaded in list(self._loaded.items()):
                if loaded.model.info.kind != "classical" and key not in wanted and loaded.last_use <= end:
                    del self._loaded[key]

    def _use(self, key: Key) -> Reconstructor | Head | None:
        with self._changing:
            loaded = self._loaded.get(key)
            if loaded is None:
                return None
            loaded.last_use = self._clock()
            self._loaded.move_to_end(key)
            return loaded.model

    def _load(self, key: Key) -> Reconstructor | Head:
        name, version, weights_sha256 = key
        try:
            entry = registry.find_entry_of_any_kind(name, version)
            if entry.info.weights_sha256 != weights_sha256:
                raise _replaced(name)
            refusal = self._refusal(key)
            if refusal is not None:
                raise refusal
            model: Reconstructor | Head
            if entry.info.kind == "head":
                model = loading.load_head(name, version, device=self._device)
            else:
                model = loading.load(name, version, device=self._device)
        except StoreError as error:
            self._refused[key] = error
            said = " ".join(str(error).split())  # torch names missing weights line by line
            raise UnsupportedDataError(
                f"{said}; if {name} was added to the models folder, add it again",
                reason=error.reason,
                field="spec.model",
            ) from error
        except UnknownModelError as error:
            raise ModelNotFoundError(str(error.args[0]), reason="NO_SUCH_MODEL", field="spec.model") from error
        if model.info.weights_sha256 != weights_sha256:
            raise _replaced(name)
        with self._changing:
            self._loaded[key] = _Loaded(model, self._clock())
            added = [other for other, loaded in self._loaded.items() if loaded.model.info.origin == "added"]
            for other in added[:-_MOST_ADDED]:
                del self._loaded[other]
        return model

    def _refusal(self, key: Key) -> StoreError | None:
        """Return why a model was refused, if the store has not changed since."""
        stored = stored_models()
        if stored is not self._refused_of:
            self._refused.clear()
            self._refused_of = stored
        return self._refused.get(key)


def _replaced(name: str) -> UnavailableError:
    return UnavailableError(
        f"{name} was replaced after this request began; send it again", reason="MODEL_REPLACED", retry_after=0.1
    )
