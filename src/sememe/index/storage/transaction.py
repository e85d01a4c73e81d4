"""One change to an index: write files, then publish a manifest that names them.

The order is what makes it safe (each step on the medium before the next begins): files, the folder that names them,
the new manifest under a temporary name, its publication under the next number with ``link``, the folder again. Before
the ``link`` nothing has happened; after it everything has. ``link`` fails where another writer took that number: this
one then reads the newer version and applies its change to that.
"""

from __future__ import annotations

import logging
import random
import secrets
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING

from sememe import __version__
from sememe.errors import ConflictError, StorageError
from sememe.index.storage.blockfile import BlockWriter, Buffer, FileEntry
from sememe.index.storage.fs import Exists, Lock, Missing
from sememe.index.storage.layout import Listing, head_name, lease_name, manifest_name, segment_name
from sememe.index.storage.manifest import FORMAT, Manifest
from sememe.index.storage.sweep import sweep

if TYPE_CHECKING:
    from sememe.index.storage.store import Store

log = logging.getLogger(__name__)

_ATTEMPTS = 200  # publications that may be lost to other writers before this one gives up
_LONGEST_PAUSE = 0.05  # seconds


class Transaction:
    """Begun by ``Store.begin``; leaving the ``with`` block without ``commit`` takes everything back."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._fs, self._path = store.fs, store.path
        self._writers: dict[str, BlockWriter] = {}
        self._temps: list[str] = []
        self._state = "open"  # then "committed", "aborted" or, where publishing failed half-way, "unknown"
        self.id, self._lease = self._take_lease()
        try:
            sweep(self._fs, self._path)
        except BaseException:
            self.abort()
            raise

    def _take_lease(self) -> tuple[str, Lock]:
        while True:
            owner = secrets.token_hex(8)
            lease = self._path / lease_name(owner)
            self._fs.create(lease).close()
            try:
                lock = self._fs.lock(lease, shared=True)
            except Missing:
                continue
            except StorageError:
                self._fs.unlink(lease)
                raise
            if lock is not None:  # else a sweep caught it before it was locked, and removes it
                return owner, lock

    def new_file(self, role: str) -> BlockWriter:
        """A file to write and ``close`` before ``commit``; ``role`` only makes its name readable."""
        self._must_be_open()
        name = segment_name(role, self.id, len(self._writers))
        writer = BlockWriter(self._fs, self._path / name)
        self._writers[name] = writer
        return writer

    def write(self, role: str, data: Buffer) -> FileEntry:
        """A whole file at once: the contiguous buffer or array ``data``."""
        writer = self.new_file(role)
        writer.write(data)
        return writer.close()

    def commit(self, update: Callable[[Manifest], Manifest]) -> Manifest:
        """Publish ``update(newest manifest)``; returns once it would survive a power cut.

        Parameters
        ----------
        update : callable
            Gets the newest manifest and returns the one to publish; called again with a newer one each time another
            writer was faster. It may raise ``ConflictError`` where the change no longer makes sense.

        Raises
        ------
        ConflictError
            From ``update``, or where other writers were faster every time.
        StorageError
            The disk refused; the index is as it was, unless the message says otherwise.
        """
        self._must_be_open()
        if unfinished := [name for name, writer in self._writers.items() if not writer.closed]:
            raise StorageError("the file was not closed before the commit", where=unfinished[0])
        self._fs.fsync_dir(self._path)
        for attempt in range(_ATTEMPTS):
            base, lock = self.store.base()
            with lock or nullcontext():
                manifest = self._publish(base, update, attempt)
            if manifest is not None:
                self._finish(manifest, self._temps[-1])
                return self.store.manifest
            time.sleep(random.uniform(0, min(_LONGEST_PAUSE, 0.001 * 2**attempt)))
        raise ConflictError(
            f"other writers were faster {_ATTEMPTS} times", where=str(self._path), fix="try again when it is quieter"
        )

    def _publish(self, base: Manifest, update: Callable[[Manifest], Manifest], attempt: int) -> Manifest | None:
        """Write and publish the version after ``base``; ``None`` where another writer took its number."""
        new = replace(update(base), generation=base.generation + 1, format_version=FORMAT, library_version=__version__)
        known = {entry.name for entry in base.entries()} | self._writers.keys()
        if unknown := [entry.name for entry in new.entries() if entry.name not in known]:
            raise StorageError("the new version names a file that no longer belongs to it", where=unknown[0])
        data = new.to_bytes()
        temp, target = self._path / f"tmp.{self.id}.{attempt}", self._path / manifest_name(new.generation)
        self._temps.append(temp.name)
        handle = self._fs.create(temp)
        try:
            handle.write(data)
            handle.fsync()
        finally:
            handle.close()
        self._state = "unknown"
        try:
            self._fs.publish(temp, target)
        except Exists:
            self._state = "open"
            self._fs.unlink(temp)
            return None
        self._state = "committed"
        try:
            self._fs.fsync_dir(self._path)
        except StorageError as error:
            self._lease.release()
            raise StorageError(
                f"version {new.generation} is visible but may not survive a power cut: {error.what}",
                where=error.where,
                fix=error.fix or "check the disk, then commit again",
            ) from error
        return Manifest.from_bytes(data, where=str(target))

    def _finish(self, manifest: Manifest, temp: str) -> None:
        """The commit is safe: keep its second name, remove what is over. Trouble here is logged, never raised."""
        self._attempt(self._fs.rename, self._path / temp, self._path / head_name(manifest.generation))
        self._attempt(self._drop_heads, manifest.generation)
        used = {entry.name for entry in manifest.entries()}
        self._discard([name for name in self._writers if name not in used])
        self.store.adopt(manifest)

    def _drop_heads(self, below: int) -> None:
        for head in Listing.read(self._fs, self._path).heads:
            if head < below:
                self._fs.unlink(self._path / head_name(head))

    def abort(self) -> None:
        """Take everything back; does nothing after a commit."""
        if self._state == "open":
            self._state = "aborted"
            for writer in self._writers.values():
                self._attempt(writer.abandon)
            self._discard([*self._writers, *self._temps])
        elif self._state == "unknown":
            # Whether it was published is for the next writer to find out: without its lock the lease is dead.
            self._attempt(self._lease.release)

    def _discard(self, names: list[str]) -> None:
        """Remove files, then the lease, which stays for the next writer's sweep where a file could not be removed."""
        gone = [self._attempt(self._fs.unlink, self._path / name) for name in names]
        if all(gone):
            self._attempt(self._fs.unlink, self._path / lease_name(self.id))
        self._attempt(self._lease.release)

    def _attempt(self, action: Callable[..., None], *args: object) -> bool:
        try:
            action(*args)
        except Missing:
            return True
        except StorageError as error:
            log.warning("left for later: %s", error)
            return False
        return True

    def _must_be_open(self) -> None:
        if self._state != "open":
            raise StorageError(f"this transaction is over ({self._state})", where=str(self._path), fix="begin another")

    def __enter__(self) -> Transaction:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()
