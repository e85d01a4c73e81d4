"""A smaller encoder with a smaller vocabulary, as a folder beside its teacher's."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sememe.errors import InputError, MissingDependency
from sememe.vocab.folder import ModelFolder
from sememe.vocab.mixed_vocab import MixedVocabDistiller
from sememe.vocab.sample import from_texts, read_sample
from sememe.vocab.side_files import digest, dump, read_json
from sememe.vocab.tokenizer import TokenizerFile
from sememe.vocab.trim import VocabularyTrimmer
from sememe.vocab.writing import SURGERY, fixed_padding, staging

_DECODERS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_PART = "sentence_transformers.models."


def mixed(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    text: Sequence[str | os.PathLike[str]] = (),
    *,
    texts: Sequence[str] | None = None,
    size: float = 5_000,
    tokenizer: str | os.PathLike[str] | None = None,
    most_texts: int = 20_000,
    **options: Any,
) -> dict[str, Any]:
    """Teach a student that is smaller in vocabulary, width and layers.

    A sentence encoder's student gives vectors in the teacher's space: the new folder's last layer carries them there.

    Parameters
    ----------
    model : path
        A Hugging Face or sentence-transformers folder of an encoder, bare or one that fills gaps, with safetensors.
    out : path
        The new folder; it must not exist.
    text : list of paths
        What to learn from; see `sememe.vocab.sample.read_sample`.
    texts : list of str, optional
        That text itself instead.
    size : float or int
        Tokens of the student, or up to 1.0 a share of the teacher's: the teacher's tokenizer is trimmed to that.
    tokenizer : path, optional
        The student's tokenizer instead; it must cut texts into the same words.
    most_texts : int
        Texts that are learned from, drawn where there are more.
    options
        See `sememe.vocab.mixed_vocab.MixedVocabDistiller`.

    Returns
    -------
    dict
        ``model``, ``out``, ``tokens``, ``parameters`` and ``model_bytes`` before and after, ``losses`` of both stages
        at their beginning and end, ``texts``, ``notices``.

    Raises
    ------
    InputError
        A model that is no such encoder, one that pools in another way than by the mean, or no text.

    Examples
    --------
    >>> sememe.vocab.mixed("model", "small", ["corpus.txt"], size=5_000, width=128)  # doctest: +SKIP
    """
    distiller = MixedVocabDistiller(**_known(options))
    folder = _encoder(model)
    if Path(out).exists():
        raise InputError("this exists already", where=str(out), fix="name a new folder, or remove this one")
    sentences = _pools_by_mean(folder)
    sample = from_texts(texts) if texts is not None else read_sample(text)
    large = folder.tokenizer()
    if tokenizer is None:
        trimmer = VocabularyTrimmer(size)
        named, fixed = folder.named_ids(), fixed_padding(folder)
        small = trimmer.choose(large, sample, (), named, fixed, folder.layout.input).tokenizer
    else:
        small = TokenizerFile.open(tokenizer)
    chosen = sample.texts
    if len(chosen) > most_texts:
        places = np.random.default_rng(distiller.seed).permutation(len(chosen))[:most_texts]
        chosen = [chosen[place] for place in sorted(places.tolist())]
    teacher = _teacher(folder)
    distiller.fit(teacher, large, small, chosen)
    place = _write(folder, out, distiller, small, sentences)
    weights = [folder.inner / shard for shard in folder.shards]
    return {
        "model": str(folder.path),
        "out": str(place),
        **_summary(folder, distiller, large, small),
        "model_bytes": {"before": _bytes(weights), "after": _bytes(sorted(place.rglob("*.safetensors")))},
        "texts": len(chosen),
        "notices": sample.notices,
    }


def _encoder(path: str | os.PathLike[str]) -> ModelFolder:
    folder = ModelFolder.open(path)
    names = [str(name) for name in folder.config.get("architectures") or []]
    if any(name.endswith(_DECODERS) for name in names) or folder.config.get("is_decoder"):
        raise InputError(f"{', '.join(names)} is no encoder", where=str(folder.inner), fix="give a BERT or its like")
    return folder


def _known(options: dict[str, Any]) -> dict[str, Any]:
    known = MixedVocabDistiller._parameter_names()
    for name in options:
        if name not in known:
            raise InputError(f"there is no parameter {name!r}", fix=f"known: {', '.join(known)}")
    return options


def _pools_by_mean(folder: ModelFolder) -> bool:
    """Whether this is a sentence encoder, which must then take the mean of its tokens."""
    if not (folder.path / "modules.json").is_file():
        return False
    for place in sorted(folder.path.glob("*_Pooling/config.json")):
        settings = read_json(place) or {}
        used = {
            name for name, value in settings.items() if name.startswith("pooling_mode") and value not in (False, "")
        }
        if used and used != {"pooling_mode_mean_tokens"} and settings.get("pooling_mode") != "mean":
            raise InputError("this encoder pools in another way than by the mean", where=str(place))
    return True


def _teacher(folder: ModelFolder) -> Any:
    try:
        import torch
        import transformers
    except ImportError as error:
        raise MissingDependency(error.name or "torch", extra="torch", need="teaching a student") from None
    from sememe.encode.folder import loading

    loader = transformers.AutoModelForMaskedLM if folder.layout.head else transformers.AutoModel
    with loading(str(folder.inner)):
        return loader.from_pretrained(str(folder.inner), dtype=torch.float32, local_files_only=True).eval()


def _summary(
    folder: ModelFolder, distiller: MixedVocabDistiller, large: TokenizerFile, small: TokenizerFile
) -> dict[str, Any]:
    ends = {
        name: [float(losses[0]), float(losses[-1])] if len(losses) else None
        for name, losses in (("aligning", distiller.align_losses_), ("teaching", distiller.losses_))
    }
    parameters = sum(p.numel() for p in distiller.student.parameters())
    return {
        "operation": "mixed",
        "options": distiller.get_params(),
        "tokens": {"before": len(large.tokens), "after": len(small.tokens)},
        "parameters": {"before": folder.parameters, "after": parameters},
        "losses": ends,
    }


def _write(
    folder: ModelFolder,
    out: str | os.PathLike[str],
    distiller: MixedVocabDistiller,
    small: TokenizerFile,
    sentences: bool,
) -> Path:
    """The student's folder, whole or not at all."""
    from safetensors.numpy import save_file

    target = Path(out)
    with staging(folder.path, target) as stage:
        stage.mkdir(exist_ok=True)
        distiller.student.save_pretrained(stage)
        for name, content in small.files().items():
            (stage / name).write_bytes(content)
        if sentences:
            width, dim = distiller.lift_.shape
            parts = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense"), ("3_Normalize", "Normalize")]
            modules = [
                {"idx": n, "name": str(n), "path": at, "type": _PART + kind} for n, (at, kind) in enumerate(parts)
            ]
            pooling = {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True}
            dense = {
                "in_features": width,
                "out_features": dim,
                "bias": False,
                "activation_function": "torch.nn.modules.linear.Identity",
            }
            for at, _ in parts[1:]:
                (stage / at).mkdir()
            (stage / "modules.json").write_bytes(dump(modules))
            (stage / "1_Pooling" / "config.json").write_bytes(dump(pooling))
            (stage / "2_Dense" / "config.json").write_bytes(dump(dense))
            save_file({"linear.weight": np.ascontiguousarray(distiller.lift_.T)}, stage / "2_Dense/model.safetensors")
            for name in ("sentence_bert_config.json", "config_sentence_transformers.json"):
                settings = read_json(folder.path / name)
                if settings is not None:
                    (stage / name).write_bytes(dump(settings))
        files = {p.relative_to(stage).as_posix(): p for p in sorted(stage.rglob("*")) if p.is_file()}
        document = {
            "format": 1,
            **_summary(folder, distiller, folder.tokenizer(), small),
            "source": {shard: digest(folder.inner / shard) for shard in folder.shards},
            "files": {name: {"bytes": p.stat().st_size, "sha256": digest(p)} for name, p in files.items()},
        }
        (stage / SURGERY).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return target


def _bytes(paths: Sequence[Path]) -> int:
    return sum(path.stat().st_size for path in paths)
