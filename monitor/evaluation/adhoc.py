"""Contracts on any source, without a monitor: what `driftd contract infer` and `driftd contract test` do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from checks.core.binning import Binning
from checks.core.errors import ConfigError, SourceError
from checks.core.expression import Column as Named
from checks.core.expression import IsNull
from checks.core.profile import Profile
from checks.core.window import Window, WindowGrid
from contracts.infer import infer, to_yaml
from contracts.judge import SCOPE, Bound
from contracts.model import Contract
from contracts.skew import Skew, skews
from monitor.config.model import Columns, MonitorConfig
from monitor.evaluation.contract import Judged, Setting, Usual, asking_of, bind_contract, judge_contract, nested_of
from monitor.evaluation.scan import sample_rows, scan
from monitor.ports import Source
from monitor.profiling.binning import build_binning
from monitor.profiling.plan import Plan
from monitor.profiling.queries import QueryError, offending_keys
from monitor.profiling.samples import quarantine
from monitor.profiling.scratch import ScratchError
from monitor.sources import SOURCES, open_source, sniff

KEY = b"driftd contract without a store"
DAY = timedelta(days=1)
MOST_DAYS = 400


@dataclass(frozen=True, slots=True)
class Given:
    """A source with what is said of it: the column of event times, and the window, both None for all rows."""

    source: Source
    kind: str
    timestamp: str | None = None
    window: Window | None = None
    private: frozenset[str] = frozenset()

    def types(self) -> dict[str, str]:
        """The logical types of the columns."""
        if self.timestamp and self.window:
            return self.source.types_in(self.timestamp, self.window) or self.source.types()
        return self.source.types()


@dataclass(frozen=True, slots=True)
class Learned:
    """What the rows of a source taught: their binning, profile, that of each day, nulls of columns that are not binned."""

    binning: Binning
    profile: Profile
    types: dict[str, str]
    days: list[Profile] = field(default_factory=list)
    nulls: dict[str, int] = field(default_factory=dict)


def open_address(address: str, base: Path) -> tuple[Source, str]:
    """The source at an address, and its kind; `ConfigError` where the address is none."""
    from pydantic import ValidationError

    kind = sniff(address, base)
    try:
        config = SOURCES[kind].config.model_validate({"path": address, "kind": kind}, context={"base": base})
    except ValidationError as error:
        raise ConfigError(f"{address}: {error.errors()[0]['msg']}") from None
    return open_source(config), kind


def event_time(contract: Contract | None, types: Mapping[str, str], named: str | None) -> str | None:
    """The column of event times: the one named, that with the role, or the only one that is a timestamp."""
    if named is not None:
        if named not in types:
            raise ConfigError(f"the source has no column {named!r}; it has {', '.join(types)}")
        return named
    role = contract.with_role("timestamp") if contract is not None else None
    if role in types:
        return role
    times = [name for name, kind in types.items() if kind == "timestamp"]
    return times[0] if len(times) == 1 else None


def learn(given: Given, ignored: Sequence[str] = ()) -> Learned:
    """Profile all rows, and each day where there are event times."""
    types = {name: kind for name, kind in given.types().items() if name not in ignored}
    table = sample_rows(given.source, list(types), given.timestamp, given.window)
    if table is None:
        raise SourceError("there are no rows to learn from")
    columns = Columns.model_construct(timestamp=given.timestamp or "", personal=[], ignore=[])
    monitor = MonitorConfig.model_construct(name="contract", columns=columns)
    binning = build_binning(monitor, types, table, given.private, KEY)
    binned = {c.name for c in binning.columns}
    others = {f"{name}|null": IsNull(Named(name)) for name in types if name not in binned}
    plan = Plan(binning, others, timestamp=given.timestamp or "", key=KEY, cross=False)
    found = scan(given.source, plan, types, given.timestamp, given.window)
    nulls = {name.removesuffix("|null"): n for name, n in found.profile.rules.items() if name not in found.failed}
    return Learned(binning, found.profile, types, list(_days(given, binning, types, found.profile)), nulls)


def _days(given: Given, binning: Binning, types: dict[str, str], whole: Profile) -> Iterator[Profile]:
    if given.timestamp is None or whole.first is None or whole.last is None:
        return
    first, last = (datetime.fromtimestamp(m / 1e6, UTC) for m in (whole.first, whole.last))
    if not timedelta(days=2) <= last - first <= MOST_DAYS * DAY:
        return
    plan = Plan(binning, timestamp=given.timestamp, key=KEY, cross=False)
    for window in WindowGrid(DAY, "UTC").between(first, last):
        yield scan(given.source, plan, types, given.timestamp, window).profile


def inferred_document(given: Given, address: str, name: str, ignored: Sequence[str] = ()) -> str:
    """The commented contract that the rows of a source support."""
    learned = learn(given, ignored)
    found = infer(learned.binning, learned.profile, learned.types, learned.days, learned.nulls)
    return to_yaml(found, identifier=name, name=name, rows=learned.profile.rows, source=address, timestamp=given.timestamp)


# -- testing


def apply_contract(
    contract: Contract, given: Given, now: datetime, others: Mapping[str, Source], usual: Usual | None = None, identifier: str | None = None,
    ignored: Sequence[str] = (), owner: str = "",
) -> tuple[Judged, Bound, Setting]:
    """What the contract says of the rows, with its binding for a second pass."""
    types = given.types()

    def other(name: str) -> Source:
        if name not in others:
            raise LookupError(f"no data is named for the object {name!r}: --with {name}=SOURCE")
        return others[name]

    setting = Setting(
        given.source, given.kind, given.timestamp, given.window, now, KEY, identifier or contract.with_role("id"),
        contract.classified | given.private, tuple(ignored), owner, other,
    )
    bound = bind_contract(contract, setting, types)
    usual = usual or Usual()
    plan = Plan(
        usual.binning or Binning(()), dict(bound.predicates), timestamp=given.timestamp or "", key=KEY, cross=False, nested=nested_of(bound, types),
    )
    found = scan(given.source, plan, types, given.timestamp, given.window, types)
    return judge_contract(bound, found.profile, setting, types, found.failed, found.apart, usual), bound, setting


def export_quarantine(folder: Path, bound: Bound, judged: Judged, setting: Setting, types: Mapping[str, str]) -> dict[str, Any]:
    """Write the offending rows, whole and as they are, to a Parquet file with one flag column per rule."""
    broken = {v.rule.id for v in judged.outcome.violations}
    rules = {r: e for r, e in bound.predicates.items() if r in broken and not r.endswith(SCOPE)}
    asking = asking_of(bound, setting, types, None)
    keys = {}
    for rule, query in bound.queries.items():
        if rule in broken:
            try:
                found = offending_keys(rule, query, asking)
            except (QueryError, ScratchError):
                continue
            if found is not None:
                keys[rule] = found
    folder.mkdir(parents=True, exist_ok=True)
    path, rows, writer = folder / f"{re.sub(r'[^A-Za-z0-9_-]', '_', bound.contract.object) or 'rows'}.parquet", 0, None
    partial = path.with_name(path.name + ".partial")
    batches = setting.source.read(list(types), setting.timestamp, setting.window)
    for table in quarantine(batches, rules, bound.data.types, keys):
        rows += table.num_rows
        writer = writer or pq.ParquetWriter(partial, table.schema, compression="zstd")
        writer.write_table(table.cast(writer.schema))
    if writer is None:
        return {"path": None, "rows": 0, "rules": []}
    writer.close()
    partial.replace(path)
    return {"path": str(path), "rows": rows, "rules": [*rules, *keys]}


def served_skews(training: Given, serving: Given, contract: Contract | None, ignored: Sequence[str] = ()) -> tuple[list[Skew], Learned]:
    """What differs between the training rows and the served ones, by column, and what was learned of the training rows."""
    learned = learn(training, ignored)
    types = {name: kind for name, kind in serving.types().items() if name not in ignored}
    plan = Plan(learned.binning, timestamp=serving.timestamp or "", key=KEY, cross=False)
    served = scan(serving.source, plan, types, serving.timestamp, serving.window, types).profile
    roles = {c.name for c in contract.columns if c.role == "label"} if contract is not None else set()
    skip = roles | {name for name in (training.timestamp, serving.timestamp) if name}
    return skews(learned.binning, learned.profile, served, learned.types, types, learned.days, skip), learned


