"""A semantic cache on disk: the same checked files and published versions as an index."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sememe.errors import CorruptIndex, FormatError
from sememe.index.arrays import Packed, Strings, StringsWriter, write_packed
from sememe.index.cache_book import KEY_BYTES, Snapshot

if TYPE_CHECKING:
    from sememe.index.storage.store import Store

_KIND = "semantic-cache"


def save(snapshot: Snapshot, path: str | PathLike[str], fs: Any = None) -> None:
    """Publish ``snapshot`` as the newest version of the cache at ``path``, and remove what only older ones need."""
    from sememe.index.storage.fs import FileSystem
    from sememe.index.storage.layout import Listing
    from sememe.index.storage.store import Store

    fs = fs or FileSystem()
    folder = Path(path)
    if fs.exists(folder) and Listing.read(fs, folder).highest:
        store = Store.open(folder, fs)
    else:
        store = Store.create(folder, {"kind": _KIND}, fs)
    with store:
        _check_kind(store)
        answers = StringsWriter()
        for answer in snapshot.answers:
            answers.add(answer)
        with store.begin() as transaction:
            arrays: dict[str, Any] = {"keys": snapshot.keys.ravel(), "made": snapshot.made, "ends": snapshot.ends}
            entries, layout = write_packed(transaction, "entries", {**answers.arrays("answers"), **arrays})
            files = {"vectors": transaction.write("vectors", snapshot.vectors), "entries": entries}
            body = {"kind": _KIND, "count": len(snapshot.answers), "layout": layout, "settings": snapshot.settings}
            transaction.commit(lambda manifest: replace(manifest, body=body, files=files))
        store.vacuum(keep=1)


def load(path: str | PathLike[str], fs: Any = None) -> Snapshot:
    """The newest version of the cache at ``path``, read whole and verified."""
    from sememe.index.storage.store import Store

    with Store.open(path, fs, verify="full") as store:
        _check_kind(store)
        body, files = store.manifest.body, store.manifest.files
        try:
            count, settings = int(body["count"]), dict(body["settings"])
            packed = Packed(store.file(files["entries"]), body["layout"])
            vectors = store.file(files["vectors"]).verified_array(np.float32, (count, int(settings["dim"])))
            answers = Strings.of(packed, "answers", count)
            made, ends = (packed.get(name).all().astype(np.float64) for name in ("made", "ends"))
            return Snapshot(
                np.array(vectors),
                [answers[row] for row in range(count)],
                packed.get("keys").all().reshape(count, KEY_BYTES).copy(),
                made,
                ends,
                settings,
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, CorruptIndex):
                raise
            raise CorruptIndex(f"the cache's facts are malformed ({error!r})", where=str(path)) from None


def _check_kind(store: Store) -> None:
    if store.manifest.body.get("kind") != _KIND:
        raise FormatError("this folder holds no semantic cache", where=str(store.path), fix="choose another folder")
