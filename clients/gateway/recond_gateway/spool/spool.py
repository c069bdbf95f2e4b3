"""The folder with the scans on their way."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import threading
import time
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, cast, get_args

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from recond_gateway.spool.errors import SpoolDamagedError, SpoolError, SpoolKeyError, SpoolLockedError
from recond_gateway.spool.frames import (
    END_BYTES,
    HEAD_BYTES,
    MAGIC,
    PREAMBLE_BYTES,
    SALT_BYTES,
    BrokenFrameError,
    FrameCipher,
    Holds,
    Part,
    pack_about,
    read_head,
    read_preamble,
    read_sealed,
    write_all,
)
from recond_gateway.spool.recording import Recording
from recond_gateway.spool.room import DiskRoom
from recond_gateway.spool.tail import Tail, TailRoom

_SCAN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_LOCK: Final = "lock"
_CHECK: Final = "key-check"
_KNOWN: Final = b"recond"
_PARTS: Final = cast("tuple[Part, ...]", get_args(Part))
_KEY_BYTES: Final = 32


@dataclass(frozen=True)
class StoredScan:
    """What the spool holds of a scan.

    Parameters
    ----------
    scan_id
        Its id.
    about
        What `Spool.begin` was given; empty if it is damaged.
    held
        Whether the scan itself is there, and not its images alone.
    complete
        Whether everything of it arrived; False if it was cut off.
    images_held
        Whether all its images are there.
    damaged
        Whether it cannot be read at all; what else is damaged is found in reading.
    size
        Bytes on the disk, with the images.
    age_s
        Seconds since it was last written to.
    """

    scan_id: str
    about: Mapping[str, object]
    held: bool
    complete: bool
    images_held: bool
    damaged: bool
    size: int
    age_s: float


class Spool:
    """Recordings in a folder: bounded, encrypted with AES-256-GCM, used by one process at a time.

    Parameters
    ----------
    folder
        Where; made if it is not there. Names of files tell the ids of the scans and nothing else.
    key
        32 bytes, see `key_for`.
    max_bytes
        The most that the folder may hold.
    min_free_bytes
        What has to stay free on the disk.
    tail_bytes
        Memory for the newest records of one recording.
    tails_bytes
        Memory for the newest records of all.

    Raises
    ------
    SpoolLockedError
        If another process uses the folder.
    SpoolKeyError
        If the folder was written with another key.
    SpoolError
        If the folder cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        key: bytes,
        max_bytes: int,
        min_free_bytes: int,
        *,
        tail_bytes: int = 32 << 20,
        tails_bytes: int = 256 << 20,
    ) -> None:
        if len(key) != _KEY_BYTES:
            msg = f"The key of the spool has {len(key)} bytes; it must have {_KEY_BYTES}."
            raise SpoolKeyError(msg)
        self.folder: Final = folder
        self._key = key
        self._room = DiskRoom(folder, max_bytes, min_free_bytes)
        self._tail_bytes = tail_bytes
        self._tail_room = TailRoom(tails_bytes)
        self._recordings: dict[tuple[str, Part], Recording] = {}
        self._lock = threading.RLock()
        self._lock_file = _locked(folder)
        try:
            self._check_key()
            for scan_id, part, path in self._files():
                if not _begun(path):
                    path.unlink()  # the process died in making it: there is nothing in it
                elif (scan_id, part) not in self._recordings:
                    self._room.count(path.stat().st_size)
        except OSError as error:
            os.close(self._lock_file)
            msg = f"The spool {folder} cannot be used: {error.strerror}. Make room on its disk, or check it."
            raise SpoolError(msg) from error
        except BaseException:
            os.close(self._lock_file)
            raise

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def used_bytes(self) -> int:
        """Bytes on the disk, with what is set aside for the ends of recordings."""
        return self._room.used

    def begin(self, scan_id: str, about: Mapping[str, object], part: Part = "scan") -> Recording:
        """Begin a recording.

        Parameters
        ----------
        scan_id
            Letters, digits, ``-`` and ``_``, at most 64: the name of the file, so nothing of a patient may go into it.
        about
            Anything that JSON can hold; encrypted like all else.
        part
            The scan itself, or its images, kept for a client that comes back; those that an earlier try left are replaced.

        Raises
        ------
        SpoolFullError
            If there is no room.
        SpoolError
            If there is such a scan, or the disk fails.
        ValueError
            If the id or `about` is no such thing.
        """
        path = self._path(scan_id, part)
        with self._lock:
            if part == "images":
                self.remove(scan_id, part)
            salt = os.urandom(SALT_BYTES)
            cipher = FrameCipher(self._key, salt, scan_id, part)
            head, sealed = cipher.seal(0, pack_about(about))
            size = PREAMBLE_BYTES + len(head) + len(sealed)
            if path.exists():
                msg = f"The spool holds a scan {scan_id}: remove it first, or choose another id."
                raise SpoolError(msg, scan_id)
            self._room.take(size + END_BYTES, scan_id)
            recording = Recording(
                path, cipher, scan_id, part, dict(about), size, self._room, Tail(self._tail_bytes, self._tail_room)
            )
            file = -1
            try:
                file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                write_all(file, 0, (MAGIC, salt, head, sealed))
            except OSError as error:
                self._room.count(-size - END_BYTES)
                if file >= 0:
                    os.close(file)
                    path.unlink(missing_ok=True)
                raise recording.disk_error(error) from error
            recording.start_writing(file)
            self._recordings[scan_id, part] = recording
            return recording

    def open(self, scan_id: str, part: Part = "scan") -> Recording:
        """Return a recording to read: the one that is being written, or what was written before.

        Raises
        ------
        KeyError
            If there is none.
        SpoolDamagedError
            If it cannot be read at all.
        """
        path = self._path(scan_id, part)
        with self._lock:
            if (scan_id, part) in self._recordings:
                return self._recordings[scan_id, part]
            try:
                file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                raise KeyError(scan_id) from None
            try:
                cipher, about, first = self._read_about(file, scan_id, part)
                recording = Recording(
                    path, cipher, scan_id, part, about, first, self._room, Tail(self._tail_bytes, self._tail_room)
                )
                recording.start_reading(file, _read_end(file, cipher, first))
            finally:
                os.close(file)
            self._recordings[scan_id, part] = recording
            return recording

    def scans(self) -> list[StoredScan]:
        """Return what the folder holds and nobody is writing, the oldest first."""
        with self._lock:
            found: dict[str, dict[Part, Path]] = {}
            for scan_id, part, path in self._files():
                found.setdefault(scan_id, {})[part] = path
            stored = [self._stored(scan_id, parts) for scan_id, parts in found.items() if not self._written(scan_id)]
        return sorted(stored, key=lambda scan: -scan.age_s)

    def remove(self, scan_id: str, part: Part | None = None) -> None:
        """Remove a scan, or one part of it; nothing happens if there is none. Its readers are woken.

        Raises
        ------
        SpoolError
            If the disk fails.
        """
        with self._lock:
            for one in _PARTS if part is None else (part,):
                path = self._path(scan_id, one)
                recording = self._recordings.pop((scan_id, one), None)
                if recording is not None:
                    recording.remove()
                elif path.exists():
                    try:
                        size = path.stat().st_size
                        path.unlink()
                    except OSError as error:
                        msg = f"Scan {scan_id} cannot be removed from the spool: {error.strerror}. Check the disk of the spool."
                        raise SpoolError(msg, scan_id) from error
                    self._room.count(-size)

    def expire(self, older_than_s: float, but: Container[str] = ()) -> list[str]:
        """Remove the scans that were last written to longer ago and that nobody reads; return their ids.

        Parameters
        ----------
        older_than_s
            Seconds.
        but
            Ids of scans that stay, however old they are.
        """
        with self._lock:
            old = [
                scan.scan_id
                for scan in self.scans()
                if scan.age_s > older_than_s and scan.scan_id not in but and not self._busy(scan.scan_id)
            ]
            for scan_id in old:
                self.remove(scan_id)
        return old

    def close(self) -> None:
        """Let go of the folder; recordings that are not finished count as cut off."""
        with self._lock:
            for recording in self._recordings.values():
                recording.close()
            self._recordings.clear()
            if self._lock_file >= 0:
                os.close(self._lock_file)
                self._lock_file = -1

    def _path(self, scan_id: str, part: Part) -> Path:
        if not _SCAN_ID.fullmatch(scan_id):
            msg = "the id of a scan is 1 to 64 letters, digits, '-' and '_', and begins with a letter or digit"
            raise ValueError(msg)
        return self.folder / f"{scan_id}.{part}"

    def _files(self) -> Iterator[tuple[str, Part, Path]]:
        for path in self.folder.iterdir():
            scan_id, _, part = path.name.partition(".")
            if part in _PARTS and _SCAN_ID.fullmatch(scan_id):
                yield scan_id, part, path

    def _written(self, scan_id: str) -> bool:
        return any(
            (recording := self._recordings.get((scan_id, part))) is not None and recording.complete is None
            for part in _PARTS
        )

    def _busy(self, scan_id: str) -> bool:
        return any(
            (recording := self._recordings.get((scan_id, part))) is not None and recording.busy for part in _PARTS
        )

    def _stored(self, scan_id: str, parts: Mapping[Part, Path]) -> StoredScan:
        about: Mapping[str, object] = {}
        complete: dict[Part, bool] = {}
        damaged = False
        states = [path.stat() for path in parts.values()]
        for part in _PARTS:
            if part not in parts:
                continue
            try:
                held, complete[part] = self._look(scan_id, part, parts[part])
                about = about or held
            except SpoolDamagedError:
                damaged = True
        return StoredScan(
            scan_id=scan_id,
            about=about,
            held="scan" in parts,
            complete=complete.get("scan", False),
            images_held=complete.get("images", False),
            damaged=damaged,
            size=sum(state.st_size for state in states),
            age_s=max(time.time() - max(state.st_mtime for state in states), 0.0),
        )

    def _look(self, scan_id: str, part: Part, path: Path) -> tuple[Mapping[str, object], bool]:
        """Return what a recording is, and whether it is complete."""
        recording = self._recordings.get((scan_id, part))
        if recording is not None:
            return recording.about, bool(recording.complete)
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            cipher, about, first = self._read_about(file, scan_id, part)
            end = _read_end(file, cipher, first)
        finally:
            os.close(file)
        return about, end is not None and end[1]

    def _read_about(self, file: int, scan_id: str, part: Part) -> tuple[FrameCipher, Mapping[str, object], int]:
        """Return the cipher of a file, what it is, and where its first record begins."""
        try:
            salt = read_preamble(file)
            head = read_head(file, PREAMBLE_BYTES)
            if salt is None or head is None or head.sequence != 0:
                msg = "its first frame is not there"
                raise BrokenFrameError(msg)
            cipher = FrameCipher(self._key, salt, scan_id, part)
            contents = cipher.open(head, read_sealed(file, PREAMBLE_BYTES, head.length))
            return cipher, json.loads(bytes(contents.buffers[0])), PREAMBLE_BYTES + HEAD_BYTES + head.length
        except BrokenFrameError as error:
            msg = f"The {part} of scan {scan_id} in the spool cannot be read ({error}): check the disk, and remove it."
            raise SpoolDamagedError(msg, scan_id) from None

    def _check_key(self) -> None:
        """Compare the key with the one that the folder was first used with."""
        path = self.folder / _CHECK
        cipher = AESGCM(HKDF(SHA256(), 32, None, b"recond spool: check").derive(self._key))
        try:
            held = path.read_bytes()
            cipher.decrypt(held[:12], held[12:], None)
        except FileNotFoundError:
            nonce = os.urandom(12)
            new = path.with_name(f"{_CHECK}.new")
            new.touch(0o600)
            new.write_bytes(nonce + cipher.encrypt(nonce, _KNOWN, None))
            new.replace(path)
        except (InvalidTag, ValueError):
            msg = f"The spool {self.folder} was written with another key: give that one, or empty the folder."
            raise SpoolKeyError(msg) from None


def _locked(folder: Path) -> int:
    """Return a file that stands for the folder, locked."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        msg = f"The spool {folder} cannot be used: {error.strerror}."
        raise SpoolError(msg) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(file, 32, 0).decode("ascii", "replace").strip()
        os.close(file)
        msg = f"The spool {folder} is used by another process ({holder or 'of unknown number'}): give each gateway its own folder."
        raise SpoolLockedError(msg) from None
    os.ftruncate(file, 0)
    with contextlib.suppress(OSError):  # on a full disk the message lacks the number
        os.pwrite(file, str(os.getpid()).encode(), 0)
    return file


def _begun(path: Path) -> bool:
    """Whether a recording got so far that it says what it is."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return read_preamble(file) is not None and read_head(file, PREAMBLE_BYTES) is not None
    except BrokenFrameError:
        return True
    finally:
        os.close(file)


def _read_end(file: int, cipher: FrameCipher, first: int) -> tuple[int, bool] | None:
    """Return the number of records and whether everything arrived, from the last frame; None if the file does not end with one."""
    offset = os.fstat(file).st_size - END_BYTES
    if offset < first:
        return None
    try:
        head = read_head(file, offset)
        if head is None or head.length != END_BYTES - HEAD_BYTES:
            return None
        contents = cipher.open(head, read_sealed(file, offset, head.length))
    except BrokenFrameError:
        return None
    return (head.sequence - 1, bool(contents.kind)) if contents.holds == Holds.END else None
