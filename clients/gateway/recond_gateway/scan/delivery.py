"""From a scan's readouts to its images, whatever happens to the service on the way.

The model that was asked for gets the readouts as they come. If it is refused or fails, or if an image is late, a classical model
reads the same scan from the start, and its images fill the gaps. If the service is away, or goes away half-way, the scan is read
again when it is back; images that were delivered are not delivered twice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from recond_client.calls import ImageStream
from recond_client.client import Client
from recond_client.errors import InputError, RecondError, RetryLaterError
from recond_client.heads import HeadResult
from recond_client.result import Image, ImageIndex, Result
from recond_gateway.config import Pipeline
from recond_gateway.scan.feed import Feed, FeedReader
from recond_gateway.scan.groups import GroupLedger
from recond_gateway.scan.images import Origin

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0
_GLANCE: Final = 0.05  # seconds; how exact deadlines are
_GONE_WITHOUT: Final[dict[str, dict[str, Any]]] = {
    "NO_UNCERTAINTY": {"uncertainty": False},
    "NO_PHASE": {"outputs": ("magnitude",)},
    "NO_SUCH_HEAD": {"heads": ()},
}
"""What is left out of a request where that is what is refused of it, by the reason."""

Key = tuple[int, int, int, int, int, int]


class Sink(Protocol):
    """Where what came of a scan goes."""

    def image(self, image: Image, origin: Origin) -> None:
        """Take an image."""
        ...

    def head(self, result: HeadResult) -> None:
        """Take what a head says."""
        ...

    def notice(self, message: str) -> None:
        """Take a sentence that the operator should read."""
        ...


@dataclass(slots=True)
class Outcome:
    """What came of a scan.

    Parameters
    ----------
    images
        How many were delivered.
    fallbacks
        How many of them a classical model made in place of the one that was asked for.
    result
        Of the model that was asked for, or of the one that took its place; None if neither came to an end.
    error
        Why there are not all images; None if there are.
    away
        The service was away until the end: there is still hope.
    """

    images: int = 0
    fallbacks: int = 0
    result: Result | None = None
    error: RecondError | None = None
    away: bool = False


@dataclass(slots=True)
class _Delivered:
    """What went out already, and what is kept in case."""

    keys: set[Key] = field(default_factory=set)
    heads: set[tuple[str, str, int, tuple[int, ...]]] = field(default_factory=set)
    spare: dict[Key, tuple[Image, Origin]] = field(default_factory=dict)


class Delivery:
    """Has one scan reconstructed.

    Parameters
    ----------
    client
        A connection to the service.
    header_xml
        MRD header as it may leave.
    feed
        The readouts.
    groups
        What belongs to which image, and since when it is complete.
    pipeline
        What is wanted.
    sink
        Gets images one at a time.
    now
        Seconds that never go back.
    """

    def __init__(
        self,
        client: Client,
        header_xml: bytes,
        feed: Feed,
        groups: GroupLedger,
        pipeline: Pipeline,
        sink: Sink,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._header = header_xml
        self._feed = feed
        self._groups = groups
        self._pipeline = pipeline
        self._sink = sink
        self._now = now
        self._lock = threading.Lock()
        self._done = _Delivered()
        self.outcome = Outcome()
        self._stop = threading.Event()
        self._streams: list[tuple[ImageStream, FeedReader]] = []
        self._replaced = threading.Event()
        self._since: float | None = None

    def run(self) -> Outcome:
        """Deliver everything; returns when there is nothing more to be had, or when it is stopped."""
        watch = threading.Thread(target=self._watch, name="recond-deadlines", daemon=True)
        watch.start()
        try:
            self._primary()
        finally:
            self._stop.set()
            self._close_streams()
            watch.join()
            self._feed.abandon()
        return self.outcome

    def stop(self) -> None:
        """End `run` soon, with what there is; may be called from any thread."""
        self._stop.set()
        self._close_streams()

    def _primary(self) -> None:
        pause, told, asked = _FIRST_PAUSE, False, self._pipeline
        while not self._stop.is_set():
            try:
                self.outcome.result = self._read(asked.options(), "")
            except RetryLaterError as error:
                self._since = None
                if self._stop.is_set() or self._replaced.is_set():
                    return
                if self._feed.overflowed:
                    self.outcome.error = error
                    return
                self.outcome.away, self.outcome.error = True, error
                if not told:
                    self._sink.notice(
                        f"The service is away ({error.reason or error.status}): the scan is kept, and read again."
                    )
                    told = True
                self._stop.wait(max(pause, error.retry_after or 0.0))
                pause = min(2 * pause, _LONGEST_PAUSE)
            except RecondError as error:
                without = asked.model_copy(update=_GONE_WITHOUT.get(error.reason, {}))
                if without != asked and not self._stop.is_set():
                    self._sink.notice(f"{_sentence(error)} The images come without.")
                    asked = without
                    continue
                if not self._stop.is_set():
                    self._instead(error)
                return
            else:
                self.outcome.away, self.outcome.error = False, None
                return

    def _instead(self, refusal: RecondError) -> None:
        """Have a classical model make what the one that was asked for did not."""
        reason = _sentence(refusal)
        for model in self._pipeline.fallback:
            if self._stop.is_set():
                return
            try:
                self.outcome.result = self._read(self._pipeline.options(fallback=model), reason)
            except RecondError:
                continue
            self._sink.notice(f"{model} made the images, because the model that was asked for did not: {reason}")
            self.outcome.away, self.outcome.error = False, None
            return
        self.outcome.error = refusal

    def _watch(self) -> None:
        """Start a classical model beside the other one as soon as an image is late."""
        deadline = self._pipeline.slice_deadline
        while not self._stop.wait(min(_GLANCE, deadline / 4)):
            since = self._since
            if since is None or self._feed.overflowed or not self._groups.overdue(deadline, since):
                continue
            reason = f"the model that was asked for took over {deadline:g} s"
            for model in self._pipeline.fallback:
                try:
                    result = self._read(self._pipeline.options(fallback=model), reason, spare=True)
                except InputError:
                    continue
                except RecondError:
                    break
                self._wait_for_the_late(result)
                return

    def _wait_for_the_late(self, result: Result) -> None:
        """Hand out what becomes overdue; when all images are out and the time has passed once more, the late model is cancelled."""
        over_at: float | None = None
        while not self._stop.wait(_GLANCE):
            self._release_overdue()
            if self._feed.recording.complete is None or not self._groups.all_delivered:
                continue
            over_at = over_at or self._now()
            if self._now() - over_at > self._pipeline.slice_deadline:
                self.outcome.result = result
                self._replaced.set()
                self._close_streams()
                return

    def _read(self, options: dict[str, Any], reason: str, *, spare: bool = False) -> Result:
        """Have the scan read once, from its start.

        Parameters
        ----------
        options
            Of the call.
        reason
            Why a classical model is asked; empty for the model that was asked for.
        spare
            The images wait until their place is overdue.
        """
        reader = self._feed.reader()
        stream = self._open(reader, options)
        if not spare:
            self._since = self._now()
        seen = 0
        try:
            for image in stream:
                origin = Origin(stream.model, stream.version, reason)
                self._take(image, origin, spare=spare)
                seen = self._take_heads(stream.head_results, seen) if not reason else seen
            result = stream.result()
            if not reason:
                self._take_heads(stream.head_results, seen)
            return result
        finally:
            reader.stop()
            stream.close()
            with self._lock:
                self._streams.remove((stream, reader))

    def _open(self, reader: FeedReader, options: dict[str, Any]) -> ImageStream:
        stream = self._client.stream(self._header, reader, keep_images=False, **options)
        with self._lock:
            self._streams.append((stream, reader))
        if self._stop.is_set():
            self._close_streams()
        return stream

    def _take(self, image: Image, origin: Origin, *, spare: bool) -> None:
        key = _key_of(image.index)
        with self._lock:
            if key in self._done.keys:
                return
            if spare and not self._overdue(image):
                self._done.spare[key] = (image, origin)
            else:
                self._deliver(key, image, origin)
        if spare:
            self._release_overdue()

    def _overdue(self, image: Image) -> bool:
        waited = self._groups.waited(image.index, self._since or self._now())
        return waited is not None and waited >= self._pipeline.slice_deadline

    def _deliver(self, key: Key, image: Image, origin: Origin) -> None:
        """Hand an image out; the caller holds the lock, so that images do not overtake each other."""
        self._done.keys.add(key)
        self._done.spare.pop(key, None)
        self._groups.delivered(image.index)
        self.outcome.images += 1
        self.outcome.fallbacks += bool(origin.fallback)
        self._sink.image(image, origin)

    def _release_overdue(self) -> None:
        with self._lock:
            for key, (image, origin) in list(self._done.spare.items()):
                if self._overdue(image):
                    self._deliver(key, image, origin)

    def _take_heads(self, results: tuple[HeadResult, ...], seen: int) -> int:
        for result in results[seen:]:
            key = (result.head, result.stack, result.volume, result.images)
            if key not in self._done.heads:
                self._done.heads.add(key)
                with self._lock:
                    self._sink.head(result)
        return len(results)

    def _close_streams(self) -> None:
        with self._lock:
            open_now = list(self._streams)
        for stream, reader in open_now:
            reader.stop()
            stream.close()


def _key_of(index: ImageIndex) -> Key:
    return (index.slice, index.contrast, index.phase, index.repetition, index.set, index.stack)


def _sentence(error: RecondError) -> str:
    return " ".join(error.message.split())
