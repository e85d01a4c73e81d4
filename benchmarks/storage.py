"""What the on-disk contract costs: a durable commit against bare writes, checked reads against unchecked ones.

    python benchmarks/storage.py [--folder DIR] [--commits 200] [--megabytes 256]

Commits and bare writes are interleaved, so are the reads; medians and 99th percentiles of one run. The limits printed
beside them: one ``fsync`` of the same bytes for a commit, a plain sum over the same memory for a read.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from sememe.index.storage import Segment, Store
from sememe.index.storage.manifest import Manifest

MEGABYTE = 1 << 20


def timed(action: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def percentiles(seconds: list[float]) -> str:
    """Median and 99th percentile in milliseconds."""
    return f"p50 {np.percentile(seconds, 50) * 1e3:7.2f} ms   p99 {np.percentile(seconds, 99) * 1e3:7.2f} ms"


def commits(folder: Path, count: int) -> None:
    """Commits of a 1 MiB segment in three files, against one bare file that is written and flushed."""
    data = np.random.default_rng(0).integers(0, 256, MEGABYTE, dtype=np.uint8)
    parts = {"codes": data[: MEGABYTE // 2], "ids": data[MEGABYTE // 2 : -4096], "meta": data[-4096:]}
    bare: list[float] = []
    ours: list[float] = []
    with Store.create(folder / "commits", {}) as store:

        def commit(number: int) -> None:
            with store.begin() as change:
                files = {role: change.write(role, part) for role, part in parts.items()}
                # Only the newest ten segments stay, so that the manifest does not grow with the length of the run.
                segment = Segment(f"s{number}", 1, files)

                def update(manifest: Manifest) -> Manifest:
                    return replace(manifest, segments=(*manifest.segments[-9:], segment))

                change.commit(update)

        def write(number: int) -> None:
            descriptor = os.open(folder / f"bare-{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            os.write(descriptor, data)
            os.fsync(descriptor)
            os.close(descriptor)

        for number in range(count):
            ours.append(timed(lambda: commit(number)))  # noqa: B023 - called at once
            bare.append(timed(lambda: write(number)))  # noqa: B023
            store.vacuum(keep=2)
            (folder / f"bare-{number}").unlink()
    print(f"commit of 1 MiB, 3 files, 6 flushes   {percentiles(ours)}")
    print(f"bare write of 1 MiB, 1 flush          {percentiles(bare)}")
    print(f"ratio of medians                      {np.median(ours) / np.median(bare):.2f}")


def forget(path: Path) -> None:
    """Take a file out of the page cache."""
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def scans(folder: Path, megabytes: int, rounds: int = 9) -> None:
    """First and later sums over a mapped array, with and without checksums."""
    data = np.random.default_rng(1).integers(0, 2**63, megabytes * MEGABYTE // 8, dtype=np.int64)
    with Store.create(folder / "scan", {}) as store, store.begin() as change:
        entry = change.write("codes", data)
        change.commit(lambda manifest: replace(manifest, files={"codes": entry}))
    print(f"metadata                              {(entry.size - entry.length) / entry.length:.4%} of the file")
    path = folder / "scan" / entry.name
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for verify in ("off", "lazy"):
            for state in ("disk", "cache"):
                if state == "disk":
                    forget(path)
                with Store.open(folder / "scan", verify=verify) as reader:
                    file = reader.file(entry)

                    def scan(file=file) -> int:
                        return int(file.verified_array("<i8", (len(data),)).sum())

                    times.setdefault((verify, f"first scan, from {state}"), []).append(timed(scan))
                    times.setdefault((verify, "later scan"), []).append(timed(scan))
                    del file, scan  # a page that is mapped cannot be forgotten
    for what in ("first scan, from disk", "first scan, from cache", "later scan"):
        plain, checked = (float(np.median(times[verify, what])) for verify in ("off", "lazy"))
        rate = megabytes / 1024 / checked
        print(f"{what:<37} unchecked {plain * 1e3:6.1f} ms   checked {checked * 1e3:6.1f} ms"
              f"   {rate:5.1f} GiB/s   {checked / plain - 1:+.1%}")  # fmt: skip
    with Store.open(folder / "scan") as reader:
        file, rows = reader.file(entry), np.random.default_rng(2).integers(0, len(data) // 32, 1000)
        file.verify_all()
        print(f"checking 1000 rows once all was seen  {timed(lambda: file.ensure_rows(rows, 256)) * 1e6:.0f} us")


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="a folder on the disk to measure")
    parser.add_argument("--commits", type=int, default=200)
    parser.add_argument("--megabytes", type=int, default=256)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        commits(Path(folder), options.commits)
        scans(Path(folder), options.megabytes)


if __name__ == "__main__":
    main()
