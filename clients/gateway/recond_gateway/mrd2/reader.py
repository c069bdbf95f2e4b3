"""Streams of MRD version 2 in, messages of version 1 out."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

import mrd
import numpy as np
from numpy.typing import NDArray

from recond_gateway.mrd.errors import ProtocolError
from recond_gateway.mrd.layouts import ACQUISITION_HEADER, WAVEFORM_HEADER, AcquisitionFlag
from recond_gateway.mrd.limits import LARGEST_BATCH, WireLimits
from recond_gateway.mrd.messages import Acquisitions, Header, Waveforms
from recond_gateway.mrd2.header import header_xml
from recond_gateway.mrd2.live_stream import LiveInput
from recond_gateway.mrd2.schema import read_preamble

_LARGEST_COUNTER: Final = 65535
_USER: Final = 8
_VECTORS: Final = ("position", "read_dir", "phase_dir", "slice_dir", "patient_table_position")
_COUNTERS: Final = (
    "kspace_encode_step_1",
    "kspace_encode_step_2",
    "average",
    "slice",
    "contrast",
    "phase",
    "repetition",
    "set",
    "segment",
)
_ENDS: Final = AcquisitionFlag.LAST_IN_SLICE | AcquisitionFlag.LAST_IN_REPETITION | AcquisitionFlag.LAST_IN_MEASUREMENT


class Mrd2Reader:
    """Reads one stream; what it holds is given as the messages that `mrd.parser.MrdParser` gives of version 1.

    Counters that the stream leaves out are 0, and an unsaid centre of the echo is the middle of the readout.

    Parameters
    ----------
    stream
        Bytes, such as ``sys.stdin.buffer`` or a socket's file.
    limits
        How large batches and arrays may be.
    count
        Most acquisitions in a batch. A batch also ends where a slice or a repetition does, so the last lines of an image never
        wait for the next one's.

    Raises
    ------
    ProtocolError
        It is no stream of MRD version 2, of another version than the installed package, damaged, or without a header.
    """

    def __init__(self, stream: BinaryIO, limits: WireLimits | None = None, count: int = 32) -> None:
        self._limits: Final = limits or WireLimits()
        self._count: Final = count
        self._number = 0
        self.ignored: Final[Counter[str]] = Counter()
        """What was passed over, by the name of its type."""
        buffered: Any = stream if isinstance(stream, io.BufferedIOBase) else io.BufferedReader(stream)
        self._reader: Final = mrd.BinaryMrdReader(io.BytesIO(read_preamble(buffered)))
        self._input: Final = LiveInput(buffered, self._limits.data_bytes, self._limits.text_bytes)
        self._reader._stream = self._input  # noqa: SLF001 - the package has no other way to wait for no more than an item
        self.mrd_header: Final[mrd.Header] = self._read_header()
        """The header as the package has it, for `Mrd2Writer`."""
        try:
            self.header: Final = Header(header_xml(self.mrd_header))
        except (ValueError, StopIteration) as error:
            raise ProtocolError("BAD_HEADER", f"the header of the stream cannot be written as XML: {error}") from error

    def messages(self) -> Iterator[Acquisitions | Waveforms]:
        """Yield acquisitions and waveforms until the stream ends.

        Raises
        ------
        ProtocolError
            The stream is damaged or cut off. What came before it was yielded.
        """
        batch = _Batch()
        items = iter(self._reader.read_data())
        while True:
            try:
                item = self._next(items)
                acquisition = self._packed(item.value) if item is not None and item.tag == "Acquisition" else None
            except ProtocolError:
                if batch.headers:
                    yield batch.message()
                raise
            if acquisition is not None:
                header, samples, trajectory = acquisition
                size = header.nbytes + samples.nbytes + trajectory.nbytes
                if batch.headers and batch.size + size > self._limits.batch_bytes:
                    yield batch.message()
                    batch = _Batch()
                batch.add(header, samples, trajectory)
                if len(batch.headers) < self._count and not int(header["flags"]) & _ENDS:
                    continue
            if batch.headers:
                yield batch.message()
                batch = _Batch()
            if item is None:
                return
            if item.tag == "WaveformUint32":
                yield _waveform(item.value)
            elif acquisition is None:
                self.ignored[item.tag] += 1

    def _read_header(self) -> mrd.Header:
        header = self._guarded(self._reader.read_header)
        if header is None:
            raise ProtocolError("HEADER_MISSING", "the stream has no header, which tells the matrix: send it with one")
        return header

    def _next(self, items: Iterator[Any]) -> Any:  # noqa: ANN401 - the package has no types
        """Return the next item, None at the end."""
        self._input.next_item()
        item = self._guarded(lambda: next(items, None))
        self._number += 1
        return item

    def _guarded(self, read: Any) -> Any:  # noqa: ANN401
        """Return what a call of the package does; whatever that raises on damaged bytes is one error."""
        where = f"item {self._number}" if self._number else "the beginning"
        try:
            return read()
        except (ProtocolError, OSError):
            raise
        except EOFError as error:
            raise ProtocolError(
                "TRUNCATED", f"the stream ends within {where}, without its end mark: send it whole"
            ) from error
        except Exception as error:
            raise ProtocolError(
                "BAD_STREAM", f"the stream is damaged at {where} ({type(error).__name__}: {error}): send it again"
            ) from error

    def _packed(
        self, acquisition: mrd.Acquisition
    ) -> tuple[NDArray[np.void], NDArray[np.complex64], NDArray[np.float32]]:
        """Return header (), samples (channels, samples) and trajectory (samples, dimensions)."""
        head = acquisition.head
        samples = np.ascontiguousarray(acquisition.data, "<c8")
        trajectory = np.ascontiguousarray(acquisition.trajectory.T, "<f4")
        if samples.ndim != 2 or (trajectory.size and trajectory.shape[0] != samples.shape[1]):
            raise ProtocolError(
                "BAD_STREAM",
                f"acquisition {self._number} has samples {samples.shape} and a trajectory {acquisition.trajectory.shape}: "
                "channels x samples and dimensions x samples are expected",
            )
        header: NDArray[np.void] = np.zeros((), ACQUISITION_HEADER)

        def small(name: str, value: int | None, unsaid: int = 0) -> int:
            if value is not None and value > _LARGEST_COUNTER:
                raise ProtocolError(
                    "BAD_STREAM", f"acquisition {self._number} has {name} {value}; at most {_LARGEST_COUNTER} can be"
                )
            return unsaid if value is None else value

        channels, count = samples.shape
        header["version"], header["flags"], header["measurement_uid"] = 1, int(head.flags), head.measurement_uid
        header["scan_counter"], header["acquisition_time_stamp"] = (
            head.scan_counter or 0,
            head.acquisition_time_stamp or 0,
        )
        header["number_of_samples"] = small("samples", count)
        header["active_channels"] = header["available_channels"] = small("channels", channels)
        header["trajectory_dimensions"] = small("dimensions", trajectory.shape[1] if trajectory.size else 0)
        header["center_sample"] = small("center_sample", head.center_sample, count // 2)
        for name in ("discard_pre", "discard_post", "encoding_space_ref"):
            header[name] = small(name, getattr(head, name))
        header["sample_time_us"] = head.sample_time_us or 0
        for name in _VECTORS:
            header[name] = getattr(head, name)
        for name in _COUNTERS:
            header["idx"][name] = small(name, getattr(head.idx, name))
        for place, values in (
            (header["idx"]["user"], [min(value, _LARGEST_COUNTER) for value in head.idx.user]),
            (header["physiology_time_stamp"], head.physiology_time_stamp),
            (header["user_int"], head.user_int),
            (header["user_float"], head.user_float),
        ):
            place[: len(values)] = values[: len(place)]
        for channel in head.channel_order:
            if channel < 1024:
                header["channel_mask"][channel // 64] |= np.uint64(1 << channel % 64)
        if header.nbytes + samples.nbytes + trajectory.nbytes > LARGEST_BATCH:
            raise ProtocolError(
                "MESSAGE_TOO_LARGE",
                f"acquisition {self._number} of {channels} channels x {count} samples has over {LARGEST_BATCH} bytes",
            )
        return header, samples, trajectory if trajectory.size else np.zeros((count, 0), np.float32)


class _Batch:
    """Acquisitions on their way to one message."""

    def __init__(self) -> None:
        self.headers: list[NDArray[np.void]] = []
        self.size = 0
        self._samples: list[bytes] = []
        self._trajectories: list[bytes] = []

    def add(self, header: NDArray[np.void], samples: NDArray[np.complex64], trajectory: NDArray[np.float32]) -> None:
        self.headers.append(header)
        self._samples.append(samples.tobytes())
        self._trajectories.append(trajectory.tobytes())
        self.size += header.nbytes + samples.nbytes + trajectory.nbytes

    def message(self) -> Acquisitions:
        return Acquisitions(np.stack(self.headers), b"".join(self._samples), b"".join(self._trajectories))


def _waveform(waveform: Any) -> Waveforms:  # noqa: ANN401
    header: NDArray[np.void] = np.zeros(1, WAVEFORM_HEADER)
    samples = np.ascontiguousarray(waveform.data, "<u4")
    if samples.ndim != 2 or max(samples.shape) > _LARGEST_COUNTER:
        raise ProtocolError("BAD_STREAM", f"a waveform has samples {samples.shape}; channels x samples are expected")
    header["version"], header["flags"] = 1, waveform.flags
    for name in ("measurement_uid", "scan_counter", "time_stamp", "sample_time_us"):
        header[name] = getattr(waveform, name)
    header["waveform_id"] = min(waveform.waveform_id, _LARGEST_COUNTER)
    header["channels"], header["number_of_samples"] = samples.shape
    return Waveforms(header, samples.tobytes())
