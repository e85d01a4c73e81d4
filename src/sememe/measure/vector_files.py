"""Vectors from files: NumPy, Parquet, fbin, and HDF5 where its reader is installed. Mapped where the format allows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sememe.contracts import Vectors
from sememe.errors import InputError, MissingDependency

_BINARY = {".fbin": np.float32, ".hbin": np.float16, ".u8bin": np.uint8, ".i8bin": np.int8}


def read_vectors(path: str, *, column: str | None = None) -> Vectors:
    """A table of vectors, float32 ``(n, d)``.

    Parameters
    ----------
    path : str
        ``.npy``; ``.parquet``; ``.fbin``, ``.hbin``, ``.u8bin``, ``.i8bin`` (two 32-bit counts, then rows); or
        ``.hdf5`` and ``.h5`` as the ANN benchmarks write them.
    column : str, optional
        Of Parquet or the data set of HDF5; otherwise the first that holds lists of numbers, or ``train``.

    Raises
    ------
    InputError
        For a file that is missing, cut short or of another shape, with its name.
    MissingDependency
        For Parquet without pyarrow, HDF5 without h5py.
    """
    file = Path(path)
    suffix = file.suffix.lower()
    try:
        if suffix == ".npy":
            found = np.load(file, mmap_mode="r", allow_pickle=False)
        elif suffix in _BINARY:
            found = _counted(file, _BINARY[suffix])
        elif suffix == ".parquet":
            found = _parquet(file, column)
        elif suffix in (".hdf5", ".h5"):
            found = _hdf5(file, column or "train")
        else:
            raise InputError(
                f"vectors cannot be read from a {suffix or 'file without an ending'}",
                where=path,
                fix="give .npy, .parquet, .fbin or .hdf5",
            )
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", where=path) from None
    except (ValueError, EOFError) as error:  # NumPy's words for a damaged, pickled or empty file
        raise InputError(f"is no table of numbers ({error})", where=path) from None
    if found.ndim != 2 or not found.size:
        raise InputError(f"holds an array of shape {found.shape}, not rows of vectors", where=path)
    vectors = np.ascontiguousarray(found, dtype=np.float32)
    if not np.isfinite(vectors).all():
        row = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
        raise InputError(f"holds NaN or infinity in row {row}", where=path, fix="remove or replace that row")
    return vectors


def _counted(file: Path, kind: Any) -> Any:
    with file.open("rb") as handle:
        head = np.fromfile(handle, dtype="<u4", count=2)
    if len(head) < 2:
        raise InputError("the file has no header of two counts", where=str(file))
    n, d = int(head[0]), int(head[1])
    want = 8 + n * d * np.dtype(kind).itemsize
    if file.stat().st_size != want:
        raise InputError(f"the header promises {n} x {d}, {want} bytes; it has {file.stat().st_size}", where=str(file))
    return np.memmap(file, dtype=kind, mode="r", offset=8, shape=(n, d))


def _parquet(file: Path, column: str | None) -> Any:
    try:
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingDependency("pyarrow", extra="parquet", need="a Parquet file") from None
    try:
        schema = pq.read_schema(file)
    except pa.ArrowException as error:
        raise InputError(f"is no Parquet file ({' '.join(str(error).split())})", where=str(file)) from None
    lists = [f.name for f in schema if pa.types.is_list(f.type) or pa.types.is_fixed_size_list(f.type)]
    name = column or next(iter(lists), None)
    if name is None or name not in schema.names:
        known = ", ".join(schema.names)
        raise InputError(f"has no column {column or 'of lists'}", where=str(file), fix=f"its columns: {known}")
    cells = pq.read_table(file, columns=[name]).column(name).combine_chunks()
    if cells.null_count:
        raise InputError(f"has empty cells in column {name}", where=str(file), fix="remove those rows")
    lengths = np.unique(pc.list_value_length(cells).to_numpy(zero_copy_only=False))
    if len(lengths) != 1:
        raise InputError(f"column {name} holds rows of different lengths", where=str(file))
    return np.asarray(cells.flatten().to_numpy(zero_copy_only=False)).reshape(len(cells), int(lengths[0]))


def _hdf5(file: Path, name: str) -> Any:
    try:
        import h5py
    except ImportError:
        raise MissingDependency("h5py", command="pip install h5py", need="an HDF5 file") from None
    with h5py.File(file) as handle:
        if name not in handle:
            raise InputError(f"has no data set {name}", where=str(file), fix=f"it has: {', '.join(handle)}")
        return handle[name][...]
