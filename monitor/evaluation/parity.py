"""Logged features against the same ones computed offline, joined by id: the share of rows in which they differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from checks.core.errors import DriftdError, SchemaError
from checks.core.result import Verdict, roll_up
from checks.core.window import Window
from checks.evaluate import evaluate
from checks.performance._interval import proportion
from monitor.arrow_types import logical_type, to_micros
from monitor.config.model import MonitorConfig
from monitor.evaluation.quality import read_table
from monitor.evaluation.scan import served
from monitor.evaluation.sections import number
from monitor.ports import RuleResult, Source
from monitor.profiling.joining import flat, join_codes, last_of_each
from monitor.profiling.masks import NOT_COUNTABLE
from monitor.profiling.quality import floats

Answer = tuple[dict[str, Any], list[RuleResult]]


def judge_parity(monitor: MonitorConfig, source: Source, offline: Source, window: Window, types: dict[str, str]) -> Answer:
    """The share of differing rows of every column that both have; what cannot be compared is said."""
    try:
        return _judged(monitor, source, offline, window, types)
    except (DriftdError, *NOT_COUNTABLE) as error:
        section = {"verdict": "error", "matched": 0, "columns": [], "reason": str(error)}
        return section, [RuleResult("quality.parity", "quality", "error", cleared=False, reason=f"parity: {error}")]


def _judged(monitor: MonitorConfig, source: Source, offline: Source, window: Window, types: dict[str, str]) -> Answer:
    parity, identifier = monitor.parity, monitor.columns.id
    assert parity is not None
    if identifier is None:
        raise SchemaError("parity needs columns.id")
    theirs = offline.types()
    roles = {name: role for name, role in monitor.columns.roles.items() if role not in ("score", "prediction")}
    names = parity.columns or [n for n in types if n in theirs and n not in roles and n not in monitor.columns.ignore and n != parity.id]
    for name in [*(parity.columns or []), parity.id]:
        if name not in theirs:
            raise SchemaError(f"parity.source has no column {name!r}")
    absent = [name for name in names if name not in types]
    names = [name for name in names if name in types]
    version = [monitor.columns.version] if monitor.columns.version in types and monitor.quality.shadow and monitor.columns.version else []
    logged = read_table(source, list(dict.fromkeys([identifier, *names, *version])), monitor.columns.timestamp, window)
    if logged is not None and version:
        logged = pa.Table.from_batches([served(b, version[0], frozenset(monitor.quality.shadow)) for b in logged.to_batches()], logged.schema)
    span = window if parity.timestamp is not None else None
    computed = read_table(offline, list(dict.fromkeys([parity.id, *names])), parity.timestamp, span)
    if logged is None or computed is None:
        return {"verdict": "no_data", "matched": 0, "columns": []}, [
            RuleResult("quality.parity", "quality", "no_data", cleared=False, reason="parity: the offline table has no rows")
        ]
    codes, other = join_codes(flat(logged, identifier), flat(computed, parity.id))
    place = np.full(max(int(codes.max(initial=-1)), int(other.max(initial=-1))) + 2, -1, np.int64)
    theirs_last = last_of_each(other)
    place[other[theirs_last]] = theirs_last
    mine = last_of_each(codes)
    mine = mine[place[codes[mine]] >= 0]
    partner = place[codes[mine]]
    rows: list[dict[str, Any]] = []
    results: list[RuleResult] = []
    if not names:
        raise SchemaError("the log and parity.source have no column in common to compare")
    for name in names:
        left, right = flat(logged, name).take(pa.array(mine)), flat(computed, name).take(pa.array(partner))
        try:
            differ = differing(left, right, name, parity.tolerance)
        except (DriftdError, *NOT_COUNTABLE) as error:
            rows.append({"column": name, "share": None, "low": None, "high": None, "n": 0, "verdict": "error"})
            why = f"parity of {name} cannot be known: {(str(error).splitlines() or [''])[0]}"
            results.append(RuleResult(f"quality.parity[{name}]", "quality", "error", column=name, cleared=False, reason=why))
            continue
        value = proportion(float(differ.sum()), len(mine))
        checked = evaluate(value, parity.limits.threshold(), parity.min_rows)
        verdict: Verdict = Verdict.INSUFFICIENT if checked.verdict is Verdict.NO_DATA else checked.verdict
        reason = checked.reason if len(mine) else "no row has an offline row of its id"
        rows.append({
            "column": name, "share": number(value.value), "low": number(value.low), "high": number(value.high), "n": value.n,
            "verdict": str(verdict),
        })
        results.append(RuleResult(
            f"quality.parity[{name}]", "quality", str(verdict), number(value.value), number(value.low), number(value.high), value.n, name,
            cleared=checked.cleared, reason=f"{name} differs between serving and its offline value: {reason}",
        ))
    for name in absent:
        rows.append({"column": name, "share": None, "low": None, "high": None, "n": 0, "verdict": "error"})
        results.append(RuleResult(f"quality.parity[{name}]", "quality", "error", column=name, cleared=False, reason=f"parity: the window has no column {name!r}"))
    whole = str(roll_up(Verdict(r["verdict"]) for r in rows))
    return {"verdict": whole, "matched": round(len(mine) / max(logged.num_rows, 1), 4), "columns": rows}, results


def differing(left: pa.Array, right: pa.Array, name: str, tolerance: float) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """True where two values differ: numbers by more than ``tolerance`` of their size, one null and the other not, NaN and a number."""
    left, right = ((v.dictionary_decode() if pa.types.is_dictionary(v.type) else v) for v in (left, right))
    kinds = {logical_type(values.type) for values in (left, right)} - {"null"}
    if kinds <= {"timestamp", "date"} and kinds:
        left, right = (to_micros(v, name) if not pa.types.is_null(v.type) else v.cast(pa.int64()) for v in (left, right))
        kinds = set()
    elif "boolean" in kinds and kinds & {"integer", "number"}:
        left, right = (v.cast(pa.int8()) if pa.types.is_boolean(v.type) else v for v in (left, right))
        kinds = {"integer"}
    if kinds and kinds <= {"number", "integer"}:
        a, b = floats(left, name), floats(right, name)
        with np.errstate(invalid="ignore"):
            gap = np.abs(a - b) > tolerance * np.maximum(np.maximum(np.abs(a), np.abs(b)), 1.0)
            infinite = np.isinf(a) | np.isinf(b)
        found: np.ndarray[Any, np.dtype[np.bool_]] = np.where(infinite, a != b, gap) | (np.isnan(a) != np.isnan(b))
        return found
    if len(kinds) > 1:
        raise SchemaError(f"it is of type {' and of type '.join(sorted(kinds))}")
    texts = [(v.dictionary_decode() if pa.types.is_dictionary(v.type) else v) for v in (left, right)]
    if len(kinds) > 1 or texts[0].type != texts[1].type:
        texts = [v.cast(pa.string()) for v in texts]
    same = pc.fill_null(pc.equal(*texts), False).to_numpy(zero_copy_only=False)
    nulls = [v.is_null().to_numpy(zero_copy_only=False) for v in texts]
    different: np.ndarray[Any, np.dtype[np.bool_]] = ~(same | (nulls[0] & nulls[1]))
    return different
