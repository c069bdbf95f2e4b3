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

import structlog

from recond_client.calls import ImageStream
from recond_client.client import Client
from recond_client.errors import RecondError, RetryLaterError, ServiceError
from recond_client.heads import HeadResult
from recond_client.result import Image, Result
from recond_gateway.config import Pipeline
from recond_gateway.scan.feed import Feed, FeedReader
from recond_gateway.scan.groups import GroupLedger
from recond_gateway.scan.images import Origin

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0
_LONGEST_WAIT: Final = 60.0  # whatever a service that is full asks for
_DAMAGED: Final = (
    "Part of the scan could not be read from the spool any more, and the images are of what lies before it: check the disk of the "
    "spool, and repeat what is missing."
)
_KEY_DIGITS: Final = 3  # of mm
_MOST_FAILURES: Final = 5
"""How often the service may go away with a scan that it had begun, until that scan is taken for the cause."""
_GLANCE: Final = 0.05  # seconds; how exact deadlines are
_GONE_WITHOUT: Final[dict[str, dict[str, Any]]] = {
    "NO_UNCERTAINTY": {"uncertainty": False},
    "NO_PHASE": {"outputs": ("magnitude",)},
    "NO_SUCH_HEAD": {"heads": ()},
}
"""What is left out of a request where that is what is refused of it, by the reason."""

Key = tuple[float, ...]

_log = structlog.get_logger(__name__)


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
    stopped
        It was stopped before it had come to an end: what is missing can still be had.
    """

    images: int = 0
    fallbacks: int = 0
    result: Result | None = None
    error: RecondError | None = None
    away: bool = False
    stopped: bool = False


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
        # A lock of their own: the other one is held while a slow console takes an image, and a delivery can be stopped meanwhile.
        self._streams_lock = threading.Lock()
        self._streams: list[tuple[ImageStream, FeedReader]] = []
        self._replaced = threading.Event()
        self._over = threading.Event()
        """Set with either: nothing is waited for any more."""
        self._since: float | None = None
        self._began: float | None = None
        self._spare_result: Result | None = None
        self._told_away = False

    def run(self) -> Outcome:
        """Deliver everything; returns when there is nothing more to be had, or when it is stopped."""
        watch = threading.Thread(target=self._guarded, args=(self._watch,), name="recond-deadlines", daemon=True)
        watch.start()
        try:
            self.outcome.stopped = not self._primary()
            if self._feed.damaged:
                self._sink.notice(_DAMAGED)
        finally:
            self._stop.set()
            self._over.set()
            self._close_streams()
            watch.join()
            self._feed.abandon()
        return self.outcome

    def stop(self) -> None:
        """End `run` soon, with what there is; may be called from any thread."""
        self._stop.set()
        self._over.set()
        self._close_streams()

    def _primary(self) -> bool:
        """Have the scan read by the model that was asked for, or in its place; return False if that was stopped before its end."""
        asked = self._pipeline
        while True:
            try:
                result = self._read_until_done(asked.options(), "")
            except RecondError as error:
                if self._over.is_set():
                    return self._replaced.is_set()
                without = asked.model_copy(update=_GONE_WITHOUT.get(error.reason, {}))
                if without == asked:
                    return self._instead(error)
                self._sink.notice(f"{_sentence(error)} The images come without.")
                asked = without
                continue
            if result is not None:
                self.outcome.result = result
            return result is not None or self._replaced.is_set()

    def _read_until_done(self, options: dict[str, Any], reason: str) -> Result | None:
        """Have the scan read, again from its start each time that the service went away; None if that was stopped.

        Raises
        ------
        RecondError
            It is refused, or the service goes away with it again and again.
        """
        pause, failures = _FIRST_PAUSE, 0
        away_since: float | None = None
        while not self._over.is_set():
            try:
                result = self._read(options, reason)
            except (RetryLaterError, ServiceError) as error:
                if isinstance(error, ServiceError) and not _unreachable(error):
                    raise
                self._since = None
                if self._over.is_set():
                    return None
                failures += bool(error.request_id)
                away_since = away_since or self._now()
                # The scanner waits where the spool is full.
                waited = self._feed.overflowed and self._now() - away_since > _LONGEST_WAIT
                if self._feed.lost or waited or failures >= _MOST_FAILURES:
                    raise
                self.outcome.away, self.outcome.error = True, error
                if not self._told_away:
                    self._told_away = True
                    self._sink.notice(
                        f"The service is away ({error.reason or error.status}): the scan is kept, and read again."
                    )
                self._over.wait(max(pause, min(error.retry_after or 0.0, _LONGEST_WAIT)))
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                self.outcome.away, self.outcome.error = False, None
                return result
        return None

    def _instead(self, refusal: RecondError) -> bool:
        """Have a classical model make what the one that was asked for did not; return False if that was stopped before its end."""
        reason = _sentence(refusal)
        for model in self._pipeline.fallback:
            if (result := self._spare_result) is None:
                try:
                    result = self._read_until_done(self._pipeline.options(fallback=model), reason)
                except RecondError:
                    continue
            if result is None:
                return self._replaced.is_set()
            self._release(everything=True)
            self.outcome.result = result
            self.outcome.away, self.outcome.error = False, None
            self._sink.notice(
                f"{result.model or model} made the images, because the model that was asked for did not: {reason}"
            )
            self._tell_missing_heads()
            return True
        if not self._replaced.is_set():
            self.outcome.error = refusal
        return not self._over.is_set() or self._replaced.is_set()

    def _watch(self) -> None:
        """Start a classical model beside the other one as soon as an image is late, and hand out what it has of late ones.

        When all its images are out and the time has passed once more, the late model is given up.
        """
        deadline = self._pipeline.slice_deadline
        over_at: float | None = None
        spare: threading.Thread | None = None
        while not self._stop.wait(min(_GLANCE, deadline / 4)):
            if spare is None:
                since = self._since
                if since is None or self._feed.overflowed or not self._groups.overdue(deadline, since):
                    continue
                spare = threading.Thread(
                    target=self._guarded, args=(self._read_spare,), name="recond-fallback", daemon=True
                )
                spare.start()
            self._release()
            if self._spare_result is None or self._done.spare:
                continue
            over_at = over_at or self._now()
            if self._now() - over_at > deadline:
                self.outcome.result = self._spare_result
                self.outcome.away, self.outcome.error = False, None
                self._replaced.set()
                self._over.set()
                self._close_streams()
                self._tell_missing_heads()
                break
        if spare is not None:
            spare.join()

    def _read_spare(self) -> None:
        """Have the scan read by a classical model whose images wait until they are wanted."""
        reason = f"the model that was asked for took over {self._pipeline.slice_deadline:g} s"
        for model in self._pipeline.fallback:
            pause = _FIRST_PAUSE
            while not self._stop.is_set():
                try:
                    self._spare_result = self._read(self._pipeline.options(fallback=model), reason, spare=True)
                except RetryLaterError as error:
                    self._stop.wait(max(pause, min(error.retry_after or 0.0, _LONGEST_WAIT)))
                    pause = min(2 * pause, _LONGEST_PAUSE)
                except RecondError:
                    break
                else:
                    return

    def _guarded(self, target: Callable[[], None]) -> None:
        """Run what has a thread of its own: where it fails, the model that was asked for goes on."""
        try:
            target()
        except Exception:  # noqa: BLE001 - the last resort of a thread: logged
            _log.exception("fallback-failed")

    def _tell_missing_heads(self) -> None:
        if self._pipeline.heads and not self._done.heads:
            self._sink.notice(
                f"Heads ({', '.join(self._pipeline.heads)}) say nothing: the model that they run behind made no images."
            )

    def _read(self, options: dict[str, Any], reason: str, *, spare: bool = False) -> Result:
        """Have the scan read once, from its start.

        Parameters
        ----------
        options
            Keyword arguments of `recond_client.Client.stream`.
        reason
            Why a classical model is asked; empty for the model that was asked for.
        spare
            The images wait until their place is overdue.
        """
        reader = self._feed.reader()
        stream = self._open(reader, options)
        if not spare:
            self._since = self._now()
            self._began = self._began or self._since
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
            with self._streams_lock:
                self._streams.remove((stream, reader))

    def _open(self, reader: FeedReader, options: dict[str, Any]) -> ImageStream:
        stream = self._client.stream(self._header, reader, keep_images=False, **options)
        with self._streams_lock:
            self._streams.append((stream, reader))
        if self._over.is_set():
            self._close_streams()
        return stream

    def _take(self, image: Image, origin: Origin, *, spare: bool) -> None:
        key = _key_of(image)
        with self._lock:
            if key in self._done.keys:
                return
            if spare and not self._overdue(image):
                self._done.spare[key] = (image, origin)
            else:
                self._deliver(key, image, origin)

    def _overdue(self, image: Image) -> bool:
        waited = self._groups.waited(image.index, self._began or 0.0)
        return waited is not None and waited >= self._pipeline.slice_deadline

    def _deliver(self, key: Key, image: Image, origin: Origin) -> None:
        """Hand an image out; the caller holds the lock, so that images do not overtake each other."""
        self._done.keys.add(key)
        self._done.spare.pop(key, None)
        self._groups.delivered(image.index)
        self.outcome.images += 1
        self.outcome.fallbacks += bool(origin.fallback)
        self._sink.image(image, origin)

    def _release(self, *, everything: bool = False) -> None:
        """Hand out the images of the classical model that are overdue, or all of them."""
        with self._lock:
            for key, (image, origin) in list(self._done.spare.items()):
                if everything or self._overdue(image):
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
        with self._streams_lock:
            open_now = list(self._streams)
        for stream, reader in open_now:
            reader.stop()
            stream.close()


def _key_of(image: Image) -> Key:
    """Return what tells an image from others, in every reading of the scan: its counters, and where it lies.

    There are scans whose slices all have the same counters.
    """
    index, geometry = image.index, image.geometry
    counters = (index.slice, index.contrast, index.phase, index.repetition, index.set, index.stack)
    where = () if geometry is None else (*geometry.position, *geometry.slice_direction)
    return (*counters, *(round(each, _KEY_DIGITS) for each in where))


def _unreachable(error: ServiceError) -> bool:
    """Tell whether the service does not let the gateway in: a certificate has expired, perhaps, and is renewed."""
    return error.reason == "TLS_FAILED" or error.status in {"UNAUTHENTICATED", "PERMISSION_DENIED"}


def _sentence(error: RecondError) -> str:
    return " ".join(error.message.split())
