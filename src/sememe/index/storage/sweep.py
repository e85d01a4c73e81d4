"""Removing what nobody needs: the leavings of killed writers, and old versions.

When a file may go: its transaction is over, and no version that must be kept refers to it. A transaction is over when
its lease is gone or can be locked; its process holds that lock from before its first file until after its commit, and
a process that dies lets go of it. Only *after* the lease was seen to be free are the manifests read: a transaction that
committed in the meantime is found there.
"""

from __future__ import annotations

import logging
from pathlib import Path

from sememe.errors import StorageError
from sememe.index.storage.fs import FileSystem, Lock, Missing
from sememe.index.storage.layout import Listing, lease_name, manifest_name, referenced

log = logging.getLogger(__name__)


def _is_over(fs: FileSystem, path: Path, owner: str) -> bool:
    """Whether a transaction has ended, one way or the other."""
    try:
        lock = fs.lock(path / lease_name(owner), shared=False)
    except Missing:
        return True
    if lock is None:
        return False
    lock.release()
    return True


def is_written(fs: FileSystem, path: Path) -> bool:
    """Whether a writer is at work in this folder."""
    return any(not _is_over(fs, path, owner) for owner in Listing.read(fs, path).leases)


def sweep(fs: FileSystem, path: Path) -> None:
    """Remove what transactions left that ended without cleaning up; called when a writer begins."""
    seen = Listing.read(fs, path)
    for generation in seen.claims:
        if generation in seen.generations:
            fs.unlink(path / f"tmp.claim.{manifest_name(generation)}")
    for owner in sorted(seen.leases | seen.temps.keys()):
        try:
            lock = fs.lock(path / lease_name(owner), shared=False)
        except Missing:  # the lease goes last, so what was listed before this look is nobody's
            for name in seen.temps.get(owner, []):
                fs.unlink(path / name)
            continue
        if lock is not None:
            with lock:
                _sweep_one(fs, path, owner)


def _sweep_one(fs: FileSystem, path: Path, owner: str) -> None:
    now = Listing.read(fs, path)
    kept = referenced(fs, path, now.generations)
    if kept is None:
        log.warning("%s: a manifest is damaged, so the files of a killed writer are left alone", path)
        return
    for name in [*now.segments.get(owner, []), *now.temps.get(owner, [])]:
        if name not in kept:
            log.info("%s: removing %s, left by a writer that did not finish", path, name)
            fs.unlink(path / name)
    fs.unlink(path / lease_name(owner))


def vacuum(fs: FileSystem, path: Path, keep: int) -> int:
    """Remove old versions and files that no kept version needs; the bytes freed.

    Kept are the newest ``keep`` versions and those that a live reader has locked. Manifests go oldest first and
    only up to the first that is in use: the number after a version in use must stay taken, or a writer that was
    held up since then could publish over the newer history.
    """
    sweep(fs, path)
    seen = Listing.read(fs, path)
    over = {owner for owner in seen.segments if _is_over(fs, path, owner)}
    recent = set(sorted(seen.generations)[-keep:])
    locks: list[Lock] = []
    droppable: list[int] = []
    spared, freed, prefix = set(recent), 0, True
    try:
        for generation in sorted(set(seen.generations) - recent):
            try:
                lock = fs.lock(path / manifest_name(generation), shared=False)
            except Missing:
                continue
            if lock is None:
                spared.add(generation)
                prefix = False
                continue
            locks.append(lock)
            if prefix:
                droppable.append(generation)
        newest = max(seen.generations, default=0)
        spared.update(one for one in Listing.read(fs, path).generations if one > newest)
        kept = referenced(fs, path, sorted(spared))
        for generation in droppable:
            freed += _remove(fs, path / manifest_name(generation))
        if kept is None:
            log.warning("%s: a manifest is damaged, so only manifests were removed", path)
            return freed
        for owner in sorted(over):
            freed += sum(_remove(fs, path / name) for name in seen.segments[owner] if name not in kept)
    finally:
        for lock in locks:
            lock.release()
    fs.fsync_dir(path)
    return freed


def _remove(fs: FileSystem, file: Path) -> int:
    try:
        size = fs.size(file)
    except StorageError:
        return 0
    fs.unlink(file)
    return size
