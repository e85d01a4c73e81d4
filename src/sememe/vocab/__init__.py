"""Vocabulary surgery: what the vocabulary of a model costs and wastes, and how to change it.

Models are Hugging Face folders; nothing here needs PyTorch unless its own docstring says so. What is not surgery on a
folder (byte-level probabilities, drafts, tokens made on the fly, byte-pair coding of any symbols) is imported when
first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sememe.faces import lazy
from sememe.vocab.compare import compare
from sememe.vocab.expand import expand
from sememe.vocab.folder import ModelFolder, write_folder
from sememe.vocab.inspect import inspect
from sememe.vocab.mixed import mixed
from sememe.vocab.tokenizer import TokenizerFile
from sememe.vocab.transplant import transplant
from sememe.vocab.trim import VocabularyTrimmer, trim

_LAZY = {
    "AdjacencyDraft": "draft",
    "ByteBPE": "byte_bpe",
    "ByteFusion": "byte_fusion",
    "ByteLevelModel": "byte_probs",
    "ByteState": "byte_probs",
    "CharConstrainedFIM": "boundaries",
    "DynamicBatch": "dynamic",
    "DynamicDecoder": "dynamic_decoder",
    "DynamicEncoder": "dynamic_encoder",
    "DynamicTokenizer": "dynamic",
    "EntropyPatcher": "patching",
    "FillPrompt": "boundaries",
    "FusedState": "byte_fusion",
    "Hypothesis": "byte_fusion",
    "MixedVocabDistiller": "mixed_vocab",
    "SequenceBPE": "bpe",
    "TrigramDraft": "draft",
}
__all__ = [
    "AdjacencyDraft",
    "ByteBPE",
    "ByteFusion",
    "ByteLevelModel",
    "ByteState",
    "CharConstrainedFIM",
    "DynamicBatch",
    "DynamicDecoder",
    "DynamicEncoder",
    "DynamicTokenizer",
    "EntropyPatcher",
    "FillPrompt",
    "FusedState",
    "Hypothesis",
    "MixedVocabDistiller",
    "ModelFolder",
    "SequenceBPE",
    "TokenizerFile",
    "TrigramDraft",
    "VocabularyTrimmer",
    "compare",
    "expand",
    "inspect",
    "mixed",
    "transplant",
    "trim",
    "write_folder",
]

if TYPE_CHECKING:
    from sememe.vocab.boundaries import CharConstrainedFIM, FillPrompt
    from sememe.vocab.bpe import SequenceBPE
    from sememe.vocab.byte_bpe import ByteBPE
    from sememe.vocab.byte_fusion import ByteFusion, FusedState, Hypothesis
    from sememe.vocab.byte_probs import ByteLevelModel, ByteState
    from sememe.vocab.draft import AdjacencyDraft, TrigramDraft
    from sememe.vocab.dynamic import DynamicBatch, DynamicTokenizer
    from sememe.vocab.dynamic_decoder import DynamicDecoder
    from sememe.vocab.dynamic_encoder import DynamicEncoder
    from sememe.vocab.mixed_vocab import MixedVocabDistiller
    from sememe.vocab.patching import EntropyPatcher

__getattr__, __dir__ = lazy(__name__, _LAZY)
