"""An index on disk: immutable checked files, published version by version.

``fs`` makes every system call, ``blockfile`` checks every block before its first use, ``manifest`` says what a version
consists of, ``layout`` what the names in the folder mean, ``transaction`` publishes, ``sweep`` tidies, ``check``
verifies and recovers, and ``store`` is what the rest of the index uses.
"""

from __future__ import annotations

from sememe.faces import lazy

_LAZY = {
    "BlockFile": "blockfile",
    "BlockWriter": "blockfile",
    "FileEntry": "blockfile",
    "FileSystem": "fs",
    "Manifest": "manifest",
    "Segment": "manifest",
    "Store": "store",
    "Transaction": "transaction",
    "VerifyReport": "check",
}
__all__ = list(_LAZY)

__getattr__, __dir__ = lazy(__name__, _LAZY)
