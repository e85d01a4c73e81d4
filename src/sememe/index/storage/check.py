"""Is an index whole, and if not, how to go back: ``verify`` reads every byte, ``recover`` puts damage aside."""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from sememe.errors import CorruptIndex, FormatError, StorageError
from sememe.index.storage.blockfile import BlockFile
from sememe.index.storage.fs import FileSystem
from sememe.index.storage.layout import Listing, find_newest, head_name, manifest_name, read_manifest
from sememe.index.storage.manifest import Manifest
from sememe.index.storage.sweep import is_written


@dataclass
class VerifyReport:
    """What a verification found. ``problems`` is damage; ``notes`` is harmless.

    ``files`` and ``bytes`` count what was read and found good or bad, manifests included.
    """

    files: int = 0
    bytes: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged."""
        return not self.problems


def verify(path: str | PathLike[str], fs: FileSystem | None = None) -> VerifyReport:
    """Read every byte that the newest version consists of, and every older manifest.

    Damage is reported, not raised.

    Raises
    ------
    FormatError
        There is no index, or a later Sememe wrote it.
    """
    folder, fs, report = Path(path), fs or FileSystem(), VerifyReport()
    newest: Manifest | None = None
    try:
        highest = find_newest(fs, folder)
    except CorruptIndex as error:
        report.problems.append(str(error))
        highest = 0
    listing = Listing.read(fs, folder)
    needed: set[str] = set()
    for generation in sorted(listing.generations):
        try:
            report.files += 1
            report.bytes += fs.size(folder / manifest_name(generation))
            manifest = read_manifest(fs, folder, generation)
        except FormatError:
            raise
        except StorageError as error:
            report.problems.append(str(error))
            continue
        needed.update(entry.name for entry in manifest.entries())
        newest = manifest if generation == highest else newest
    for entry in {entry.name: entry for entry in newest.entries()}.values() if newest else ():
        report.files += 1
        try:
            report.bytes += fs.size(folder / entry.name)
            BlockFile(fs, folder, entry, "full").close()
        except StorageError as error:
            report.problems.append(str(error))
    orphans = [name for names in listing.segments.values() for name in names if name not in needed]
    if orphans:
        report.notes.append(f"{len(orphans)} files belong to no version, such as {orphans[0]}; vacuum removes them")
    report.notes += [f"{name} was put aside by recover" for name in listing.damaged]
    report.notes += [f"{name} is not a file of an index" for name in listing.strangers]
    return report


def recover(path: str | PathLike[str], fs: FileSystem | None = None) -> int:
    """Go back to the newest version of which every byte is good; returns its number.

    The manifests of later, damaged versions are renamed to ``damaged.*``, never deleted. A newest manifest that was
    removed is brought back from its second name. Nothing else is changed where no version is good.

    Raises
    ------
    CorruptIndex
        No version is whole.
    FormatError
        There is no index, or a later Sememe wrote it.
    StorageError
        A writer is at work.
    """
    folder, fs = Path(path), fs or FileSystem()
    if not fs.is_dir(folder):
        raise FormatError("there is no index here", where=str(folder))
    if is_written(fs, folder):
        raise StorageError("a writer is at work in this index", where=str(folder), fix="try again when it is done")
    listing = Listing.read(fs, folder)
    if not listing.highest:
        raise FormatError("there is no version here to go back to", where=str(folder), fix="build the index again")
    if listing.highest not in listing.generations:
        fs.link(folder / head_name(listing.highest), folder / manifest_name(listing.highest))
        listing.generations.append(listing.highest)
    candidates = sorted(listing.generations, reverse=True)
    good = next((generation for generation in candidates if _is_whole(fs, folder, generation)), None)
    if good is None:
        raise CorruptIndex("no version of this index is whole", where=str(folder), fix="build it again")
    for generation in listing.generations:
        if generation > good:
            _put_aside(fs, folder, manifest_name(generation))
    for generation in listing.heads:
        if generation > good:
            _put_aside(fs, folder, head_name(generation))
    fs.fsync_dir(folder)
    return good


def _is_whole(fs: FileSystem, folder: Path, generation: int) -> bool:
    try:
        for entry in read_manifest(fs, folder, generation).entries():
            BlockFile(fs, folder, entry, "full").close()
    except FormatError:
        raise
    except CorruptIndex:
        return False
    return True


def _put_aside(fs: FileSystem, folder: Path, name: str) -> None:
    number = 0
    while fs.exists(folder / f"damaged.{name}.{number}"):
        number += 1
    fs.rename(folder / name, folder / f"damaged.{name}.{number}")
