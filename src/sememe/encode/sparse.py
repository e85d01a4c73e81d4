"""A dense encoder with a sparse code after it, as one sparse encoder: what lets a recipe end in inverted lists.

A sparse code is learned from vectors of the corpus, and a recipe's encoder must be ready before there are any. So the
code is learned first and kept in one file, which also names the dense encoder:

    fit_sparse("corpus.safetensors", "minilm", texts)
    sememe.build(records, "my.index", "sparse:corpus.safetensors | inverted")
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sememe.catalog import register
from sememe.codec.sparse_flops import SparseFlops
from sememe.contracts import Kind, Vectors, unit_rows
from sememe.encode.base import fingerprint
from sememe.encode.registry import make
from sememe.errors import InputError

_NAMES = {"weight_", "bias_", "scale_", "strength_", "n_features_in_"}
_FORMAT = "sememe-sparse-1"


def fit_sparse(path: str | Path, encoder: str, texts: Sequence[str], **settings: Any) -> SparseEncoder:
    """Learn a sparse code for an encoder on passages of the corpus, and keep it in a file.

    Parameters
    ----------
    path : path
        The safetensors file to write; one that is there is replaced, all at once.
    encoder : str
        The dense encoder as a recipe writes it.
    texts : sequence of str
        Passages, never queries; ten thousand are plenty.
    **settings
        Of `sememe.codec.SparseFlops`.
    """
    from safetensors.numpy import save

    dense = make(encoder)
    code = SparseFlops(**settings).fit(dense.encode(list(texts)))
    about = {"format": _FORMAT, "encoder": encoder, "digest": dense.digest, "v": str(code.v)}
    data = save(code.state(), metadata=about)
    target = Path(path)
    temporary = target.with_name(f"{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"the sparse code cannot be written ({error.strerror})", where=str(target)) from None
    return SparseEncoder(str(target))


@register(
    "sparse",
    room="encode",
    kind="encoder",
    summary="A dense encoder and a sparse code learned for it, from a file of encode.sparse.fit_sparse.",
    sparse=True,
)
class SparseEncoder:
    """Sparse rows of a dense encoder's vectors, ``sparse:PATH``.

    Parameters
    ----------
    path : str
        A file that `fit_sparse` wrote.

    Raises
    ------
    InputError
        No such file, or not one of these; a dense encoder whose weights are not those the code was learned for.
    """

    max_tokens: int | None

    def __init__(self, path: str) -> None:
        self.name, self.path = f"sparse:{path}", str(path)
        about, state, digest = _read(Path(path))
        self.dense = make(about["encoder"])
        if self.dense.digest != about["digest"]:
            raise InputError(
                f"this sparse code was learned for other weights of {about['encoder']}",
                where=self.path,
                fix="learn it again with fit_sparse",
            )
        self.code = SparseFlops(v=int(about["v"])).load_state(state)
        self.dim = self.code.v
        self.asymmetric = bool(getattr(self.dense, "asymmetric", False))
        self.max_tokens = getattr(self.dense, "max_tokens", None)
        self.digest = f"sparse-{fingerprint(self.dense.digest, digest)}"

    def encode_sparse(self, texts: Sequence[str], *, kind: Kind = "passage", progress: bool = False) -> Any:
        """Unit sparse rows: scipy CSR, float32 ``(n, v)``."""
        return self.code.encode_sparse(self.dense.encode(texts, kind=kind, progress=progress))

    def encode(
        self, texts: Sequence[str], *, kind: Kind = "passage", batch_size: int = 64, progress: bool = False
    ) -> Vectors:
        """The same as dense unit rows ``(n, v)``: for a few texts only."""
        return unit_rows(self.encode_sparse(texts, kind=kind, progress=progress).toarray())

    def __repr__(self) -> str:
        return f"SparseEncoder({self.path!r})"


def _read(path: Path) -> tuple[dict[str, str], dict[str, Any], str]:
    """What the file says about itself, the arrays of the code, and the file's digest."""
    from safetensors import SafetensorError, safe_open

    try:
        digest = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
        with safe_open(path, framework="numpy") as file:
            about = dict(file.metadata() or {})
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError) as error:
        raise InputError(f"no sparse code can be read here ({error})", where=str(path)) from None
    fits = about.get("format") == _FORMAT and state.keys() >= _NAMES and about.keys() >= {"encoder", "digest", "v"}
    if not fits or state["weight_"].shape != (int(state["n_features_in_"]), int(about["v"])):
        raise InputError("this file holds no sparse code", where=str(path), fix="write one with fit_sparse")
    return about, state, digest
