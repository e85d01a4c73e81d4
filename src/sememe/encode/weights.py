"""Weight files that installed packages carry: found without importing the package, and checked against a pinned digest.

A package that ships weights may import half a machine-learning stack; only its files are wanted here. Every file is
pinned by SHA-256, so that what is encoded with is what was measured, and a changed file is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sememe.encode.places import cache_root
from sememe.errors import MissingDependency, WeightsError

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One file inside an installed distribution.

    Parameters
    ----------
    distribution : str
        What pip calls the package.
    file : str
        The path below site-packages, with forward slashes; its first part is the importable package.
    sha256 : str
        The digest that the file must have.
    command : str
        What installs the distribution.
    need : str
        Who needs it, for the message.
    """

    distribution: str
    file: str
    sha256: str
    command: str
    need: str

    def path(self) -> Path:
        """Where the file lies; not yet checked.

        Raises
        ------
        MissingDependency
            Where the package is not installed.
        WeightsError
            Where it is, without the file.
        """
        package, _, inside = self.file.partition("/")
        spec = importlib.util.find_spec(package)  # of a top-level name: finds, does not import
        folders = list(spec.submodule_search_locations or ()) if spec is not None else []
        if not folders:
            raise MissingDependency(self.distribution, command=self.command, need=self.need)
        for folder in folders:
            path = Path(folder, *inside.split("/"))
            if path.is_file():
                return path
        raise WeightsError(f"{self.distribution} is installed without {inside}", where=self.file, fix=self.command)

    def read(self) -> bytes:
        """The checked bytes: for files that are small enough to hash each time they are loaded."""
        content = self.path().read_bytes()
        self._compare(hashlib.sha256(content).hexdigest())
        return content

    def verified(self) -> Path:
        """The path of the checked file, for libraries that open it themselves.

        A large file is hashed once: the digest is remembered under the cache folder by path, size and time of change.
        """
        path = self.path()
        self._compare(known_digest(path))
        return path

    def _compare(self, digest: str) -> None:
        if digest != self.sha256:
            raise WeightsError(
                f"the digest is {digest[:16]}..., not the pinned {self.sha256[:16]}...",
                where=str(self.path()),
                fix=f"install it again: {self.command}",
            )


def file_digest(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            hasher.update(block)
    return hasher.hexdigest()


def known_digest(path: Path) -> str:
    """SHA-256 of a file, remembered under the cache folder by path, size and time of change."""
    status = path.stat()
    stamp = f"{path.resolve()}:{status.st_size}:{status.st_mtime_ns}"
    known = _remembered()
    if stamp not in known:
        known[stamp] = file_digest(path)
        _remember(known)
    return known[stamp]


def _memory() -> Path:
    return cache_root() / "verified.json"


def _remembered() -> dict[str, str]:
    try:
        known = json.loads(_memory().read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _remember(known: dict[str, str]) -> None:
    # Written beside and renamed, so that another process never reads half. Where the folder cannot be written, the
    # file is hashed again next time.
    with contextlib.suppress(OSError):
        memory = _memory()
        memory.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=memory.parent, prefix="verified-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(known, file)
        Path(name).replace(memory)
