"""What the process of a request may do: limits of the kernel, set once and inherited by nothing else."""

from __future__ import annotations

import ctypes
import os
import resource
import site
import sys
import sysconfig
from collections.abc import Sequence
from functools import cache
from pathlib import Path

_PR_SET_NO_NEW_PRIVS = 38
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_LANDLOCK_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1
_READ_CODE, _READ_FILE = 0b1101, 0b0100  # EXECUTE, READ_FILE, READ_DIR; READ_FILE
_FS_RIGHTS_BY_ABI = {1: 13, 2: 14, 3: 15, 4: 15}  # number of file rights that a kernel knows; 16 from ABI 5 on
_NET_RIGHTS = 0b11  # bind and connect TCP, from ABI 4 on
#: A DICOM series of as many files as a request may have, and what the process itself opens.
_MOST_DESCRIPTORS = 4096 + 256
_MOST_REQUESTS = 64  # that a process may serve one after another

_libc = ctypes.CDLL(None, use_errno=True)


class _Ruleset(ctypes.Structure):
    _fields_ = (("handled_access_fs", ctypes.c_uint64), ("handled_access_net", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def address_space() -> int:
    """Return the size of this process's address space, bytes. Ask before `forbid_files_and_network`, which hides it."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


def limit_resources(
    address_space_bytes: int, cpu_seconds: int, file_bytes: int = 4 << 30, most_address_space_bytes: int = 0
) -> None:
    """Bound memory, CPU time and descriptors of this process from now on. May be called again, before the next request.

    Parameters
    ----------
    address_space_bytes
        Address space, see `address_space`.
    cpu_seconds
        CPU time beside what was used so far; SIGXCPU ends the process after it.
    file_bytes
        Size of one block of shared memory, which does not count as address space while it is only written.
    most_address_space_bytes
        What no later call can go beyond; 0 for `address_space_bytes`. Only the first call sets it.
    """
    _set_limit(resource.RLIMIT_AS, address_space_bytes, most_address_space_bytes or address_space_bytes)
    _set_limit(resource.RLIMIT_FSIZE, file_bytes, max(file_bytes, most_address_space_bytes))
    used = resource.getrusage(resource.RUSAGE_SELF)
    end = int(used.ru_utime + used.ru_stime) + 1 + cpu_seconds
    _set_limit(resource.RLIMIT_CPU, end, _MOST_REQUESTS * (cpu_seconds + 5))
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    descriptors = _MOST_DESCRIPTORS if descriptors == resource.RLIM_INFINITY else min(descriptors, _MOST_DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _set_limit(which: int, value: int, most: int) -> None:
    """Set a limit, and at first what it can never be raised beyond."""
    bound = resource.getrlimit(which)[1]
    bound = most if bound == resource.RLIM_INFINITY else bound
    resource.setrlimit(which, (min(value, bound), bound))


def _code_folders() -> set[Path]:
    """Return the folders that hold the interpreter, its libraries and ours: all that a late import may read."""
    named = [sys.prefix, sys.base_prefix, sysconfig.get_path("stdlib"), *site.getsitepackages(), *sys.path]
    folders = {Path(name).resolve() for name in named if name}
    folders |= {Path(name).resolve() for name in ("/lib", "/lib64", "/usr/lib", "/usr/lib64")}
    return {folder for folder in folders if folder.is_dir() and folder != Path("/")}


def landlock_version() -> int:
    """Return the version of the kernel's Landlock interface; less than 1 where there is none."""
    return int(_libc.syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION_FLAG))


def forbid_files_and_network(*readable: str) -> bool:
    """Take away every file but installed code, and TCP, by Landlock; shared memory that is passed in stays usable.

    Parameters
    ----------
    readable
        Files that may still be read.

    Returns
    -------
    False where the kernel has no Landlock: then only the readers' own checks keep a file from naming others.

    Notes
    -----
    Landlock is described in ``Documentation/userspace-api/landlock.rst`` of the Linux kernel.
    """
    ruleset_fd = _make_ruleset(readable) if readable else code_ruleset()
    if ruleset_fd < 0:
        return False
    try:
        _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        return bool(_libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset_fd, 0) == 0)
    finally:
        os.close(ruleset_fd)
        if not readable:
            code_ruleset.cache_clear()


@cache
def code_ruleset() -> int:
    """Return the descriptor of the rules that leave installed code only, negative where the kernel has no Landlock.

    Naming the folders takes longer than obeying: a process that forks others calls this once, and they inherit the rules.
    """
    return _make_ruleset(())


def _make_ruleset(readable: Sequence[str]) -> int:
    """Return the descriptor of rules that leave installed code and these files, negative where the kernel has no Landlock."""
    abi = landlock_version()
    if abi < 1:
        return -1
    ruleset = _Ruleset((1 << _FS_RIGHTS_BY_ABI.get(abi, 16)) - 1, _NET_RIGHTS if abi >= 4 else 0)
    size = ctypes.sizeof(ruleset) if abi >= 4 else 8
    ruleset_fd = int(_libc.syscall(_LANDLOCK_CREATE_RULESET, ctypes.byref(ruleset), size, 0))
    if ruleset_fd >= 0:
        for folder in _code_folders():
            _allow(ruleset_fd, folder, _READ_CODE)
        for file in readable:
            _allow(ruleset_fd, Path(file), _READ_FILE)
    return ruleset_fd


def _allow(ruleset_fd: int, path: Path, rights: int) -> None:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = _PathBeneath(rights, fd)
        _libc.syscall(_LANDLOCK_ADD_RULE, ruleset_fd, _RULE_PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(fd)
