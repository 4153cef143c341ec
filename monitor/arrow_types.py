"""Arrow types and event times as driftd reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from checks.core.errors import SchemaError


def logical_type(kind: Any) -> str:
    """The contract's logical type of an Arrow type."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind):
        return "integer"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "string"
    if pa.types.is_timestamp(kind):
        return "timestamp"
    if pa.types.is_date(kind):
        return "date"
    if pa.types.is_time(kind):
        return "time"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return "array"
    if pa.types.is_null(kind):
        return "null"
    return "object"


def arrow_type(kind: str) -> Any:
    """The Arrow type of a logical type that a configuration names."""
    return {
        "number": pa.float64(), "integer": pa.int64(), "string": pa.string(), "boolean": pa.bool_(),
        "timestamp": pa.timestamp("us", "UTC"), "date": pa.date32(),
    }[kind]


def to_micros(times: pa.Array, where: str) -> pa.Array:
    """Event times as int64 microseconds since 1970 UTC, null kept.

    Timestamps without a zone are UTC; whole numbers are seconds, milliseconds, microseconds or nanoseconds by their
    size; texts must be ISO 8601. `SchemaError` names the first text that is none.
    """
    kind = times.type
    if pa.types.is_timestamp(kind):
        return times.cast(pa.timestamp("us", kind.tz), safe=False).cast(pa.int64())
    if pa.types.is_date(kind):
        return times.cast(pa.timestamp("us")).cast(pa.int64())
    if pa.types.is_integer(kind):
        largest = pc.max(pc.abs(times.cast(pa.int64()))).as_py() or 0
        scale = epoch_scale(largest)
        return pc.multiply(times.cast(pa.int64()), scale) if scale else pc.divide(times.cast(pa.int64()), 1000)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _parse(times, where)
    raise SchemaError(f"{where}: event times are of type {kind}; allowed are timestamps, ISO texts and whole numbers")


def _parse(times: pa.Array, where: str) -> pa.Array:
    import pandas as pd

    parsed = pd.to_datetime(times.to_pandas(), utc=True, errors="coerce", format="ISO8601")
    bad = parsed.isna().to_numpy() & ~times.is_null().to_numpy(zero_copy_only=False)
    if bad.any():
        row = int(bad.argmax())
        raise SchemaError(f"{where}: {int(bad.sum())} of {len(times)} event times cannot be read, first {times[row].as_py()!r:.60}")
    return pa.array(parsed).cast(pa.timestamp("us", "UTC"), safe=False).cast(pa.int64())


def together(batches: Sequence[Any]) -> Any:
    """Batches as one table: whole numbers beside real ones become real. `SchemaError` where types do not go together."""
    if not batches:
        return None
    try:
        return pa.concat_tables([pa.Table.from_batches([batch]) for batch in batches], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise SchemaError(f"files disagree on the type of a column: {str(error).splitlines()[0]}") from None


def epoch_scale(largest: int) -> int:
    """Microseconds in one unit of whole-number event times, by the size of the largest; 0 stands for nanoseconds."""
    return 1_000_000 if largest < 10**11 else 1000 if largest < 10**14 else 1 if largest < 10**17 else 0
