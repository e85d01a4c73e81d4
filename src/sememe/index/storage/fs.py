"""Every system call that an index makes, in one place, so that a test can make any of them fail.

All calls go through ``FileSystem.call``. A subclass that overrides that one method sees, counts, refuses, shortens or
records everything that happens to an index on disk; nothing else under ``index/`` touches a file (a test holds that).

Durability follows the rules that application-level crash studies found most often broken (Pillai et al., "All File
Systems Are Not Created Equal: On the Complexity of Crafting Crash-Consistent Applications", OSDI 2014): a file is
flushed before anything refers to it, and the directory that names it is flushed too.
"""

from __future__ import annotations

import errno
import logging
import mmap
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from sememe.errors import StorageError

log = logging.getLogger(__name__)

_NO_LINK = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
_NO_LOCK = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EBADF, errno.EINVAL}
_HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}
_REMEDY = {
    errno.ENOSPC: "free some space and try again; the last commit is intact",
    errno.EDQUOT: "raise the disk quota and try again; the last commit is intact",
    errno.EFBIG: "raise the limit on file sizes and try again; the last commit is intact",
    errno.EROFS: "the disk is mounted read-only",
    errno.EACCES: "check the permissions of the folder",
    errno.EIO: "the disk reports a fault; check it before you try again",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
}


class Exists(StorageError):
    """A name that had to be new is taken."""


class Missing(StorageError):
    """A file that had to be there is not."""


@contextmanager
def _explained(doing: str, path: Path) -> Iterator[None]:
    """Turn an ``OSError`` into a ``StorageError`` of one line."""
    try:
        yield
    except OSError as error:
        kind = {errno.EEXIST: Exists, errno.ENOENT: Missing}.get(error.errno or 0, StorageError)
        reason = os.strerror(error.errno) if error.errno else str(error)
        fix = _REMEDY.get(error.errno or 0)
        raise kind(f"could not {doing} ({reason})", where=str(path), fix=fix) from error


class Handle:
    """A new file being written. Closing does not flush; call ``fsync`` first for what must last."""

    def __init__(self, fs: FileSystem, descriptor: int, path: Path) -> None:
        self.path = path
        self._fs, self._descriptor = fs, descriptor

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write all of ``data``, however many system calls that takes."""
        view = memoryview(data)
        with _explained("write", self.path):
            while len(view):
                done = self._fs.retry("write", self._descriptor, view)
                if done <= 0:
                    raise OSError(errno.EIO, "nothing was written")
                view = view[done:]

    def fsync(self) -> None:
        """Return once the bytes are on the medium."""
        with _explained("flush", self.path):
            self._fs.flush(self._descriptor)

    def close(self) -> None:
        """Give the descriptor back; a second call does nothing."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with _explained("close", self.path):
                self._fs.shut(descriptor)


class Lock:
    """An advisory lock (``flock``) on an open file; it ends with ``release`` or with the process."""

    def __init__(self, fs: FileSystem, descriptor: int) -> None:
        self._fs, self._descriptor = fs, descriptor

    def release(self) -> None:
        """Let go; a second call does nothing."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            try:
                self._fs.shut(descriptor)
            except OSError as error:  # nothing was written through it, and it is closed all the same
                log.warning("unlocking reported: %s", error)

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class FileSystem:
    """What storage needs from an operating system.

    Every method raises ``StorageError`` (``Exists`` and ``Missing`` where those are the reason) and nothing else.
    """

    def call(self, name: str, *args: Any) -> Any:
        """Make one system call: a function of ``os``, or ``flock`` or ``mmap``. Override this to inject faults."""
        if name == "flock":
            import fcntl

            return fcntl.flock(*args)
        if name == "mmap":
            return mmap.mmap(args[0], 0, access=mmap.ACCESS_READ)
        return getattr(os, name)(*args)

    def retry(self, name: str, *args: Any) -> Any:
        """``call``, again while a signal interrupts it."""
        while True:
            try:
                return self.call(name, *args)
            except InterruptedError:
                continue

    def shut(self, descriptor: int) -> None:
        """Close; an interrupted ``close`` has closed already, so it must not be repeated."""
        try:
            self.call("close", descriptor)
        except InterruptedError:
            return

    def flush(self, descriptor: int) -> None:
        """``fsync``, or on macOS ``F_FULLFSYNC``, since there ``fsync`` stops at the drive's own cache."""
        if sys.platform == "darwin":
            import fcntl

            try:
                fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
                return
            except OSError as error:
                if error.errno not in (errno.ENOTSUP, errno.ENOTTY, errno.EINVAL):
                    raise
        self.retry("fsync", descriptor)

    def _open(self, path: Path, flags: int) -> int:
        flags |= getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        return int(self.retry("open", str(path), flags, 0o666))

    def _open_regular(self, path: Path) -> int:
        """Open for reading; refuses what is not a plain file (a pipe would hang, a device never ends)."""
        descriptor = self._open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            if not stat.S_ISREG(self.retry("fstat", descriptor).st_mode):
                raise OSError(errno.EINVAL, "not a plain file")
        except BaseException:
            self.shut(descriptor)
            raise
        return descriptor

    def makedirs(self, path: Path) -> None:
        """Create a folder and those above it, each flushed into its parent."""
        missing = []
        while not self.exists(path):
            missing.append(path)
            path = path.parent
        for folder in reversed(missing):
            with _explained("create the folder", folder):
                try:
                    self.retry("mkdir", str(folder))
                except FileExistsError:  # someone else was faster
                    continue
            self.fsync_dir(folder.parent)

    def exists(self, path: Path) -> bool:
        """Whether anything has that name."""
        try:
            with _explained("look at", path):
                self.retry("stat", str(path))
        except Missing:
            return False
        return True

    def is_dir(self, path: Path) -> bool:
        """Whether that name is a folder."""
        try:
            with _explained("look at", path):
                return stat.S_ISDIR(self.retry("stat", str(path)).st_mode)
        except Missing:
            return False

    def listdir(self, path: Path) -> list[str]:
        """Names in a folder, sorted."""
        with _explained("list the folder", path):
            return sorted(self.retry("listdir", str(path)))

    def size(self, path: Path) -> int:
        """Length in bytes."""
        with _explained("look at", path):
            return int(self.retry("stat", str(path)).st_size)

    def create(self, path: Path) -> Handle:
        """A new file for writing; ``Exists`` where the name is taken."""
        with _explained("create", path):
            return Handle(self, self._open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), path)

    def read(self, path: Path, limit: int = 1 << 40) -> bytes:
        """The whole file, at most ``limit`` bytes of it."""
        with _explained("read", path):
            descriptor = self._open_regular(path)
            try:
                parts, left = [], limit
                while left and (part := self.retry("read", descriptor, min(left, 1 << 24))):
                    parts.append(part)
                    left -= len(part)
                return b"".join(parts)
            finally:
                self.shut(descriptor)

    def map(self, path: Path) -> memoryview:
        """The file as read-only memory; read into memory where the file system cannot map."""
        with _explained("map", path):
            descriptor = self._open_regular(path)
            try:
                if self.retry("fstat", descriptor).st_size == 0:
                    return memoryview(b"")
                return memoryview(self.retry("mmap", descriptor))
            except OSError as error:
                if error.errno != errno.ENODEV:
                    raise
            finally:
                self.shut(descriptor)
        return memoryview(self.read(path))

    def open_rows(self, path: Path) -> int | None:
        """A descriptor for `read_rows`; None where none can be had: the map holds the same bytes."""
        if not hasattr(os, "pread"):
            return None
        try:
            return self._open_regular(path)
        except OSError:
            return None

    def read_rows(self, descriptor: int, starts: list[int], width: int) -> bytes:
        """``width`` bytes from each of some places of a file, one after the other."""
        return b"".join([self.call("pread", descriptor, width, start) for start in starts])

    def advise(self, mapped: memoryview, scattered: bool, start: int = 0, length: int = 0) -> None:
        """Tell the system how a map will be read: here and there, or, not ``scattered``, that range at once."""
        # Where the file is in memory, or the system takes no advice, nothing is lost.
        advice = getattr(mmap, "MADV_RANDOM" if scattered else "MADV_WILLNEED", None)
        if advice is not None and isinstance(mapped.obj, mmap.mmap):
            mapped.obj.madvise(advice, start, length or len(mapped) - start)

    def release(self, mapped: memoryview) -> None:
        """Take the pages of a map out of this process; the system's cache keeps them, and the next touch maps them."""
        advice = getattr(mmap, "MADV_DONTNEED", None)
        if advice is not None and isinstance(mapped.obj, mmap.mmap):  # a read-only map has nothing to lose
            mapped.obj.madvise(advice)

    def fsync_dir(self, path: Path) -> None:
        """Return once the names in a folder are on the medium."""
        if os.name == "nt":  # Windows cannot open a folder, and journals names itself
            return
        with _explained("flush the folder", path):
            descriptor = self._open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
            try:
                self.flush(descriptor)
            except OSError as error:
                if error.errno != errno.EINVAL:  # this file system has nothing to flush for a folder
                    raise
                log.warning("%s: this file system cannot flush folders; a power cut may undo the last commit", path)
            finally:
                self.shut(descriptor)

    def unlink(self, path: Path) -> None:
        """Remove a name; fine where it is gone already."""
        try:
            with _explained("remove", path):
                self.retry("unlink", str(path))
        except Missing:
            pass

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name, taking that name from whatever had it."""
        with _explained("rename", old):
            self.retry("rename", str(old), str(new))

    def link(self, old: Path, new: Path) -> None:
        """A second name for a file; ``Exists`` where the name is taken by another file."""
        with _explained("link", old):
            try:
                self.retry("link", str(old), str(new))
            except OSError as error:
                # Over a network the answer to a link that worked can be lost: look before believing the error.
                if error.errno in _NO_LINK or not self._same_file(old, new):
                    raise

    def publish(self, old: Path, new: Path) -> None:
        """Make the flushed file ``old`` visible as ``new``, all at once, or raise ``Exists``.

        ``link`` refuses a taken name, which ``rename`` does not: of two writers exactly one wins. Where the file
        system has no hard links, a claim file made with ``O_EXCL`` guards a rename instead.
        """
        try:
            self.link(old, new)
        except StorageError as error:
            cause = error.__cause__
            if not isinstance(cause, OSError) or cause.errno not in _NO_LINK:
                raise
            log.warning("%s: no hard links on this file system; publishing with a claim file instead", new.parent)
            self.rename_noreplace(old, new)

    def rename_noreplace(self, old: Path, new: Path) -> None:
        """Rename unless the name is taken, guarded by a claim file that only one writer can create."""
        claim = new.with_name(f"tmp.claim.{new.name}")
        try:
            self.create(claim).close()
        except Exists:
            if self.exists(new):
                raise
            raise StorageError(
                "another writer is publishing this version, or was killed while it did",
                where=str(claim),
                fix="if no other writer is running, delete that file",
            ) from None
        try:
            if self.exists(new):
                raise Exists("could not publish (File exists)", where=str(new))
            self.rename(old, new)
        finally:
            self.unlink(claim)

    def _same_file(self, old: Path, new: Path) -> bool:
        try:
            first, second = self.retry("stat", str(old)), self.retry("stat", str(new))
        except OSError:
            return False
        return bool((first.st_dev, first.st_ino) == (second.st_dev, second.st_ino))

    def lock(self, path: Path, *, shared: bool) -> Lock | None:
        """Lock a file, without waiting; ``None`` where another holds it, ``Missing`` where it has gone.

        Where the file system has no locks, a shared lock is granted and an exclusive one refused: whoever asks for the
        latter wants to delete, and must not on a guess.
        """
        with _explained("lock", path):
            descriptor = self._open_regular(path)
            try:
                granted = self._flock(descriptor, shared)
                if granted and not self._still_named(descriptor, path):
                    raise OSError(errno.ENOENT, "removed while it was being locked")
            except BaseException:
                self.shut(descriptor)
                raise
            if granted:
                return Lock(self, descriptor)
            self.shut(descriptor)
            return None

    def _flock(self, descriptor: int, shared: bool) -> bool:
        # 1, 2 and 4 are LOCK_SH, LOCK_EX and LOCK_NB on every system that has flock.
        try:
            self.retry("flock", descriptor, (1 if shared else 2) | 4)
        except ImportError:
            return shared
        except OSError as error:
            if error.errno in _HELD:
                return False
            if error.errno in _NO_LOCK:
                log.warning("no file locks on this file system; vacuum will leave what others might still use")
                return shared
            raise
        return True

    def _still_named(self, descriptor: int, path: Path) -> bool:
        try:
            named = self.retry("stat", str(path))
        except FileNotFoundError:
            return False
        held = self.retry("fstat", descriptor)
        return bool((held.st_dev, held.st_ino) == (named.st_dev, named.st_ino))
