"""What the names in an index folder mean, and how the newest version is found.

    manifest.<20 digits>        a published version; the highest number is the index
    head.<20 digits>            a second name of the newest manifest, so that its loss is noticed
    <role>-<id>-<n>.seg         a file of the transaction <id>; never changed once it is referred to
    tmp.<id>.lease              there while the transaction <id> lives, locked (flock) by its process
    tmp.<id>.<n>                a manifest not yet published
    tmp.claim.manifest.<...>    guards publishing where there are no hard links
    damaged.*                   what recover put aside

``<id>`` is 16 random hexadecimal digits.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from sememe.errors import CorruptIndex, FormatError, StorageError
from sememe.index.storage.fs import FileSystem, Lock, Missing
from sememe.index.storage.manifest import LARGEST, Manifest

_NAMES = re.compile(
    r"manifest\.(?P<manifest>[0-9]{20})"
    r"|head\.(?P<head>[0-9]{20})"
    r"|tmp\.(?P<lease>[0-9a-f]{16})\.lease"
    r"|tmp\.(?P<temp>[0-9a-f]{16})\.[0-9]+"
    r"|tmp\.claim\.manifest\.(?P<claim>[0-9]{20})"
    r"|[A-Za-z0-9_][A-Za-z0-9_.-]*-(?P<segment>[0-9a-f]{16})-[0-9]+\.seg"
    r"|(?P<damaged>damaged\..+)"
)
_PATIENCE = 50  # looks at a folder that keeps changing before giving up


def manifest_name(generation: int) -> str:
    """The file name of a version."""
    return f"manifest.{generation:020d}"


def head_name(generation: int) -> str:
    """The second name of a version's manifest."""
    return f"head.{generation:020d}"


def lease_name(owner: str) -> str:
    """The file that a living transaction keeps locked."""
    return f"tmp.{owner}.lease"


def segment_name(role: str, owner: str, number: int) -> str:
    """A new file's name: ``role`` is for people, ``owner`` and ``number`` make it unique."""
    readable = re.sub(r"[^A-Za-z0-9_.]+", "_", role)[:40].lstrip(".") or "data"
    return f"{readable}-{owner}-{number}.seg"


@dataclass
class Listing:
    """The names in an index folder, sorted by meaning; transactions are keyed by their id."""

    path: Path
    generations: list[int] = field(default_factory=list)
    heads: list[int] = field(default_factory=list)
    claims: list[int] = field(default_factory=list)
    leases: set[str] = field(default_factory=set)
    temps: dict[str, list[str]] = field(default_factory=dict)
    segments: dict[str, list[str]] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, fs: FileSystem, path: Path) -> Listing:
        """Look at the folder now."""
        found = cls(path)
        for name in fs.listdir(path):
            match = _NAMES.fullmatch(name)
            kind = match.lastgroup if match else None
            value = match[kind] if match and kind else name
            if kind == "manifest":
                found.generations.append(int(value))
            elif kind == "head":
                found.heads.append(int(value))
            elif kind == "claim":
                found.claims.append(int(value))
            elif kind == "lease":
                found.leases.add(value)
            elif kind == "temp":
                found.temps.setdefault(value, []).append(name)
            elif kind == "segment":
                found.segments.setdefault(value, []).append(name)
            elif kind == "damaged":
                found.damaged.append(name)
            else:
                found.strangers.append(name)
        return found

    @property
    def highest(self) -> int:
        """The highest number that was ever published and is still to be seen; 0 where none was."""
        return max([*self.generations, *self.heads], default=0)

    @property
    def begun(self) -> bool:
        """Whether a build left something here."""
        return bool(self.leases or self.temps or self.segments or self.damaged)


def find_newest(fs: FileSystem, path: Path) -> int:
    """The number of the newest version.

    Raises
    ------
    FormatError
        There is no index, or its build did not finish.
    CorruptIndex
        The newest manifest has been removed.
    """
    if not fs.is_dir(path):
        raise FormatError("there is no index here", where=str(path), fix="build one with sememe build")
    listing = Listing.read(fs, path)
    if not listing.highest:  # a look that raced with a commit and a vacuum may have missed both names
        listing = Listing.read(fs, path)
    if not listing.highest:
        if listing.begun:
            raise FormatError("the build of this index did not finish", where=str(path), fix="build it again")
        raise FormatError("this folder is not an index", where=str(path), fix="build one with sememe build")
    newest = listing.highest
    # Listing a folder is not atomic: it can show the second name of a brand-new version and miss the first.
    if newest not in listing.generations and not fs.exists(path / manifest_name(newest)):
        raise CorruptIndex(
            f"the newest manifest is missing, {head_name(newest)} is still there",
            where=str(path / manifest_name(newest)),
            fix="run sememe recover",
        )
    return newest


def read_manifest(fs: FileSystem, path: Path, generation: int) -> Manifest:
    """Read and check one version's manifest (not its files)."""
    file = path / manifest_name(generation)
    manifest = Manifest.from_bytes(fs.read(file, LARGEST), where=str(file))
    if manifest.generation != generation:
        raise CorruptIndex(
            f"the manifest says it is version {manifest.generation}", where=str(file), fix="run sememe recover"
        )
    return manifest


def check_sizes(fs: FileSystem, path: Path, manifest: Manifest) -> None:
    """Raise CorruptIndex where a file of this version is missing or has another length."""
    for entry in manifest.entries():
        try:
            size = fs.size(path / entry.name)
        except Missing:
            raise CorruptIndex("the file is missing", where=str(path / entry.name), fix="run sememe verify") from None
        if size != entry.size:
            raise CorruptIndex(
                f"the file has {size} bytes and should have {entry.size} (offset {min(size, entry.size)})",
                where=str(path / entry.name),
                fix="run sememe verify",
            )


def lock_newest(fs: FileSystem, path: Path) -> tuple[int, Lock]:
    """The newest version's number, with its manifest locked against vacuum."""
    for attempt in range(_PATIENCE):
        generation = find_newest(fs, path)
        try:
            lock = fs.lock(path / manifest_name(generation), shared=True)
        except Missing:  # many commits and a vacuum have passed since the folder was listed
            continue
        if lock is not None:
            return generation, lock
        time.sleep(0.001 * attempt)
    raise StorageError("the index keeps changing while it is being opened", where=str(path), fix="try again")


def load_newest(fs: FileSystem, path: Path, *, sizes: bool = True) -> tuple[Manifest, Lock]:
    """The newest version and the lock that keeps its files; damage is reported, never passed over.

    With ``sizes`` every file must be there with its length. The message of a ``CorruptIndex`` names the last version
    that could be gone back to.
    """
    generation, lock = lock_newest(fs, path)
    try:
        manifest = read_manifest(fs, path, generation)
        if sizes:
            check_sizes(fs, path, manifest)
    except CorruptIndex as error:
        lock.release()
        good = last_good(fs, path, generation)
        known = f"the last good version is {good}" if good else "no earlier version is whole"
        raise CorruptIndex(f"{error.what}; {known}", where=error.where, fix=error.fix) from error
    except BaseException:
        lock.release()
        raise
    return manifest, lock


def last_good(fs: FileSystem, path: Path, below: int) -> int | None:
    """The newest version under ``below`` whose manifest reads and whose files have the right lengths."""
    for generation in sorted(Listing.read(fs, path).generations, reverse=True):
        if generation < below:
            try:
                check_sizes(fs, path, read_manifest(fs, path, generation))
            except StorageError:
                continue
            return generation
    return None


def referenced(fs: FileSystem, path: Path, generations: Iterable[int]) -> set[str] | None:
    """Names of the files that these versions consist of; ``None`` where one cannot be read and so may need any."""
    names: set[str] = set()
    for generation in generations:
        try:
            names.update(entry.name for entry in read_manifest(fs, path, generation).entries())
        except Missing:  # vacuumed since the folder was listed
            continue
        except StorageError:
            return None
    return names
