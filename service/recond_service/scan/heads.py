"""The heads of a scan: which slices go to model servers when, who guards whom, and what comes of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recond_models.heads.framing import Framing, SpacingError, VolumeError, frame, frame_slice
from recond_models.heads.measurements import Grid, MeasurementError
from recond_service.processes import SliceLayout
from recond_service.scan.attention import MOST_BYTES, attention_bytes, with_attention
from recond_service.scan.head_runs import UNKNOWN, Block, HeadRun, Volume, classified, lesions, refused, segmented
from recond_service.series import Series, Stack, affine_of
from recond_service.types import FindingList, FinishedImage, HeadRequest, HeadResult

GUARD = "series"
"""The head that tells what a series shows."""

_GUARD_SLICES = 9
_MIDDLE = (0.25, 0.75)
_SURE, _DOUBTFUL = 0.8, 0.5
_DISTORTED = 0.4
_MISTAKEN = frozenset({"PD", "T2*"})
"""What other contrasts are taken for where aliasing or motion is severe; the guard knows both from label maps alone."""

_MOST_VOLUMES = 16


@dataclass(frozen=True, slots=True)
class ReadyHead:
    """A result that is ready to be handed out.

    Parameters
    ----------
    result
        What was found.
    wanted
        The client asked for it.
    maps
        The label map and its confidence, or the attention maps; empty where there are none.
    """

    result: HeadResult
    wanted: bool
    maps: tuple[NDArray[Any], ...] = ()


@dataclass(slots=True, eq=False)
class _OnVolume:
    """What runs on a volume."""

    volume: Volume
    without: frozenset[str] = frozenset()
    guards: list[HeadRun] = field(default_factory=list)
    runs: list[HeadRun] = field(default_factory=list)
    begun: bool = False

    @property
    def guarded(self) -> bool:
        """All that has to be known before the heads for volumes may run is known."""
        return all(run.missing == 0 or run.problem for run in self.guards)

    @property
    def done(self) -> bool:
        return self.begun and self.guarded and all(run.missing == 0 or run.problem for run in self.runs)


class Heads:
    """The heads of a scan.

    Slices are handed out by `next_block` one block at a time; answers come back in any order. Heads that look at single slices run
    as images come, those that look at volumes when the series is complete and what guards them has answered.

    Parameters
    ----------
    requests
        The heads that are wanted, and one that guards them.
    findings
        Gets what is odd.
    attention
        Heads that classify give attention maps of a volume, as far as their networks can.
    """

    def __init__(self, requests: Sequence[HeadRequest], findings: FindingList, *, attention: bool = False) -> None:
        self._requests = tuple(requests)
        self._findings = findings
        self._attention = attention
        self._blocks: deque[Block] = deque()
        self._sent: dict[int, Block] = {}
        self._next = 0
        self._single: list[HeadRun] = []
        self._volumes: list[_OnVolume] = []
        self._ready: deque[ReadyHead] = deque()

    # --- what comes ---

    def image_ready(self, image: FinishedImage) -> None:
        """Have the heads for single slices look at an image."""
        for request in self._requests:
            if not request.wanted or request.info.contract.whole_volumes:
                continue
            try:
                run = _slice_run(request, Volume("", 0, (image,), None), [0])
            except VolumeError as error:
                self._findings.info("head-refused", f"{request.info.name} does not run on an image: {error}")
                continue
            self._single.append(run)
            self._blocks.extend(run.blocks())

    def series_ready(self, series: Series, without: frozenset[str] = frozenset()) -> None:
        """Have the heads for volumes look at a complete series.

        Parameters
        ----------
        series
            All images.
        without
            Heads that need not run on them.
        """
        if self._attention:
            self._tell_of_attention()
        for stack in series.stacks:
            for volume in self._volumes_of(stack):
                on_volume = _OnVolume(volume, without)
                self._volumes.append(on_volume)
                self._guard(on_volume)
        self._advance()

    def answered(self, task: int, *arrays: NDArray[Any]) -> None:
        """Take the answer to a block.

        Parameters
        ----------
        task
            Number of the block.
        arrays
            The arrays of a `PixelAnswer`; or the probabilities of slices, and their attention maps if these were wanted.

        Raises
        ------
        KeyError
            No such block is out.
        """
        block = self._sent.pop(task)
        if block.layout.answer == "slices":
            block.run.take_slices(block.first, *arrays)
        else:
            block.run.take_pixels(block.first, *arrays)
        self._settle(block.run)

    def failed(self, task: int, problem: str, refusal: str = "HEAD_FAILED") -> None:
        """Take note that a block has no answer: the head has no result for the volume, and everything else goes on.

        Parameters
        ----------
        task
            Number of the block.
        problem, refusal
            Why, in a sentence and as a stable name.

        Raises
        ------
        KeyError
            No such block is out.
        """
        run = self._sent.pop(task).run
        if not run.problem:
            run.problem, run.refusal = problem, refusal
            if refusal == "HEAD_FAILED":
                self._findings.warn("head-failed", f"{run.request.info.name} failed on the images: {problem}")
            else:
                self._findings.warn("head-refused", f"{run.request.info.name} did not run: {problem}")
            self._blocks = deque(block for block in self._blocks if block.run is not run)
        self._settle(run)

    # --- what goes ---

    @property
    def pending(self) -> bool:
        """There is a block to send."""
        return bool(self._blocks)

    @property
    def finished(self) -> bool:
        """Nothing is to be sent, or on its way."""
        return not self._blocks and not self._sent

    def next_block(self) -> tuple[int, Block]:
        """Return the next block and its number."""
        block = self._blocks.popleft()
        self._next += 1
        self._sent[self._next] = block
        return self._next, block

    def layout_of(self, task: int) -> SliceLayout:
        """Return the sizes of the block of that number, which is out.

        Raises
        ------
        KeyError
            It is not.
        """
        return self._sent[task].layout

    def ready(self) -> Iterator[ReadyHead]:
        """Yield the results that have become ready, each once."""
        while self._ready:
            yield self._ready.popleft()

    # --- guarding ---

    def _guard(self, on_volume: _OnVolume) -> None:
        """Have a volume looked at before heads for volumes may run on it."""
        for request in self._requests:
            if request.info.contract.whole_volumes:
                continue
            volume = on_volume.volume
            count = len(volume.images)
            first, last = (round(share * (count - 1)) for share in _MIDDLE)
            numbers = sorted({int(n) for n in np.linspace(first, last, min(_GUARD_SLICES, count)).round()})
            try:
                run = _slice_run(request, volume, numbers)
            except VolumeError as error:
                if request.wanted:
                    self._refuse(request, volume, error.reason, str(error))
                continue
            if self._attention and request.wanted:
                self._have_explained(run)
            on_volume.guards.append(run)
            self._blocks.extend(run.blocks())

    def _tell_of_attention(self) -> None:
        """Say which of the heads that are wanted have no attention map."""
        wanted = [request.info for request in self._requests if request.wanted]
        for info in wanted:
            if not info.contract.whole_volumes and min(info.attention) == 0:
                self._findings.info(
                    "attention-none",
                    f"{info.name} has no attention map: its network is not of the family series, whose scores add up over places.",
                )
        if wanted and all(info.contract.whole_volumes for info in wanted):
            self._findings.info(
                "attention-none", "Attention maps are those of heads that classify, such as series; none was named."
            )

    def _have_explained(self, run: HeadRun) -> None:
        """Have a run bring its attention maps, if it can."""
        if attention_bytes(run) > MOST_BYTES:
            self._findings.warn(
                "attention-too-large",
                f"The attention maps of {run.request.info.name} would have {attention_bytes(run) >> 20} MiB, more than "
                f"{MOST_BYTES >> 20}: send smaller images for them.",
            )
            return
        run.attention = run.request.info.attention

    def _advance(self) -> None:
        """Begin what may begin."""
        for on_volume in self._volumes:
            if not on_volume.begun and on_volume.guarded:
                on_volume.begun = True
                self._begin(on_volume)
            if on_volume.done:
                self._hand_out(on_volume)
        self._volumes = [on_volume for on_volume in self._volumes if not on_volume.done]

    def _begin(self, on_volume: _OnVolume) -> None:
        volume = on_volume.volume
        known = [classified(run) for run in on_volume.guards if run.missing == 0]
        wanted = [
            request
            for request in self._requests
            if request.info.contract.whole_volumes and request.info.name not in on_volume.without
        ]
        pixels = volume.pixels() if wanted else None
        for request in wanted:
            try:
                if pixels is None:
                    continue
                framing = _framed(request, volume, pixels)
                self._check_known(request, known)
            except _RefusedError as refusal:
                self._refuse(request, volume, refusal.reason, str(refusal))
                continue
            run = HeadRun(request, volume, framing, range(len(volume.images)))
            on_volume.runs.append(run)
            self._blocks.extend(run.blocks())

    def _check_known(self, request: HeadRequest, known: Sequence[HeadResult]) -> None:
        """Raise _RefusedError for images that the head was not made for; warn where they may be."""
        contract = request.info.contract
        for group, allowed, reason in (
            ("anatomy", (contract.anatomy,) if contract.anatomy else (), "WRONG_ANATOMY"),
            ("contrast", contract.contrasts, "WRONG_CONTRAST"),
        ):
            scores = [score for result in known for score in result.scores if score.group == group]
            if not allowed or not scores:
                continue
            fitting = sum(score.probability for score in scores if score.name in allowed)
            best = max(scores, key=lambda score: score.probability)
            says = f"{request.info.name} is made for {group} {' or '.join(allowed)}, and these images look like {best.name}"
            unsure = any((group, UNKNOWN) in result.answers for result in known)
            mistakable = best.name in _MISTAKEN and _severe_motion(known) >= _DISTORTED
            only_doubted = group == "contrast" and (unsure or mistakable)
            if 1 - fitting >= _SURE and not only_doubted:
                raise _RefusedError(
                    reason,
                    f"{says} (probability {best.probability:.2f}): give images that it is made for, or leave it out",
                )
            if 1 - fitting >= _DOUBTFUL:
                self._findings.warn(
                    "head-outside-contract", f"{says} (probability {best.probability:.2f}): do not rely on its result."
                )

    def _refuse(self, request: HeadRequest, volume: Volume, reason: str, problem: str) -> None:
        self._findings.warn("head-refused", f"{request.info.name} did not run: {problem}")
        self._ready.append(ReadyHead(refused(request, volume, reason, problem), request.wanted))

    # --- results ---

    def _settle(self, run: HeadRun) -> None:
        if run in self._single:
            if run.missing and not run.problem:
                return
            self._single.remove(run)
            if not run.problem:
                self._ready.append(ReadyHead(classified(run), run.request.wanted))
            return
        self._advance()

    def _hand_out(self, on_volume: _OnVolume) -> None:
        for run in on_volume.guards:
            if run.problem:
                result = refused(run.request, run.volume, run.refusal, run.problem)
                self._ready.append(ReadyHead(result, run.request.wanted))
            else:
                explained, maps = with_attention(run, classified(run))
                self._ready.append(ReadyHead(explained, run.request.wanted, maps))
        tissue = next((run for run in on_volume.runs if run.contract.task == "segmentation"), None)
        for run in on_volume.runs:
            if run.problem:
                self._ready.append(
                    ReadyHead(refused(run.request, run.volume, run.refusal, run.problem), run.request.wanted)
                )
                continue
            try:
                result = segmented(run) if run.contract.task == "segmentation" else lesions(run, tissue)
            except MeasurementError as error:
                self._refuse(run.request, run.volume, error.reason, str(error))
                continue
            self._ready.append(ReadyHead(result, run.request.wanted, (run.labels, run.confidence)))

    def _volumes_of(self, stack: Stack) -> Iterator[Volume]:
        """Yield the volumes of a stack, at most `_MOST_VOLUMES`."""
        slices = stack.slices or len(stack.images)
        for number in range(len(stack.images) // slices):
            if number == _MOST_VOLUMES:
                self._findings.warn(
                    "heads-on-first-volumes",
                    f"Stack {stack.name} has {stack.volumes} volumes: heads ran on the first {_MOST_VOLUMES}; send others apart.",
                )
                return
            images = stack.images[number * slices : (number + 1) * slices]
            yield Volume(stack.name, number, images, self._grid(images))

    def _grid(self, images: Sequence[FinishedImage]) -> Grid | None:
        if any(image.geometry is None for image in images):
            return None
        try:
            return Grid.from_nifti(affine_of(images, self._findings))
        except MeasurementError as error:
            self._findings.warn("geometry-impossible", f"Nothing is measured in these images: {error}")
            return None


def _severe_motion(known: Iterable[HeadResult]) -> float:
    """Return how probable severe motion is, which is what strong aliasing looks like, too."""
    scores = (score for result in known for score in result.scores if (score.group, score.name) == ("motion", "severe"))
    return max((score.probability for score in scores), default=0.0)


class _RefusedError(Exception):
    """A head does not run on a volume."""

    def __init__(self, reason: str, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason


def _slice_run(request: HeadRequest, volume: Volume, numbers: Sequence[int]) -> HeadRun:
    """Return a head that looks at single slices of a volume; raise VolumeError where it cannot."""
    framing = frame_slice(np.stack([volume.images[number].pixels for number in numbers]))
    return HeadRun(request, volume, framing, numbers)


def _framed(request: HeadRequest, volume: Volume, pixels: NDArray[np.float32]) -> Framing:
    """Return what a head sees of a volume; raise _RefusedError where it cannot."""
    contract = request.info.contract
    try:
        if volume.grid is None:
            raise SpacingError(
                "the images do not say how large their voxels are: give files with a geometry, or the spacing with the images"
            )
        spacing = volume.grid.spacing
        framing = frame(pixels, spacing, contract.fewest_slices)
    except VolumeError as error:
        raise _RefusedError(error.reason, str(error)) from error
    if max(spacing[1:]) > contract.coarsest_mm[0] or spacing[0] > contract.coarsest_mm[1]:
        raise _RefusedError(
            "TOO_COARSE",
            f"pixels up to {contract.coarsest_mm[0]:g} mm and slices up to {contract.coarsest_mm[1]:g} mm apart are known, got "
            f"{spacing[1]:.3g} x {spacing[2]:.3g} mm and {spacing[0]:.3g} mm",
        )
    return framing
