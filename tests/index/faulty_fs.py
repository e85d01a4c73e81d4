"""File systems that kill, fail, count or lose power, for any test of the index.

``KillAt`` stops the process (as far as the index can tell) at one write; ``FailAt`` makes one system call fail;
``PowerCut`` records every effect and then builds folders as they may look after the power went: whatever was not
flushed may be there or not, block by block and name by name.
"""

from __future__ import annotations

import errno
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

from sememe.index.storage.fs import FileSystem

BLOCK = 4096


class Killed(BaseException):
    """The process is gone; no handler of ``Exception`` may see it."""


def is_write(name: str, args: tuple[Any, ...]) -> bool:
    """Whether a system call changes the disk."""
    return name in ("write", "fsync", "mkdir", "link", "unlink", "rename") or (
        name == "open" and bool(args[1] & os.O_CREAT)
    )


class Counting(FileSystem):
    """Counts system calls by name."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.calls = self.writes = 0

    def call(self, name: str, *args: Any) -> Any:
        self.counts[name] += 1
        self.calls += 1
        self.writes += is_write(name, args)
        return super().call(name, *args)


class NoSync(FileSystem):
    """Does not wait for the disk: for tests in which nobody cuts the power."""

    def call(self, name: str, *args: Any) -> Any:
        return None if name == "fsync" else super().call(name, *args)


class KillAt(NoSync):
    """Dies at the ``point``-th call that changes the disk, counted from 0; with ``half``, a write gets half-way."""

    def __init__(self, point: int, half: bool = False) -> None:
        self.point, self.half = point, half
        self.dead, self.seen = False, 0
        self._descriptors: set[int] = set()

    def call(self, name: str, *args: Any) -> Any:
        if self.dead:
            raise Killed
        if is_write(name, args):
            if self.seen == self.point:
                self._die(name, args)
            self.seen += 1
        result = super().call(name, *args)
        if name == "open":
            self._descriptors.add(result)
        elif name == "close":
            self._descriptors.discard(args[0])
        return result

    def _die(self, name: str, args: tuple[Any, ...]) -> None:
        self.dead = True
        if self.half and name == "write":
            os.write(args[0], memoryview(args[1])[: len(args[1]) // 2])
        for descriptor in self._descriptors:  # as the kernel does; this is what ends the locks
            os.close(descriptor)
        raise Killed


class FailAt(NoSync):
    """The ``point``-th system call (of any kind) fails with ``code``; 0 stands for a short write.

    With ``sticky`` all later calls that take space fail, too, as on a full disk.
    """

    def __init__(self, point: int, code: int, sticky: bool = False) -> None:
        self.point, self.code, self.sticky = point, code, sticky
        self.seen = 0
        self.failed: list[str] = []

    def call(self, name: str, *args: Any) -> Any:
        now, self.seen = self.seen, self.seen + 1
        takes_space = is_write(name, args) and name != "unlink"
        if now == self.point or (self.sticky and now > self.point and takes_space):
            if self.code == 0:
                if name == "write":
                    self.failed.append(name)
                    return super().call(name, args[0], memoryview(args[1])[: max(1, len(args[1]) // 3)])
            elif not (self.code == errno.ENOSPC and not takes_space):
                self.failed.append(name)
                if name == "close":
                    super().call(name, *args)  # the descriptor is gone even when close reports an error
                elif name == "write" and self.code == errno.ENOSPC:
                    super().call(name, args[0], memoryview(args[1])[: len(args[1]) // 2])
                raise OSError(self.code, os.strerror(self.code))
        return super().call(name, *args)


class PowerCut(FileSystem):
    """Works on a real folder and records what each call means for the medium.

    Parameters
    ----------
    root : Path
        The folder that is there, and flushed, from the start.
    ignore : {"", "files", "folders"}
        Pretend flushes of that kind never reached the medium: a test must then find losses.
    """

    def __init__(self, root: Path, ignore: str = "") -> None:
        self.root, self.ignore = root, ignore
        self.log: list[tuple[Any, ...]] = []
        self._names: dict[str, int] = {}
        self._inodes = 0
        self._descriptors: dict[int, int | str] = {}

    def note(self, value: Any) -> None:
        """Record that ``value`` was acknowledged to the user at this point."""
        self.log.append(("ack", value))

    def call(self, name: str, *args: Any) -> Any:
        result = None if name == "fsync" else super().call(name, *args)
        if name == "open":
            path = args[0]
            if args[1] & os.O_CREAT:
                self._inodes += 1
                self._names[path] = self._inodes
                self.log.append(("name", path, self._inodes))
            self._descriptors[result] = path if Path(path).is_dir() else self._names.get(path, -1)
        elif name == "write":
            self.log.append(("write", self._descriptors[args[0]], bytes(args[1])[:result]))
        elif name == "fsync":
            target = self._descriptors[args[0]]
            if self.ignore != ("folders" if isinstance(target, str) else "files"):
                self.log.append(("fsync", target))
        elif name == "link":
            self._names[args[1]] = self._names[args[0]]
            self.log.append(("name", args[1], self._names[args[1]]))
        elif name == "rename":
            self._names[args[1]] = self._names.pop(args[0])
            self.log.append(("rename", args[0], args[1], self._names[args[1]]))
        elif name == "unlink":
            self._names.pop(args[0], None)
            self.log.append(("forget", args[0]))
        elif name == "mkdir":
            self.log.append(("folder", args[0]))
        return result

    def state(self, cut: int, target: Path, rng: random.Random) -> list[Any]:
        """Build in ``target`` one folder that a cut after ``cut`` effects may leave; what was acknowledged by then."""
        keep = rng.choice([0.0, 0.2, 0.5, 0.8, 1.0])
        names: dict[str, int | None] = {}
        waiting: list[tuple[Any, ...]] = []
        writes: dict[int, list[bytes]] = {}
        flushed: dict[int, int] = {}
        acknowledged = []
        for event in self.log[:cut]:
            kind = event[0]
            if kind == "ack":
                acknowledged.append(event[1])
            elif kind == "write":
                writes.setdefault(event[1], []).append(event[2])
            elif kind == "fsync" and isinstance(event[1], int):
                flushed[event[1]] = len(writes.get(event[1], []))
            elif kind == "fsync":
                for one in [one for one in waiting if str(Path(one[1]).parent) == event[1]]:
                    self._apply(names, one)
                    waiting.remove(one)
            else:
                waiting.append(event)
        for event in waiting:
            if rng.random() < keep:
                self._apply(names, event)
        for path, inode in sorted(names.items()):
            place = target / Path(path).relative_to(self.root)
            if inode is None:
                place.mkdir(exist_ok=True)
            elif place.parent.is_dir():  # else the folder itself was lost
                place.write_bytes(self._content(writes.get(inode, []), flushed.get(inode, 0), keep, rng))
        return acknowledged

    @staticmethod
    def _apply(names: dict[str, int | None], event: tuple[Any, ...]) -> None:
        if event[0] == "folder":
            names[event[1]] = None
        elif event[0] == "forget":
            names.pop(event[1], None)
        elif event[0] == "name":
            names[event[1]] = event[2]
        else:
            names.pop(event[1], None)
            names[event[2]] = event[3]

    @staticmethod
    def _content(parts: list[bytes], flushed: int, keep: float, rng: random.Random) -> bytes:
        content = bytearray(b"".join(parts[:flushed]))
        whole = bytes(content) + b"".join(parts[flushed:])
        safe = len(content)
        for start in range(safe - safe % BLOCK, len(whole), BLOCK):
            if rng.random() < keep:
                piece = whole[max(start, safe) : start + BLOCK]
                gap = max(start, safe) - len(content)
                content += bytes(max(gap, 0))
                content[max(start, safe) : max(start, safe) + len(piece)] = piece
        if rng.random() < 0.3:  # the length may be on the medium when the bytes are not
            content += bytes(len(whole) - len(content))
        return bytes(content)
