"""The machine of a run: what it is, how fast it reads memory, and how fast it multiplies and adds."""

from __future__ import annotations

import os
import platform
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sememe.bench.harness import once

_READ = 1 << 28  # bytes: more than any cache holds
_EDGE = 1024  # of the square matrices that are multiplied
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Limits:
    """What no contender can beat, measured in the same run.

    Attributes
    ----------
    bandwidth : float
        Bytes a second that a sum over 256 MiB reads.
    multiply_adds : float
        float32 multiply-adds a second of NumPy's matrix product. Integer units can do more.
    """

    bandwidth: float
    multiply_adds: float

    def as_json(self) -> dict[str, float]:
        """Both, by name."""
        return asdict(self)


def limits(threads: int) -> Limits:
    """Measure both with ``threads`` threads; the best of a few tries."""
    words = np.ones(_READ // 8, dtype=np.int64)
    parts = np.array_split(words, threads)
    with ThreadPoolExecutor(threads) as pool:
        read = min(once(lambda: list(pool.map(np.sum, parts)))[0].elapsed for _ in range(_TRIES))
    A = np.random.default_rng(0).standard_normal((_EDGE, _EDGE), dtype=np.float32)
    multiplied = min(once(lambda: A @ A)[0].elapsed for _ in range(_TRIES))
    return Limits(words.nbytes / read, _EDGE**3 / multiplied)


def describe() -> dict[str, Any]:
    """Processor, cores, caches, memory, system, Python, and the level of the native core."""
    from sememe import __version__
    from sememe.kernels import native

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": _processor(),
        "cores": cores,
        "last_level_cache": _read(Path("/sys/devices/system/cpu/cpu0/cache/index3/size")),
        "memory_gb": _memory(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "sememe": __version__,
        "native": native.level(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _processor() -> str:
    for line in (_read(Path("/proc/cpuinfo")) or "").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):
        return None
