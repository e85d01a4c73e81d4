"""Parquet rows through pyarrow, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator

from sememe.contracts import Record
from sememe.errors import InputError, MissingDependency
from sememe.text.fields import FieldMap, Options
from sememe.text.lines import Input, disk_error
from sememe.text.report import ReadReport

_BATCH = 256  # rows turned into Python objects at once


def parquet_records(source: Input, options: Options, report: ReadReport) -> Iterator[Record]:
    """Rows of a Parquet file; the ``line`` of a source is the row, counted from 1. Page checksums are verified.

    Raises
    ------
    MissingDependency
        Without pyarrow (extra ``parquet``).
    InputError
        For a file that is not Parquet or is damaged, and for a schema without a text column.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingDependency("pyarrow", extra="parquet", need="reading Parquet") from None
    if source.path is None:
        raise InputError("Parquet cannot be read from a pipe", where=source.label, fix="give the file's path")
    fields = FieldMap(source.label, options, report)
    number = 0
    try:
        with pq.ParquetFile(source.path, buffer_size=1 << 20, page_checksum_verification=True) as table:
            fields.check_columns(table.schema_arrow.names)
            for batch in table.iter_batches(batch_size=_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    record = fields.record(row, f"{source.label}:{number}", f"{source.key}:{number}")
                    if record is not None:
                        yield record
    except pa.ArrowException as error:
        raise InputError(f"not a readable Parquet file ({error})", where=f"{source.label}:{number + 1}") from None
    except OSError as error:
        raise disk_error(source.label, error) from None
