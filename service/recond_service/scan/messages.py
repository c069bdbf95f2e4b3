"""What the pipeline and the sandbox of a scan say to each other.

To the sandbox: `OpenScan`, with one descriptor a part; of an acquisition stream then `StreamHeader`, `Acquisitions` and
`EndOfStream`; `Credit`; an `Image` for every frame; `SlicesAnswered` or `SlicesFailed` for every block of slices; `Finish`. From
it: `FramePrepared`, `ImageAssembled`, `AcquisitionsConsumed`, `FramesComplete`, `SlicesPrepared`, `HeadFinished`, `FileWritten`,
`ScanSummary`, or an error.
"""

from __future__ import annotations

from recond_models.sampling import Sampling
from recond_service.processes import FrameLayout, Message, SliceLayout
from recond_service.types import Figures, Finding, HeadResult, ImagePlace, OutputFormat, ScanRequest, StackSummary


class MoreParts(Message, frozen=True):
    """Parts of the `OpenScan` that follows, a descriptor each: the first of them, where one message cannot carry all."""


class OpenScan(Message, frozen=True):
    """A scan to read; its parts come along, a descriptor each, after those of `MoreParts`.

    Parameters
    ----------
    request
        What is to be done with it.
    nice
        How far the process steps back for others on a busy machine.
    memory_bytes, most_memory_bytes
        Address space beyond what the loaded parsers take, for this request and for any later one.
    cpu_seconds
        CPU time that reading it may take.
    file_bytes
        Largest block of shared memory.
    """

    request: ScanRequest
    nice: int
    memory_bytes: int
    most_memory_bytes: int
    cpu_seconds: int
    file_bytes: int


class StreamHeader(Message, frozen=True):
    """The ISMRMRD header of an acquisition stream, `size` bytes in a shared block that comes along."""

    size: int


class Acquisitions(Message, frozen=True):
    """Readouts of a stream; a shared block comes along that holds headers, trajectories and samples one after another.

    Parameters
    ----------
    count
        Number of readouts.
    headers, trajectories, samples
        Length of each in the block, bytes.
    """

    count: int
    headers: int
    trajectories: int
    samples: int


class EndOfStream(Message, frozen=True):
    """There are no more readouts."""


class Credit(Message, frozen=True):
    """Leave to send so many more frames."""

    frames: int


class Image(Message, frozen=True):
    """The finished image of a frame, in a shared block that comes along; gives leave to send another frame, too."""

    number: int


class Finish(Message, frozen=True):
    """All images are there: score and write them.

    Parameters
    ----------
    residuals
        ``||A x - y|| / ||y||`` of each image, None where the model does not fit the samples.
    model, version
        What made the images.
    """

    residuals: tuple[float | None, ...]
    model: str
    version: str


class SlicesAnswered(Message, frozen=True):
    """What a head says of a block of slices, in a shared block that comes along; gives leave to send another one, too."""

    task: int


class SlicesFailed(Message, frozen=True):
    """A head has no answer to a block of slices; gives leave to send another one, too.

    Parameters
    ----------
    task
        Number of the block.
    problem
        Why, in a sentence.
    refusal
        The same as a stable name: ``"HEAD_FAILED"``, or what the images were refused for.
    """

    task: int
    problem: str
    refusal: str = "HEAD_FAILED"


ToScan = (
    MoreParts
    | OpenScan
    | StreamHeader
    | Acquisitions
    | EndOfStream
    | Credit
    | Image
    | SlicesAnswered
    | SlicesFailed
    | Finish
)


class FramePrepared(Message, frozen=True):
    """A frame for a model, in a shared block that comes along.

    Parameters
    ----------
    number
        Counts the frames of the scan from 0.
    layout
        Sizes of the frame and its image.
    sampling
        How it was sampled.
    expected
        How many frames there will be, 0 where only the last readout tells.
    place
        Where its image belongs; None for a plane of a 3-D scan, whose images come as `ImageAssembled`.
    """

    number: int
    layout: FrameLayout
    sampling: Sampling
    expected: int
    place: ImagePlace | None


class ImageAssembled(Message, frozen=True):
    """A slice of a 3-D scan, in a shared block that comes along; sent before the `Finish` that follows its last plane is answered.

    Parameters
    ----------
    place
        Where it belongs.
    rows, columns
        Of the image.
    is_complex
        Pixels are complex64; else float32.
    uncertainty
        The standard deviations follow the pixels, float32.
    """

    place: ImagePlace
    rows: int
    columns: int
    is_complex: bool
    uncertainty: bool


class SlicesPrepared(Message, frozen=True):
    """A block of slices for a head, in a shared block that comes along.

    Parameters
    ----------
    task
        Number of the block, for the answer.
    head, version
        What is to run on it.
    layout
        Sizes of the block and of the answer.
    """

    task: int
    head: str
    version: str
    layout: SliceLayout


class HeadFinished(Message, frozen=True):
    """A result of a head; its label map and confidence or attention maps, `HeadResult.map_bytes`, come along in a block."""

    result: HeadResult


class AcquisitionsConsumed(Message, frozen=True):
    """Nothing of an `Acquisitions` message is waiting any more."""


class FramesComplete(Message, frozen=True):
    """There are so many frames, all of which were sent."""

    count: int


class VisitsCompared(Message, frozen=True):
    """What changed between visits; a JSON object and a table (CSV) come along in a shared block, one after another.

    Parameters
    ----------
    report_bytes, table_bytes
        Length of each.
    """

    report_bytes: int
    table_bytes: int


class FileWritten(Message, frozen=True):
    """An output file, `size` bytes in a descriptor that comes along; `stack` and `part` as in `OutputFile` of the results."""

    format: OutputFormat
    size: int
    stack: str
    part: str


class ScanSummary(Message, frozen=True):
    """The end of a scan that went well.

    Parameters
    ----------
    fit_for_another
        The process may serve another request.
    figures
        Quality figures.
    reference
        Where the reference came from, empty without one.
    order
        Numbers of the images in the order of the output volume.
    shape
        (images, rows, columns).
    stacks
        What the output consists of.
    findings
        What was noticed.
    seconds
        Time by stage.
    """

    fit_for_another: bool
    figures: Figures
    reference: str
    order: tuple[int, ...]
    shape: tuple[int, ...]
    stacks: tuple[StackSummary, ...]
    findings: tuple[Finding, ...]
    seconds: dict[str, float]


FromScan = (
    FramePrepared
    | ImageAssembled
    | AcquisitionsConsumed
    | FramesComplete
    | SlicesPrepared
    | HeadFinished
    | VisitsCompared
    | FileWritten
    | ScanSummary
)
