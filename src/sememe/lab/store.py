"""Trained models kept on disk, so that an experiment trains each once."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sememe.errors import MissingDependency
from sememe.lab.causal import small_llama
from sememe.lab.data import Corpus, batches, stream_of
from sememe.lab.model import Shape, seeded
from sememe.lab.train import History, Recipe, train

try:
    from torch import nn
except ImportError:
    raise MissingDependency("torch", extra="torch", need="training a small model") from None


class Store:
    """A folder of trained weights (safetensors), each named by the digest of what made it.

    Parameters
    ----------
    root : path
        Made when something is kept.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def path(self, key: dict[str, Any]) -> Path:
        """Where the weights of this key lie, if they are there."""
        text = json.dumps(key, sort_keys=True, default=str)
        return self.root / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.safetensors"

    def load(self, key: dict[str, Any], model: nn.Module) -> History | None:
        """Fill ``model`` and give its history; None where nothing (or nothing readable) is kept under this key."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path(key), "pt") as file:
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dict
                history = History(**json.loads(file.metadata()["history"]))
            model.load_state_dict(state)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError):
            return None
        return history

    def save(self, key: dict[str, Any], model: nn.Module, history: History) -> Path:
        """Keep the weights; they appear whole or not at all."""
        from safetensors.torch import save_file

        self.root.mkdir(parents=True, exist_ok=True)
        handle, staged = tempfile.mkstemp(dir=self.root, suffix=".part")
        os.close(handle)
        try:
            state = {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}
            save_file(state, staged, metadata={"history": json.dumps(history.as_json())})
            Path(staged).replace(self.path(key))
        finally:
            Path(staged).unlink(missing_ok=True)
        return self.path(key)

    def trained(
        self, key: dict[str, Any], model: nn.Module, batches: Callable[[], Iterable[Any]], recipe: Recipe
    ) -> History:
        """Load the weights of ``key``, or train and keep them. ``key`` must name everything that matters."""
        whole = {**key, "recipe": recipe, "model": str(model)}
        history = self.load(whole, model)
        if history is None:
            history = train(model, batches(), recipe)
            self.save(whole, model, history)
        return history


def small_llama_folder(
    out: str | Path,
    tokenizer: Any,
    corpus: Corpus,
    *,
    shape: Shape | None = None,
    recipe: Recipe | None = None,
    tied: bool = True,
    start: int | None = None,
    batch: int = 16,
    seed: int = 0,
    store: Store | None = None,
) -> History:
    """Train a small Llama on a corpus and write it as an ordinary Hugging Face folder.

    Parameters
    ----------
    out : path
        A folder; made where it is missing.
    tokenizer : tokenizers.Tokenizer
        Saved beside the weights. Its vocabulary is the model's.
    corpus : Corpus
    shape, recipe : optional
        Of the model and its training.
    tied : bool
        One table for input and output.
    start : int, optional
        Id of the begin-of-text token, where the tokenizer has one.
    batch, seed : int
        Sequences a step; of the weights and of the order of the data.
    store : Store, optional
        Where trained weights are looked for and kept.
    """
    shape, recipe = (shape or Shape()).checked(), (recipe or Recipe()).checked()
    stream = stream_of(tokenizer, corpus.train, vocabulary=tokenizer.get_vocab_size())
    with seeded(seed):
        model = small_llama(tokenizer.get_vocab_size(), shape, tied=tied, start=start)

    def order() -> Iterable[Any]:
        return batches(stream, batch, shape.context, seed=seed)

    if store is None:
        history = train(model, order(), recipe)
    else:
        digest = hashlib.sha256(tokenizer.to_str().encode()).hexdigest()
        key = {"corpus": corpus.digest, "tokenizer": digest, "batch": batch, "seed": seed, "start": start, "tied": tied}
        history = store.trained({**key, "shape": shape}, model, order, recipe)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    model.model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": shape.context}
    if start is not None:
        settings["bos_token"] = tokenizer.id_to_token(start)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return history
