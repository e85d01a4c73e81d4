"""Model folders in Hugging Face's layout: where they are, what they hold, and what is refused."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sememe.encode.base import fingerprint
from sememe.encode.weights import known_digest
from sememe.errors import InputError, MissingDependency, SememeError

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_KEPT = ("*.safetensors", "*.json", "*.txt", "*.model")  # what is fetched from a hub: no pickle, no code


def locate(path_or_id: str) -> Path:
    """The folder of a model: a path on this machine, or else the hub's copy, downloaded once.

    A path that exists is used as it is, and no network is touched.

    Raises
    ------
    InputError
        Where there is no such folder, and no such model on the hub or no way to reach it.
    """
    if not path_or_id.strip():
        raise InputError("no model is named", fix="write hf:FOLDER or hf:ORGANIZATION/MODEL")
    try:
        folder = Path(path_or_id).expanduser()
        if folder.is_dir():
            return folder
    except (OSError, ValueError, RuntimeError):
        folder = None  # a name that no file system takes
    looks_local = path_or_id.startswith((".", "/", "~")) or path_or_id.count("/") != 1 or "\\" in path_or_id
    if folder is None or looks_local:
        raise InputError("there is no such model folder", where=path_or_id, fix="check the path")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingDependency("huggingface-hub", extra="torch", need=f"the model {path_or_id}") from None
    try:
        return Path(snapshot_download(path_or_id, allow_patterns=list(_KEPT)))
    except Exception as error:  # whatever the hub's client raises: no network, no such model, no permission
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"cannot be had from the hub ({reason})", where=path_or_id, fix="or give a folder") from None


def check_safe(folder: Path) -> None:
    """Refuse a model whose weights could only be read by unpickling, which runs code from the file.

    A pickle that lies beside a safetensors file of the same folder is left unread, and no reason to refuse.
    """
    for place in [folder, *(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))]:
        pickles = [p.name for p in place.iterdir() if p.suffix in _PICKLES and p.stem != "training_args"]
        if pickles and not any(place.glob("*.safetensors")):
            raise InputError(
                f"the weights are pickled ({pickles[0]}), and reading them could run code",
                where=str(place),
                fix="convert them to model.safetensors (model.save_pretrained does)",
            )


def folder_digest(folder: Path, *settings: object) -> str:
    """A digest of all files that decide what a model computes, and of the settings it is used with."""
    files = sorted(p for pattern in _KEPT for p in folder.rglob(pattern) if "README" not in p.name)
    return fingerprint([(p.relative_to(folder).as_posix(), known_digest(p)) for p in files], *settings)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, empty where the file is missing.

    Raises
    ------
    InputError
        Where the file holds something else.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"is not JSON ({error})", where=str(path)) from None
    if not isinstance(content, dict):
        raise InputError("is not a JSON object", where=str(path))
    return content


@contextlib.contextmanager
def loading(what: str) -> Iterator[None]:
    """Load with transformers: without its progress bars and reports, and with its errors on one line."""
    import transformers

    log = transformers.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    except SememeError:
        raise
    except Exception as error:  # a damaged or unknown model folder can raise anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"the model cannot be loaded ({reason})", where=what) from error
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
