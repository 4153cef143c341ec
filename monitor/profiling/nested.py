"""Values inside values: struct, list and map columns, and JSON texts, by paths such as ``address.city`` and ``items[].price``.

A path names a value per row, or with ``[]`` one per element; ``|items``, ``|distinct``, ``|properties`` and ``|type`` after
it the number of elements, of different elements, of properties, and the JSON type. A path that is a plain column's name is
that column.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from contracts.model import Column
from monitor.arrow_types import arrow_type, logical_type

_STEP = re.compile(r"\[\]|\|[a-z]+$|\.[^.\[|]+")
INVALID = object()
"""What a text that is no JSON is read as."""

Rows = NDArray[np.int64]


def top_of(path: str, available: Collection[str]) -> str | None:
    """The column that a path begins in: the longest of those available."""
    found = [name for name in available if path == name or path.startswith((f"{name}.", f"{name}[", f"{name}|"))]
    return max(found, key=len) if found else None


def prefix_of(path: str) -> str:
    """The path up to its last ``[]``: paths with the same one have as many values. Empty for a value per row."""
    return path[: path.rindex("[]") + 2] if "[]" in path else ""


@dataclass(frozen=True, slots=True)
class Objects:
    """JSON values as Python objects; None for null and for what is not there."""

    values: list[Any]

    def __len__(self) -> int:
        return len(self.values)


Node = Any


def nested_types(schema: pa.Schema, promised: Sequence[Column]) -> dict[str, str]:
    """The logical types of the paths that a contract promises, from the data's own schema.

    Inside a JSON text, types are those promised, and ``path|type`` is a column of the types that the values have.
    """
    found: dict[str, str] = {}
    natives: dict[str, Any] = {field.name: field.type for field in schema}
    texts: set[str] = set()
    for column in promised:
        name, parent = column.name, column.parent
        if parent is None:
            native = natives.get(name)
            if native is not None and column.logical_type in ("object", "array", "map", "vector") and _is_text(native):
                texts.add(name)
                found[name] = _json_kind(column.logical_type)
                found[f"{name}|type"] = "string"
            elif native is not None and column.logical_type in ("object", "map", "array", "vector"):
                _parts(name, native, found)
            continue
        if parent in texts:
            texts.add(name)
            found[name] = _json_kind(column.logical_type or "string")
            found[f"{name}|type"] = "string"
        elif name not in natives:
            native = _inside(natives.get(parent), name[len(parent) :])
            if native is None:
                continue
            natives[name] = native
            found[name] = logical_type(native)
            if _is_text(native) and column.logical_type in ("object", "array", "map", "vector"):
                texts.add(name)
                found[name] = _json_kind(column.logical_type)
                found[f"{name}|type"] = "string"
            _parts(name, native, found)
            continue
        if name in texts:
            found |= {f"{name}|{part}": "integer" for part in ("items", "distinct", "properties")}
    return found


def _json_kind(kind: str) -> str:
    return {"map": "object", "vector": "array"}.get(kind, kind)


def _parts(name: str, native: Any, found: dict[str, str]) -> None:
    if _is_list(native):
        found |= {f"{name}|items": "integer", f"{name}|distinct": "integer"}
    if pa.types.is_struct(native) or pa.types.is_map(native):
        found[f"{name}|properties"] = "integer"


def _is_text(native: Any) -> bool:
    return logical_type(native) == "string"


def _is_list(native: Any) -> bool:
    kinds = pa.types
    return bool(kinds.is_list(native) or kinds.is_large_list(native) or kinds.is_fixed_size_list(native))


def _inside(native: Any, step: str) -> Any:
    if native is None:
        return None
    if step == "[]" and _is_list(native):
        return native.value_type
    if step.startswith("[].") and pa.types.is_map(native):
        return native.key_type if step == "[].key" else native.item_type
    if step.startswith(".") and pa.types.is_struct(native):
        index = native.get_field_index(step[1:])
        return native.field(index).type if index >= 0 else None
    return None


class Nested:
    """The values at paths, of one batch.

    ``types`` are the logical types of the paths.
    """

    def __init__(self, batch: pa.RecordBatch, types: Mapping[str, str]) -> None:
        self._batch = batch
        self._types = types
        self._nodes: dict[str, tuple[Node, Rows | None]] = {}

    def table(self, paths: Collection[str], prefix: str) -> tuple[pa.Table, Rows | None]:
        """The values at ``paths``, one row an element of ``prefix``, and the batch row of each; `LookupError` where paths
        of different lists stand together."""
        _, parents = self._node(prefix) if prefix else (None, None)
        columns = {}
        for path in paths:
            own = prefix_of(path) if path not in self._batch.schema.names else ""
            if own not in ("", prefix):
                raise LookupError(f"{path} and {prefix} are of different lists")
            values = self._batch.column(path) if path in self._batch.schema.names else self._values(path)
            if isinstance(values, pa.DictionaryArray):
                values = values.dictionary_decode()
            columns[path] = values.take(pa.array(parents)) if prefix and not own else values
        return pa.table(columns), parents

    def _values(self, path: str) -> pa.Array:
        base, _, part = path.partition("|")
        node, _ = self._node(base)
        if part:
            return _part(node, part)
        return _leaf(node, self._types.get(path, "string"))

    def _node(self, path: str) -> tuple[Node, Rows | None]:
        if path in self._nodes:
            return self._nodes[path]
        top = top_of(path, self._batch.schema.names)
        if top is None:
            raise LookupError(f"there is no column that {path} is in")
        node: Node = self._batch.column(top)
        if isinstance(node, pa.DictionaryArray):
            node = node.dictionary_decode()
        parents: Rows | None = None
        for step in _STEP.findall(path[len(top) :]):
            if step == "[]":
                node, inner = _flatten(node)
                parents = inner if parents is None else parents[inner]
            else:
                node = _field(node, step[1:])
        self._nodes[path] = node, parents
        return node, parents


def _parsed(node: Node) -> Node:
    """A column of texts as the JSON values that they hold."""
    if isinstance(node, Objects) or not _is_text(node.type):
        return node
    values = []
    for text in node.to_pylist():
        try:
            values.append(None if text is None else json.loads(text))
        except (ValueError, RecursionError):
            values.append(INVALID)
    return Objects(values)


def _field(node: Node, name: str) -> Node:
    node = _parsed(node)
    if isinstance(node, Objects):
        return Objects([v.get(name) if isinstance(v, dict) else None for v in node.values])
    if not pa.types.is_struct(node.type) or node.type.get_field_index(name) < 0:
        raise LookupError(f"there is no {name!r} in {node.type}")
    return pc.struct_field(node, name)


def _flatten(node: Node) -> tuple[Node, Rows]:
    node = _parsed(node)
    if isinstance(node, Objects):
        values: list[Any] = []
        parents: list[int] = []
        for row, value in enumerate(node.values):
            if isinstance(value, dict):
                value = [{"key": k, "value": v} for k, v in value.items()]
            if isinstance(value, list):
                values += value
                parents += [row] * len(value)
        return Objects(values), np.array(parents, np.int64)
    if pa.types.is_map(node.type):
        pairs = pa.StructArray.from_arrays([node.keys, node.items], ["key", "value"])
        node = pa.ListArray.from_arrays(node.offsets, pairs)
    if not _is_list(node.type):
        raise LookupError(f"{node.type} has no elements")
    lengths = pc.fill_null(pc.list_value_length(node), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return pc.list_flatten(node), np.repeat(np.arange(len(node), dtype=np.int64), lengths)


def _leaf(node: Node, kind: str) -> pa.Array:
    """The values as a column; inside JSON those of another type are null."""
    if not isinstance(node, Objects):
        if pa.types.is_struct(node.type) or pa.types.is_map(node.type) or _is_list(node.type):
            return pc.if_else(node.is_valid(), True, pa.scalar(None, pa.bool_()))
        return node
    if kind in ("object", "array", "map"):
        return pa.array([None if v is None or v is INVALID else True for v in node.values], pa.bool_())
    if kind in ("timestamp", "date", "time"):
        from datetime import UTC, date, datetime

        def moment(value: Any) -> Any:
            try:
                if kind == "date":
                    return date.fromisoformat(value[:10])
                found = datetime.fromisoformat(value)
                return found if found.tzinfo else found.replace(tzinfo=UTC)
            except (TypeError, ValueError):
                return None

        return pa.array([moment(v) for v in node.values], arrow_type("date" if kind == "date" else "timestamp"))
    allowed: Any = {"integer": int, "number": (int, float), "boolean": bool}.get(kind, str)
    fit = [v if isinstance(v, allowed) and (kind == "boolean" or not isinstance(v, bool)) else None for v in node.values]
    if kind == "integer":
        fit = [v if v is None or -(2**63) <= v < 2**63 else None for v in fit]
    return pa.array(fit, arrow_type(kind if kind in ("integer", "number", "boolean") else "string"))


def _part(node: Node, part: str) -> pa.Array:
    node = _parsed(node)
    if isinstance(node, Objects):
        return pa.array([_count(v, part) for v in node.values], pa.string() if part == "type" else pa.int64())
    if part == "items":
        return pc.list_value_length(node).cast(pa.int64())
    if part == "properties":
        if pa.types.is_map(node.type):
            return pa.array([None if v is None else len(v) for v in node.to_pylist()], pa.int64())
        fields = [pc.struct_field(node, i).is_valid().cast(pa.int64()) for i in range(node.type.num_fields)]
        total = fields[0] if fields else pa.array([0] * len(node), pa.int64())
        for field in fields[1:]:
            total = pc.add(total, field)
        return pc.if_else(node.is_valid(), total, pa.scalar(None, pa.int64()))
    if part == "distinct":
        return pa.array([_count(v, "distinct") for v in node.to_pylist()], pa.int64())
    raise LookupError(f"{part!r} is none of a {node.type}")


def _count(value: Any, part: str) -> Any:
    if part == "type":
        return _type_of(value)
    if part == "properties":
        return len(value) if isinstance(value, dict) else None
    if not isinstance(value, list):
        return None
    return len(value) if part == "items" else len({json.dumps(v, sort_keys=True, default=repr) for v in value})


def _type_of(value: Any) -> str | None:
    if value is None:
        return None
    if value is INVALID:
        return "invalid"
    for kind, name in ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (list, "array")):
        if isinstance(value, kind):
            return name
    return "object"
