"""A tiny index whose right content for every version is known."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from sememe.index.storage.fs import FileSystem
from sememe.index.storage.manifest import Manifest, Segment
from sememe.index.storage.store import Store


@lru_cache
def payload(number: int, role: str) -> bytes:
    """What segment ``number`` holds: a few blocks of noise, ids as text, or nothing."""
    if role == "ids":
        return "\n".join(f"doc-{number}-{row}" for row in range(40)).encode()
    if role == "empty":
        return b""
    return random.Random(number).randbytes(9_000 + 70_000 * (number % 3 == 0))


def append(store: Store, number: int) -> int:
    """Commit segment ``number``; the version that resulted."""
    with store.begin() as change:
        files = {role: change.write(role, payload(number, role)) for role in ("codes", "ids", "empty")}

        def update(manifest: Manifest) -> Manifest:
            added = Segment(f"s{number}", number + 1, files, {"number": number})
            body = {**manifest.body, "count": manifest.body["count"] + 1}
            return replace(manifest, segments=(*manifest.segments, added), body=body)

        return change.commit(update).generation


def drop(store: Store, number: int) -> int:
    """Commit a version without segment ``number``."""
    with store.begin() as change:
        return change.commit(
            lambda manifest: replace(
                manifest,
                segments=tuple(one for one in manifest.segments if one.info["number"] != number),
                body={**manifest.body, "count": manifest.body["count"] - 1},
            )
        ).generation


def build(path: Path, count: int, fs: FileSystem | None = None, overwrite: bool = False) -> Store:
    """A new index of ``count`` commits; segment ``i`` is in version ``i + 1``."""
    store = Store.create(path, {"count": 0}, fs, overwrite)
    for number in range(count):
        append(store, number)
    return store


def content(store: Store) -> list[int]:
    """Read everything; the numbers of the segments. AssertionError where anything read is not what was written."""
    numbers = []
    for segment in store.manifest.segments:
        number = segment.info["number"]
        assert segment.rows == number + 1 and segment.name == f"s{number}"
        for role, entry in segment.files.items():
            assert bytes(store.file(entry).read()) == payload(number, role), f"silent damage in {entry.name}"
        numbers.append(number)
    assert store.manifest.body["count"] == len(numbers)
    return numbers


def read(path: Path, fs: FileSystem | None = None) -> list[int]:
    """Open the newest version and read everything."""
    with Store.open(path, fs) as store:
        return content(store)
