"""An index folder as a whole: open it at its newest version, change it by transactions, check it, tidy it.

A reader keeps the version it opened until ``refresh``: files never change, and a shared lock on its manifest tells
``vacuum`` to leave them. Writers never wait for each other; the later one applies its change to what the earlier one
published.
"""

from __future__ import annotations

import logging
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

from sememe.errors import ConflictError, FormatError, InputError, StorageError
from sememe.index.storage import check, sweep
from sememe.index.storage.blockfile import BlockFile, FileEntry, Verify
from sememe.index.storage.check import VerifyReport
from sememe.index.storage.fs import FileSystem, Lock, Missing
from sememe.index.storage.layout import Listing, find_newest, load_newest, manifest_name
from sememe.index.storage.manifest import WRITER_FLAGS, Manifest
from sememe.index.storage.transaction import Transaction

__all__ = ["Store", "Transaction", "VerifyReport"]

log = logging.getLogger(__name__)


class Store:
    """Use ``Store.create`` or ``Store.open``; close it, or use it as a context manager.

    Attributes
    ----------
    path : Path
        The folder.
    fs : FileSystem
        Where all system calls go.
    manifest : Manifest
        The version that is open. ``generation`` is 0 for a new index that has had no commit.
    """

    def __init__(
        self, path: Path, fs: FileSystem, manifest: Manifest, lock: Lock | None, verify: Verify, replaces: bool
    ) -> None:
        self.path, self.fs, self.manifest, self.verify_mode = path, fs, manifest, verify
        self._lock, self._replaces = lock, replaces
        self._files: dict[str, BlockFile] = {}

    @classmethod
    def create(
        cls,
        path: str | PathLike[str],
        body: dict[str, Any],
        fs: FileSystem | None = None,
        overwrite: bool = False,
    ) -> Store:
        """Begin a new index. It exists from its first commit on, whole; until then ``open`` refuses the folder.

        Parameters
        ----------
        path : path-like
            A folder that is new, empty, left by a build that did not finish, or, with ``overwrite``, an index: that
            one stays readable until the first commit replaces it.
        body : dict
            The manifest's free part, JSON values.
        fs : FileSystem, optional
            For tests.
        overwrite : bool
            Replace an index that is there.

        Raises
        ------
        StorageError
            The folder holds an index (without ``overwrite``) or something else.
        """
        folder, fs = Path(path), fs or FileSystem()
        manifest = Manifest(body=dict(body))
        fs.makedirs(folder)
        if not fs.is_dir(folder):
            raise StorageError("this is a file, not a folder", where=str(folder), fix="choose another name")
        listing = Listing.read(fs, folder)
        if listing.highest and not overwrite:
            raise StorageError("there is an index here already", where=str(folder), fix="choose another, or overwrite")
        if listing.strangers and not listing.highest and not listing.begun:
            raise StorageError(
                f"the folder is not empty (it holds {listing.strangers[0]})", where=str(folder), fix="choose another"
            )
        return cls(folder, fs, manifest, None, "lazy", replaces=overwrite)

    @classmethod
    def open(cls, path: str | PathLike[str], fs: FileSystem | None = None, verify: Verify = "lazy") -> Store:
        """Open the newest version.

        Parameters
        ----------
        path : path-like
            The folder.
        fs : FileSystem, optional
            For tests.
        verify : {"lazy", "full", "off"}
            Check blocks of files when they are first used, all of them now, or not at all. The manifest, and the
            presence and length of every file, are always checked.

        Raises
        ------
        CorruptIndex
            Something is damaged; names file, offset and the last good version. An older version is never opened in
            its place: that is what ``recover`` is for.
        FormatError
            Not an index, a build that did not finish, or one that needs a later Sememe.
        """
        if verify not in ("lazy", "full", "off"):
            raise InputError(f"verify is {verify!r}", fix="use lazy, full or off")
        folder, fs = Path(path), fs or FileSystem()
        manifest, lock = load_newest(fs, folder)
        store = cls(folder, fs, manifest, lock, verify, replaces=False)
        if verify == "full":
            try:
                for entry in manifest.entries():
                    store.file(entry)
            except BaseException:
                store.close()
                raise
        return store

    def file(self, entry: FileEntry) -> BlockFile:
        """The file of an entry, opened once."""
        if entry.name not in self._files:
            self._files[entry.name] = BlockFile(self.fs, self.path, entry, self.verify_mode)
        return self._files[entry.name]

    def begin(self) -> Transaction:
        """Begin a change; also removes what killed writers left."""
        self._must_write(self.manifest)
        return Transaction(self)

    def _must_write(self, manifest: Manifest) -> None:
        if unknown := [flag for flag in manifest.writer_flags if flag not in WRITER_FLAGS]:
            raise FormatError(
                f"the index uses {', '.join(unknown)}, which this sememe can read but not write",
                where=str(self.path),
                fix=f"it needs sememe >= {manifest.library_version}",
            )

    def base(self) -> tuple[Manifest, Lock | None]:
        """What the next commit builds on: the newest version, locked, or nothing for a new index."""
        if self.manifest.generation:
            manifest, held = load_newest(self.fs, self.path, sizes=False)
            try:
                self._must_write(manifest)
            except FormatError:
                held.release()
                raise
            return manifest, held
        highest = Listing.read(self.fs, self.path).highest
        if not highest:
            return self.manifest, None
        if not self._replaces:
            raise ConflictError("another build of this index finished first", where=str(self.path))
        try:
            lock = self.fs.lock(self.path / manifest_name(highest), shared=True)
        except Missing:  # removed by hand; its second name still tells the number
            lock = None
        return Manifest(generation=highest, body=self.manifest.body), lock

    def adopt(self, manifest: Manifest) -> None:
        """Move to a version that was just committed here."""
        try:
            lock = self.fs.lock(self.path / manifest_name(manifest.generation), shared=True)
        except StorageError as error:
            log.warning("the new version could not be locked against vacuum: %s", error)
            lock = None
        self._move(manifest, lock)

    def refresh(self) -> bool:
        """Move to the newest version; whether there was a newer one."""
        if find_newest(self.fs, self.path) == self.manifest.generation:
            return False
        self._move(*load_newest(self.fs, self.path))
        return True

    def _move(self, manifest: Manifest, lock: Lock | None) -> None:
        used = {entry.name for entry in manifest.entries()}
        self._files = {name: file for name, file in self._files.items() if name in used}
        old, self._lock, self.manifest = self._lock, lock, manifest
        if old is not None:
            old.release()

    def verify(self) -> VerifyReport:
        """Read every byte of the newest version and compare it with its digests."""
        return check.verify(self.path, self.fs)

    @staticmethod
    def recover(path: str | PathLike[str], fs: FileSystem | None = None) -> int:
        """Put damaged newest versions aside and go back to the last good one; its number."""
        return check.recover(path, fs)

    def vacuum(self, keep: int = 2) -> int:
        """Remove versions older than the newest ``keep`` that no reader has open, and what only they need.

        Returns the bytes freed. Files of living writers stay.
        """
        if keep < 1:
            raise InputError(f"keep is {keep}", fix="keep at least the newest version")
        return sweep.vacuum(self.fs, self.path, keep)

    def close(self) -> None:
        """Let go of the files and of the version; arrays that were handed out stay valid."""
        self._files = {}
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
