"""One recording: written once, read as often as needed, also while it is written."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from recond_gateway.spool.errors import ReadingStoppedError, SpoolDamagedError, SpoolError
from recond_gateway.spool.frames import (
    END_BYTES,
    HEAD_BYTES,
    BrokenFrameError,
    Buffer,
    FrameCipher,
    Holds,
    Part,
    pack,
    read_head,
    read_sealed,
    unpack,
    write_all,
)
from recond_gateway.spool.room import DiskRoom
from recond_gateway.spool.tail import Held, Record, Tail

_MARK_EVERY: Final = 1024
_ADVISED_BYTES: Final = 8 << 20
_WRITTEN_BACK_BYTES: Final = 4 * _ADVISED_BYTES
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Recording:
    """Records of a scan in their order; made by `Spool.begin` and `Spool.open`.

    One thread at a time appends (others wait), any number of threads read.

    Parameters
    ----------
    path
        Its file, which holds the preamble and the first frame.
    cipher
        Of the file.
    scan_id, part, about
        What it is.
    first_offset
        Where the first record begins.
    room
        The bound of the spool.
    tail
        Memory for the newest records.
    """

    def __init__(
        self,
        path: Path,
        cipher: FrameCipher,
        scan_id: str,
        part: Part,
        about: Mapping[str, object],
        first_offset: int,
        room: DiskRoom,
        tail: Tail,
    ) -> None:
        self.scan_id: Final = scan_id
        self.part: Final = part
        self.about: Final = about
        self._path = path
        self._cipher = cipher
        self._room = room
        self._tail = tail
        self._first_offset = first_offset
        self._end = first_offset
        self._count = 0
        self._marks = array("Q")
        """Offsets of every 1024th record, as far as they are known."""
        self._file = -1
        self._complete: bool | None = None
        self._advised = 0
        self._damage = ""
        self._removed = False
        self._torn_bytes = 0
        self._stops = 0
        self._readers = 0
        self._writing = threading.Lock()
        self._changed = threading.Condition()

    @property
    def count(self) -> int:
        """Records so far."""
        return self._count

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return self._end

    @property
    def complete(self) -> bool | None:
        """None while it is written; then whether everything arrived, False also for what a process left behind when it died."""
        return self._complete

    @property
    def removed(self) -> bool:
        """Whether it was removed: there is nothing to read any more."""
        return self._removed

    @property
    def torn_bytes(self) -> int:
        """Bytes of a last record that a crash cut off, and which were removed."""
        return self._torn_bytes

    @property
    def busy(self) -> bool:
        """Whether it is being written or read."""
        return self._complete is None or self._readers > 0

    def append(self, kind: int, *buffers: Buffer) -> int:
        """Add a record; when this returns, it survives the death of the process.

        Parameters
        ----------
        kind
            Any number.
        buffers
            Contiguous; copied. As few and as large as can be: the best is some hundred KB in a record.

        Returns
        -------
        int
            Number of the record.

        Raises
        ------
        SpoolFullError
            If there is no room; what was appended before stays, and appending may be tried again.
        SpoolError
            If the disk fails, or the recording was removed.
        ValueError
            If it is finished, or the record is larger than 256 MiB.
        """
        plain = pack(Holds.RECORD, kind, buffers)
        with self._writing:
            self._check_open()
            number = self._count
            size = self._write(number + 1, plain)
            with self._changed:
                if number % _MARK_EVERY == 0:
                    self._marks.append(self._end)
                self._end += size
                self._count += 1
                self._tail.add(number, Record(kind, unpack(plain).buffers), len(plain), self._end)
                self._changed.notify_all()
            self._leave_cache()
            return number

    def finish(self, complete: bool) -> None:
        """End the recording; readers see the end before the disk has everything.

        Parameters
        ----------
        complete
            Whether everything arrived.

        Raises
        ------
        SpoolError
            If the disk fails; readers of this process see the end nevertheless.
        """
        with self._writing:
            if self._complete is not None or self._file < 0:
                return
            file, self._file = self._file, -1
            failed = self._write_end(file, complete)
        # Not with the lock held: this may take seconds, in which the recording may well be removed.
        try:
            if not self._removed:
                _sync(file, self._path.parent)
        except OSError as error:
            failed = failed or error
        finally:
            os.close(file)
        if (
            failed is not None and failed.errno not in _FULL
        ):  # on a full disk the next process finds it cut off, no more
            raise self.disk_error(failed)

    def read(self, start: int = 0, wait: bool = True) -> Iterator[Record]:
        """Read records, following the writer.

        Parameters
        ----------
        start
            Number of the first record.
        wait
            Whether to wait for records until the recording is finished; otherwise it ends with what is there.

        Yields
        ------
        Record
            In order.

        Raises
        ------
        ReadingStoppedError
            If `close_readers` was called or the recording was removed.
        SpoolDamagedError
            If the file is not what was written.
        """
        return self._follow(start, wait, self._stops)

    def close_readers(self) -> None:
        """Wake the readers that are there, which raise `ReadingStoppedError`; new ones may come."""
        with self._changed:
            self._stops += 1
            self._changed.notify_all()

    def remove(self) -> None:
        """Remove the file; readers are woken, and nothing can be appended. For `Spool.remove`, which knows the other part."""
        with self._writing, self._changed:
            if self._removed:
                return
            held = self._end + (END_BYTES if self._complete is None else 0)
            self._removed = True
            if self._complete is None:
                self._complete = False
            self._stops += 1
            self._tail.clear()
            self._close_file()
            self._changed.notify_all()
            try:
                self._path.unlink(missing_ok=True)
            except OSError as error:
                msg = f"Scan {self.scan_id} cannot be removed from the spool: {error.strerror}. Check the disk of the spool."
                raise SpoolError(msg, self.scan_id) from error
            self._room.count(-held)

    def close(self) -> None:
        """Let go of the file as it is, as if the process ended."""
        with self._writing, self._changed:
            self._stops += 1
            self._tail.clear()
            self._close_file()
            self._changed.notify_all()

    def start_writing(self, file: int) -> None:
        """Take an open file to append to; called once, by the spool."""
        self._file = file

    def start_reading(self, file: int, end: tuple[int, bool] | None) -> None:
        """Take over what a process left; called once, by the spool.

        Parameters
        ----------
        file
            Open for writing too, because a torn last record is cut off; closed by the caller.
        end
            Number of records and whether everything arrived, None if there is no last frame.
        """
        size = os.fstat(file).st_size
        self._complete = end is not None and end[1]
        if end is not None:
            self._count, self._end = end[0], size
            return
        offset = self._first_offset
        try:
            while (head := read_head(file, offset)) is not None:
                if self._count % _MARK_EVERY == 0:
                    self._marks.append(offset)
                offset += HEAD_BYTES + head.length
                self._count += 1
        except BrokenFrameError as error:
            self._damage = str(error)
            self._end = size
            return
        self._end = offset
        if offset < size:
            self._torn_bytes = size - offset
            os.ftruncate(file, offset)
            self._room.count(-self._torn_bytes)

    def disk_error(self, error: OSError) -> SpoolError:
        """Return the error to raise for one of the disk."""
        if error.errno in _FULL:
            return self._room.disk_full(self.scan_id)
        msg = f"The recording of scan {self.scan_id} cannot be written: {error.strerror}. Check the disk of the spool."
        return SpoolError(msg, self.scan_id)

    def _write_end(self, file: int, complete: bool) -> OSError | None:
        """Write the last frame and let readers know; return what went wrong."""
        head, sealed = self._cipher.seal(self._count + 1, pack(Holds.END, int(complete)))
        failed: OSError | None = None
        try:
            write_all(file, self._end, (head, sealed))
        except OSError as error:
            failed = error
            self._room.count(-END_BYTES)
        with self._changed:
            self._end += 0 if failed else END_BYTES
            self._complete = complete
            self._drop_tail_if_unread()
            self._changed.notify_all()
        return failed

    def _check_open(self) -> None:
        if self._removed:
            msg = f"The recording of scan {self.scan_id} was removed."
            raise SpoolError(msg, self.scan_id)
        if self._complete is not None:
            msg = f"the recording of scan {self.scan_id} is finished: nothing can be appended"
            raise ValueError(msg)
        if self._file < 0:
            msg = f"The spool with the recording of scan {self.scan_id} was closed."
            raise SpoolError(msg, self.scan_id)

    def _write(self, sequence: int, plain: bytes) -> int:
        """Write a frame at the end; return its size."""
        head, sealed = self._cipher.seal(sequence, plain)
        size = len(head) + len(sealed)
        self._room.take(size, self.scan_id)
        try:
            write_all(self._file, self._end, (head, sealed))
        except OSError as error:
            self._room.count(-size)
            with contextlib.suppress(
                OSError
            ):  # what is left of the frame is overwritten by the next, or cut off when it is found
                os.ftruncate(self._file, self._end)
            raise self.disk_error(error) from error
        return size

    def _leave_cache(self) -> None:
        """Have what was written go to the disk, and out of the page cache once it is there.

        Little of it is read again, and a cache that fills up makes every further page cost the search for one to evict: measured on
        a machine without free memory, half the processor time of writing.
        """
        while self._end - self._advised >= _ADVISED_BYTES:
            for start in (self._advised, self._advised - _WRITTEN_BACK_BYTES):  # written to the disk now; there by now
                if start >= 0:
                    with contextlib.suppress(OSError):
                        os.posix_fadvise(self._file, start, _ADVISED_BYTES, os.POSIX_FADV_DONTNEED)
            self._advised += _ADVISED_BYTES

    def _close_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _drop_tail_if_unread(self) -> None:
        if self._complete is not None and self._readers == 0:
            self._tail.clear()

    def _follow(self, number: int, wait: bool, stops: int) -> Iterator[Record]:
        file, offset = -1, -1
        with self._changed:
            self._readers += 1
        try:
            while self._await(number, wait, stops):
                with self._changed:
                    held = self._tail.get(number)
                if held is None:
                    file = self._open() if file < 0 else file
                    offset = self._offset_of(file, number) if offset < 0 else offset
                    held = self._read_at(file, offset, number)
                offset = held.next_offset
                number += 1
                yield held.record
        finally:
            if file >= 0:
                os.close(file)
            with self._changed:
                self._readers -= 1
                self._drop_tail_if_unread()

    def _await(self, number: int, wait: bool, stops: int) -> bool:
        """Wait for a record; return whether it is there."""
        with self._changed:
            while True:
                if self._stops != stops:
                    msg = f"The reading of scan {self.scan_id} was stopped."
                    raise ReadingStoppedError(msg, self.scan_id)
                if number < self._count:
                    return True
                if self._damage:
                    raise self._damaged(self._count, self._damage)
                if self._complete is not None or not wait:
                    return False
                self._changed.wait()

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            msg = f"The recording of scan {self.scan_id} was removed."
            raise ReadingStoppedError(msg, self.scan_id) from None

    def _offset_of(self, file: int, number: int) -> int:
        """Return where a record begins: from the nearest mark on, the heads are read one by one."""
        with self._changed:
            mark = min(number // _MARK_EVERY, len(self._marks) - 1)
            offset = self._marks[mark] if mark >= 0 else self._first_offset
        for skipped in range(max(mark, 0) * _MARK_EVERY, number):
            try:
                head = read_head(file, offset)
            except BrokenFrameError as error:
                raise self._damaged(skipped, str(error)) from None
            if head is None:
                raise self._damaged(skipped, "the file is shorter than it was")
            offset += HEAD_BYTES + head.length
        return offset

    def _read_at(self, file: int, offset: int, number: int) -> Held:
        try:
            head = read_head(file, offset)
            if head is None:
                raise self._damaged(number, "the file is shorter than it was")
            if head.sequence != number + 1:
                raise self._damaged(number, "another record is in its place")
            contents = self._cipher.open(head, read_sealed(file, offset, head.length))
        except BrokenFrameError as error:
            raise self._damaged(number, str(error)) from None
        if contents.holds != Holds.RECORD:
            raise self._damaged(number, "another record is in its place")
        return Held(Record(contents.kind, contents.buffers), 0, offset + HEAD_BYTES + head.length)

    def _damaged(self, number: int, what: str) -> SpoolDamagedError:
        msg = (
            f"Record {number} of the {self.part} of scan {self.scan_id} in the spool is damaged ({what}): check the disk; "
            "what lies before it can be read."
        )
        return SpoolDamagedError(msg, self.scan_id)


def _sync(file: int, folder: Path) -> None:
    """Have the disk itself hold a file, and its name."""
    os.fsync(file)
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(place)
    finally:
        os.close(place)
