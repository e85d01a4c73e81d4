"""One harness for every comparison that trains a small model: the same data, order, optimiser and seeds for all.

`data` cuts documents and makes token streams, `model` holds small transformers with exchangeable tables, `train` is the
one recipe, `score` gives bits a byte with an interval, `compare` puts contenders in a table. Names are imported when
first used; what needs PyTorch says so when it is missing. `train.train` and `compare.compare` are called
through their modules, which have the same names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sememe.faces import lazy

_LAZY = {
    "Causal": "causal",
    "Comparison": "compare",
    "Contender": "compare",
    "Corpus": "data",
    "History": "train",
    "Masked": "masked",
    "Recipe": "train",
    "Score": "score",
    "Shape": "model",
    "SmallEncoder": "model",
    "SmallLM": "model",
    "Store": "store",
    "Stream": "data",
    "batches": "data",
    "encode": "data",
    "loss_per_byte": "score",
    "pack": "data",
    "paired": "score",
    "score_stream": "score",
    "seeded": "model",
    "small_llama": "causal",
    "small_llama_folder": "store",
    "stream_of": "data",
    "table": "model",
}
__all__ = [
    "Causal",
    "Comparison",
    "Contender",
    "Corpus",
    "History",
    "Masked",
    "Recipe",
    "Score",
    "Shape",
    "SmallEncoder",
    "SmallLM",
    "Store",
    "Stream",
    "batches",
    "encode",
    "loss_per_byte",
    "pack",
    "paired",
    "score_stream",
    "seeded",
    "small_llama",
    "small_llama_folder",
    "stream_of",
    "table",
]

if TYPE_CHECKING:
    from sememe.lab.causal import Causal, small_llama
    from sememe.lab.compare import Comparison, Contender
    from sememe.lab.data import Corpus, Stream, batches, encode, pack, stream_of
    from sememe.lab.masked import Masked
    from sememe.lab.model import Shape, SmallEncoder, SmallLM, seeded, table
    from sememe.lab.score import Score, loss_per_byte, paired, score_stream
    from sememe.lab.store import Store, small_llama_folder
    from sememe.lab.train import History, Recipe

__getattr__, __dir__ = lazy(__name__, _LAZY)
