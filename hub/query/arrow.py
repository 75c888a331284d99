"""
Columns of messages in Arrow's form, in which DuckDB reads them. Needs arro3-core.

Always true: a stream is made anew each time it is scanned, because one query may scan it several times.

Not here: the columns (hub.query.columns).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping

from arro3.core import Array, DataType, Field, RecordBatch, RecordBatchReader, Schema

from hub.query.columns import Choices, Kind, Part, Values

_TYPES = {
    "BIGINT": DataType.int64(),
    "TIMESTAMPTZ": DataType.timestamp("us", tz="UTC"),
    "VARCHAR": DataType.string(),
    "LEVEL": DataType.string(),
    "JSON": DataType.string(),
}
_OF_JSON = {"ARROW:extension:name": "arrow.json", "ARROW:extension:metadata": ""}
"""What makes DuckDB take texts for JSON without checking each."""


class Stream:
    """What DuckDB scans: the columns *kinds* of the parts that *read* returns at each scan."""

    def __init__(self, kinds: Mapping[str, Kind], read: Callable[[], Iterator[Part]]) -> None:
        self._read = read
        self.failure: BaseException | None = None
        """What has ended a scan."""
        self._types = [_type_of(kind) for kind in kinds.values()]
        self._schema = Schema([_field(name, kind) for name, kind in kinds.items()])

    def __arrow_c_schema__(self) -> object:
        return self._schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return RecordBatchReader.from_batches(self._schema, self._batches()).__arrow_c_stream__()

    def _batches(self) -> Iterator[RecordBatch]:
        try:
            for part in self._read():
                columns = [_array(values, form) for values, form in zip(part.columns, self._types, strict=True)]
                yield RecordBatch.from_arrays(columns, schema=self._schema)
        except (Exception, KeyboardInterrupt) as failure:
            self.failure = failure
            raise


def _type_of(kind: Kind) -> DataType:
    """Return how a column is handed over: texts that repeat once, with the index of each row's."""
    form = _TYPES[kind.type]
    return DataType.dictionary(DataType.uint32(), form) if kind.has_choices else form


def _field(name: str, kind: Kind) -> Field:
    return Field(name, _type_of(kind), metadata=_OF_JSON if kind.type == "JSON" else None)


def _array(values: Values, form: DataType) -> Array:
    if isinstance(values, Choices):
        return Array(values.texts, type=DataType.string()).cast(form).take(Array.from_buffer(values.indexes))
    if isinstance(values, array):
        return Array.from_buffer(values).cast(form)
    return Array(values, type=form)
