"""Where Sememe keeps what it can make again: vectors already encoded and digests already checked."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_root() -> Path:
    """The folder for caches: ``SEMEME_CACHE`` where that is set, else ``sememe`` in the platform's cache folder."""
    given = os.environ.get("SEMEME_CACHE")
    if given:
        return Path(given).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "sememe"
