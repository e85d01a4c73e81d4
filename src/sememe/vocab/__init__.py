"""Vocabulary surgery: what the vocabulary of a model costs and wastes, and how to change it.

Models are Hugging Face folders; nothing here needs PyTorch unless its own docstring says so.
"""

from __future__ import annotations

from sememe.vocab.compare import compare
from sememe.vocab.expand import expand
from sememe.vocab.folder import ModelFolder, write_folder
from sememe.vocab.inspect import inspect
from sememe.vocab.tokenizer import TokenizerFile
from sememe.vocab.transplant import transplant
from sememe.vocab.trim import VocabularyTrimmer, trim

__all__ = [
    "ModelFolder",
    "TokenizerFile",
    "VocabularyTrimmer",
    "compare",
    "expand",
    "inspect",
    "transplant",
    "trim",
    "write_folder",
]
