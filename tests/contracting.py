"""Contracts on Arrow tables: the way of a window through binding, one scan, queries and judgement."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa

from checks.core.profile import Binning
from checks.core.window import Window
from contracts.model import Contract, ContractOutcome
from monitor.arrow_types import logical_type
from monitor.evaluation.contract import Judged, Setting, Usual, bind_contract, judge_contract, nested_of
from monitor.evaluation.scan import scan
from monitor.ports import Extent, Source
from monitor.profiling.plan import Plan
from monitor.sources.files import cut


class TableSource:
    """A table as a source, in batches of ``size`` rows."""

    def __init__(self, table: pa.Table, size: int = 1 << 16) -> None:
        self.table, self.size, self.reads = table, size, 0

    def types(self) -> dict[str, str]:
        return {f.name: logical_type(f.type) for f in self.table.schema}

    def types_in(self, timestamp: str | None, window: Window) -> dict[str, str]:
        return self.types()

    def schema(self, timestamp: str | None, window: Window | None) -> pa.Schema:
        return self.table.schema

    def read(
        self, columns: Sequence[str], timestamp: str | None, window: Window | None, dictionaries: Collection[str] = (),
    ) -> Iterator[pa.RecordBatch]:
        self.reads += 1
        names = list(dict.fromkeys([*columns, *([timestamp] if timestamp else [])]))
        for batch in self.table.select(names).to_batches(max_chunksize=self.size):
            yield cut(batch, timestamp, window, "table") if timestamp and window else batch

    def fingerprint(self, timestamp: str | None, window: Window) -> str:
        return ""

    def snapshot(self) -> str:
        return ""

    def lineage(self, timestamp: str | None, window: Window) -> dict[str, Any]:
        return {}

    def extent(self, timestamp: str) -> Extent:
        return Extent(None, None, None, self.table.num_rows)


def judged(
    contract: Contract, source: Source, *, as_of: datetime, timestamp: str | None = None, window: Window | None = None,
    kind: str = "parquet", identifier: str | None = None, usual: Usual | None = None, others: Mapping[str, Source] | None = None,
    earlier: Sequence[tuple[datetime, bytes]] = (), last: datetime | None = None,
) -> Judged:
    """What a monitor's run makes of the contract on these rows."""
    types = source.types()

    def other(name: str) -> Source:
        return (others or {})[name]

    setting = Setting(source, kind, timestamp, window, as_of, b"key", identifier, others=other, earlier=earlier)
    bound = bind_contract(contract, setting, types)
    plan = Plan(Binning(()), dict(bound.predicates), timestamp=timestamp or "", nested=nested_of(bound, types))
    found = scan(source, plan, types, timestamp, window, types)
    if last is not None:
        found.profile.last = int(last.timestamp() * 1e6)
    result = judge_contract(bound, found.profile, setting, types, found.failed, found.apart, usual or Usual())
    json.dumps([result.section, result.kept], allow_nan=False)  # what is stored is JSON, which has no NaN
    return result


def check(contract: Contract, table: pa.Table, *, as_of: datetime, last: datetime | None = None, **more: Any) -> ContractOutcome:
    """The outcome on a table; every rule of the contract is in it once."""
    found = judged(contract, TableSource(table, more.pop("size", 1 << 16)), as_of=as_of, last=last, **more)
    outcome, rules = found.outcome, found.section["rules"]
    own = [v for v in outcome.violations if v.rule.kind not in ("missingColumn", "extraColumn")]
    assert len(outcome.passed) + len(own) + len(outcome.not_evaluated) == len(contract.rules), "a rule was dropped"
    assert rules["total"] == rules["executed"] + rules["manual"] + rules["not_evaluated"] + rules["error"]
    return outcome
