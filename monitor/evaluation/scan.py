"""One scan of a window: inside the engine that has the rows, or here over record batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from checks.core.profile import Binning, Profile
from checks.core.window import Window
from monitor.ports import Engine, Relation, Source
from monitor.profiling.arrow import Executor
from monitor.profiling.binning import sample
from monitor.profiling.plan import Plan
from monitor.profiling.pushdown import PushDown

if TYPE_CHECKING:
    import pyarrow as pa

ENGINE_SAMPLE = 200_000
"""About so many rows of a reference in an engine are fetched to freeze edges and categories from."""


@dataclass(frozen=True, slots=True)
class Scan:
    """A profile, the rules that could not be counted, and the columns that could not be read, each with why.

    ``apart`` names the rules that the engine could not count, with why, and that were counted from fetched rows.
    """

    profile: Profile
    failed: Mapping[str, str]
    unreadable: Mapping[str, str]
    apart: Mapping[str, str] = field(default_factory=dict)


def scan(
    source: Source, plan: Plan, types: Mapping[str, str], timestamp: str | None, window: Window | None,
    promised: Mapping[str, str] | None = None,
) -> Scan:
    """The profile of a window under ``plan``; without ``types`` there are no rows, and nothing is read.

    ``promised`` are the types to judge the columns by, where they are not ``types``.
    """
    known = promised if promised is not None else types
    if isinstance(source, Engine) and types and not plan.shadow:
        inside = {rule: "the engine is not asked for values inside values" for rule, e in plan.rules.items() if plan.inside(e, types)}
        pushed = PushDown(replace(plan, rules={r: e for r, e in plan.rules.items() if r not in inside}, nested={}), known)
        profile = source.aggregate(plan.columns(types), timestamp, window, pushed.scan)
        apart = inside | pushed.failed
        failed = _apart(source, plan, types, timestamp, window, known, apart, profile) if apart else {}
        return Scan(profile, failed, pushed.unreadable, {r: why for r, why in apart.items() if r not in failed})
    executor = Executor(plan, known)
    batches = source.read(plan.columns(types), timestamp, window, plan.dictionaries) if types else ()
    if plan.shadow and plan.version:
        batches = (served(batch, plan.version, plan.shadow) for batch in batches)
    return Scan(executor.scan(batches), executor.failed, executor.unreadable)


def served(batch: pa.RecordBatch, version: str, shadow: frozenset[str]) -> pa.RecordBatch:
    """The rows that were served: those of no shadow version."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if version not in batch.schema.names:
        return batch
    texts = batch.column(version)
    if pa.types.is_dictionary(texts.type):
        texts = texts.dictionary_decode()
    return batch.filter(pc.invert(pc.is_in(texts.cast(pa.string()), value_set=pa.array(sorted(shadow), pa.string()))))


def _apart(
    source: Source, plan: Plan, types: Mapping[str, str], timestamp: str | None, window: Window | None, known: Mapping[str, str],
    rules: Mapping[str, str], profile: Profile,
) -> dict[str, str]:
    """Counts rules that the engine could not count from the columns that they read; answers those that fail here, too."""
    again = Plan(Binning(()), {rule: plan.rules[rule] for rule in rules}, nested=plan.nested, cross=False)
    executor = Executor(again, known)
    counted = executor.scan(source.read(again.columns(types), timestamp, window))
    profile.rules |= counted.rules
    return {rule: f"{rules[rule]}; apart: {why}" for rule, why in executor.failed.items()}


def sample_rows(
    source: Source, columns: Sequence[str], timestamp: str | None, window: Window | None, most: int | None = None,
) -> pa.Table | None:
    """All rows, or a sample of about ``most``; None without rows. An engine samples before anything is fetched."""
    if not isinstance(source, Engine):
        batches = source.read(columns, timestamp, window)
        return sample(batches) if most is None else sample(batches, most)

    def work(relation: Relation) -> pa.Table | None:
        import narwhals as nw

        (row,) = relation.rows(relation.frame.select(nw.len().alias("rows")))
        wanted = most or ENGINE_SAMPLE
        frame = relation.sample(wanted / row["rows"]) if row["rows"] > wanted else relation.frame
        return frame.collect("pyarrow").to_native() if row["rows"] else None

    return source.aggregate(columns, timestamp, window, work)
