"""Writing a model folder with another vocabulary: streamed, and whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sememe import __version__
from sememe.errors import InputError
from sememe.vocab.side_files import TOKENIZER_FILES, digest, dump, read_json, renumber
from sememe.vocab.tables import text_config
from sememe.vocab.tensors import Change, Rows, Tensor, write_file

if TYPE_CHECKING:
    from sememe.vocab.folder import ModelFolder
    from sememe.vocab.tokenizer import TokenizerFile

_INDEX = "model.safetensors.index.json"
_OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".onnx_data", ".gguf", ".ot", ".tflite")
SURGERY = "surgery.json"
# Models whose first position has the number of the padding token and one more.
_FROM_PADDING = ("roberta", "xlm-roberta", "xlm-roberta-xl", "roberta-prelayernorm", "camembert", "longformer",
                 "data2vec-text", "ibert", "xmod", "esm")  # fmt: skip


def write_folder(
    source: ModelFolder,
    out: str | os.PathLike[str],
    *,
    tokenizer: TokenizerFile,
    tables: Mapping[str, NDArray[Any]] | None = None,
    rows: NDArray[np.int64] | None = None,
    ids: Mapping[int, int | None] | None = None,
    config: Mapping[str, Any] | None = None,
    surgery: Mapping[str, Any],
) -> Path:
    """Write a model with another vocabulary; all other tensors and files are copied as they are.

    Exactly one of ``tables`` and ``rows`` is given. Files of weights in other formats (pickles, ONNX, ...) would no
    longer fit and are left out, as are files whose names begin with a dot; ``surgery.json`` lists them.

    Parameters
    ----------
    source : ModelFolder
    out : path
        A folder that does not exist yet.
    tokenizer : TokenizerFile
        Its files replace those of the source.
    tables : dict of name to ndarray, optional
        New tables ``(v_new, d)`` and biases, by role (``input``, ``output``) or tensor name, in any floating type;
        they are stored in the type of the old ones. Tied copies follow by themselves.
    rows : int64 ndarray of shape (v_new,), optional
        Ascending rows of the old tables that are kept, in all of them.
    ids : dict of old id to new id, optional
        How ids in config.json and generation_config.json change; an id that maps to None or is absent is dropped. Where
        ``rows`` are given the default is the change that they mean.
    config : dict, optional
        Entries of config.json to set after that.
    surgery : dict
        What was done, for ``surgery.json``.

    Returns
    -------
    Path
        The new folder, complete.
    """
    target = Path(out)
    changes = _changes(source, tables, rows)
    size = len(rows) if rows is not None else int(changes[source.layout.input.name].shape[0])  # type: ignore[union-attr]
    if len(tokenizer.tokens) > size:
        raise InputError(f"the new tokenizer has {len(tokenizer.tokens)} tokens and the new table {size} rows")
    if ids is None and rows is not None:
        ids = {int(old): new for new, old in enumerate(rows.tolist())}
    _check_positions(source, ids)
    with staging(source.path, target) as stage:
        place = stage / source.inner.relative_to(source.path)
        left_out = _copy(source, stage)
        written = _write_weights(source, place, changes)
        for name, content in tokenizer.files().items():
            _write(place / name, content)
        _write_configs(source, place, size, ids, config or {})
        files = {p.relative_to(stage).as_posix(): p for p in sorted(stage.rglob("*")) if p.is_file()}
        inner_name = source.inner.relative_to(source.path)
        document = {
            "format": 1,
            "sememe": __version__,
            **surgery,
            "source": {
                (inner_name / name).as_posix(): digest(source.inner / name)
                for name in [*source.shards, "config.json", *sorted(TOKENIZER_FILES)]
                if (source.inner / name).is_file()
            },
            "files": {
                name: {
                    "bytes": p.stat().st_size,
                    "sha256": written.get(p.name if p.parent == place else "") or digest(p),
                }
                for name, p in files.items()
            },
            "left_out": left_out,
        }
        _write(stage / SURGERY, dump(document))
    return target


def fixed_padding(source: ModelFolder) -> int | None:
    """The id of the padding token, where the model counts its positions from there and it must keep its number."""
    settings = text_config(source.config)
    pad = settings.get("pad_token_id")
    return pad if settings.get("model_type") in _FROM_PADDING and isinstance(pad, int) else None


def _check_positions(source: ModelFolder, ids: Mapping[int, int | None] | None) -> None:
    """Refuse to move the padding token of a model that counts its positions from there."""
    pad = fixed_padding(source)
    if ids is not None and pad is not None and ids.get(pad) != pad:
        raise InputError(
            f"this model counts positions from its padding token, {pad}, which would become {ids.get(pad)}",
            where=str(source.path),
            fix="give a tokenizer that has a padding token, and more tokens than that id",
        )


@contextlib.contextmanager
def staging(source: Path, target: Path) -> Iterator[Path]:
    """A folder beside ``target`` that becomes it at the end, or vanishes where anything goes wrong."""
    inside = source.resolve()
    if target.exists() or target.is_symlink():
        raise InputError("this exists already", where=str(target), fix="name a new folder, or remove this one")
    if inside in target.resolve().parents:
        raise InputError("the new folder would lie inside the model", where=str(target), fix="name another place")
    stage = target.parent / f".{target.name}.{secrets.token_hex(4)}.partial"
    try:
        try:
            stage.mkdir(parents=True)
            yield stage
            if target.exists():
                raise InputError("this came into being meanwhile", where=str(target), fix="name a new folder")
            stage.rename(target)
        except OSError as error:
            raise InputError(f"cannot be written ({error.strerror or error})", where=str(target)) from None
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _changes(
    source: ModelFolder, tables: Mapping[str, NDArray[Any]] | None, rows: NDArray[np.int64] | None
) -> dict[str, Change]:
    layout = source.layout
    if (tables is None) == (rows is None):
        raise InputError("give either tables or rows")
    if rows is not None:
        if len(rows) == 0 or (np.diff(rows) <= 0).any() or rows[0] < 0 or rows[-1] >= source.size:
            raise InputError(f"rows must ascend within 0 ... {source.size - 1}")
        return {t.name: Rows(rows, 0 if t.shape[0] == source.size else 1) for t in layout.all}
    assert tables is not None
    given = {source.tensor(name).name: np.asarray(table) for name, table in tables.items()}
    for origin, copies in ((layout.input, layout.copies), (layout.output, layout.output_copies)):
        if origin is not None and origin.name in given:
            given |= {copy.name: given[origin.name] for copy in copies}
    missing = [t.name for t in layout.all if t.name not in given]
    if missing:
        raise InputError(f"a new table is missing: {', '.join(missing)}", where=str(source.inner))
    size = len(given[layout.input.name])
    for tensor in layout.all:
        shape = tuple(size if side == source.size and axis == _axis(tensor, source.size) else side
                      for axis, side in enumerate(tensor.shape))  # fmt: skip
        if given[tensor.name].shape != shape:
            raise InputError(f"the new {tensor.name} has shape {given[tensor.name].shape}, expected {shape}")
    return dict(given)


def _axis(tensor: Tensor, size: int) -> int:
    return 0 if tensor.shape[0] == size else 1


def _copy(source: ModelFolder, stage: Path) -> list[str]:
    """Copy what does not change; returns the names that were left out."""
    left_out = []
    for root, folders, names in os.walk(source.path):
        here = Path(root)
        relative = here.relative_to(source.path)
        for name in [*folders]:
            if name.startswith(".") or (here / name).is_symlink():
                folders.remove(name)
                left_out.append((relative / name).as_posix() + "/")
        (stage / relative).mkdir(exist_ok=True)
        for name in sorted(names):
            old = here / name
            if here == source.inner and (name in TOKENIZER_FILES or name in source.shards or name == _INDEX):
                continue
            stray = here == source.inner and old.suffix == ".safetensors"
            other = old.suffix in _OTHER_WEIGHTS and old.name != "training_args.bin"
            if name.startswith(".") or name == SURGERY or stray or other or not old.is_file():
                left_out.append((relative / name).as_posix())
                continue
            _write(stage / relative / name, old)
    for folder in sorted((p for p in stage.rglob("*") if p.is_dir()), reverse=True):
        if not any(folder.iterdir()) and folder != stage / source.inner.relative_to(source.path):
            folder.rmdir()  # held only what was left out
    return sorted(left_out)


def _write_weights(source: ModelFolder, place: Path, changes: Mapping[str, Change]) -> dict[str, str]:
    """Digest of each new weight file by name."""
    digests, total = {}, 0
    for shard in source.shards:
        held = {name: tensor for name, tensor in source.tensors.items() if tensor.file.name == shard}
        digests[shard], size = write_file(place / shard, held, source.metadata[shard], changes)
        total += size
    index = read_json(source.inner / _INDEX)
    if index is not None:
        known = index.get("metadata")
        index["metadata"] = {**(known if isinstance(known, dict) else {}), "total_size": total}
        _write(place / _INDEX, dump(index))
    return digests


def _write_configs(
    source: ModelFolder, place: Path, size: int, ids: Mapping[int, int | None] | None, extra: Mapping[str, Any]
) -> None:
    config: dict[str, Any] = json.loads(json.dumps(source.config))
    if ids is not None:
        renumber(config, ids)
    target = text_config(config)
    target["vocab_size"] = size  # type: ignore[index]
    if "vocab_size" in config:
        config["vocab_size"] = size
    config |= extra
    _write(place / "config.json", dump(config))
    generation = read_json(source.inner / "generation_config.json")
    if generation is not None and ids is not None:
        renumber(generation, ids)
        generation |= {key: value for key, value in extra.items() if key in generation}
        _write(place / "generation_config.json", dump(generation))


def _write(path: Path, content: bytes | Path) -> None:
    with path.open("wb") as file:
        if isinstance(content, Path):
            with content.open("rb") as old:
                shutil.copyfileobj(old, file, 1 << 20)
        else:
            file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_without(
    source: ModelFolder, out: str | os.PathLike[str], leave_out: Collection[str], files: Mapping[str, bytes | Path]
) -> Path:
    """Write a model without some of its tensors, for which further files stand in.

    The weight files get names of their own (``without-...``), so that nothing opens them as a whole model and fills
    what is missing with noise.

    Parameters
    ----------
    source : ModelFolder
    out : path
        A folder that does not exist yet.
    leave_out : collection of str
        Names of tensors.
    files : dict of name to bytes or path
        Put beside the weights.

    Returns
    -------
    Path
        The new folder, complete.
    """
    target = Path(out)
    with staging(source.path, target) as stage:
        place = stage / source.inner.relative_to(source.path)
        _copy(source, stage)
        for shard in source.shards:
            held = {n: t for n, t in source.tensors.items() if t.file.name == shard and n not in leave_out}
            if held:
                write_file(place / without_name(shard), held, source.metadata[shard], {})
        for name in sorted(TOKENIZER_FILES):
            if (source.inner / name).is_file():
                _write(place / name, source.inner / name)
        for name, content in files.items():
            _write(place / name, content)
    return target


def without_name(shard: str) -> str:
    """What a weight file that lacks tensors is called."""
    return f"without-{shard}"
