"""Runs the jobs of a scanning worker, with what it may keep between them: open sources and decoded profiles."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import singledispatchmethod
from typing import Any, Generic, TypeVar

from checks.calibration.structural import find_breaks
from checks.core.errors import PlanChanged, SchemaError, SourceError
from checks.core.outputs import OutputCounts
from checks.core.profile import Binning, Profile, merge
from checks.core.window import Window, WindowGrid
from contracts.infer import infer_contract
from contracts.judge import Bound
from contracts.load import load_contract
from contracts.model import Contract
from monitor.clock import stopwatch
from monitor.config.model import MonitorConfig
from monitor.evaluation import drift as drifting
from monitor.evaluation import sections
from monitor.evaluation.contract import Setting, Usual, bind_contract, judge_contract, lineage_of, nested_of
from monitor.evaluation.estimates import learn_reference
from monitor.evaluation.labelled import counted, has_quality, quality_of_run, with_kpis, with_parity
from monitor.evaluation.observe import others_of
from monitor.evaluation.quality import Question, asked_for
from monitor.evaluation.resolve import resolve
from monitor.evaluation.scan import sample_rows, scan
from monitor.ports import (
    BaselineWindow,
    CalibrationJob,
    CompareJob,
    DeploymentJob,
    EvidentlyJob,
    HistoryJob,
    HoursJob,
    Job,
    NormalJob,
    ObserveJob,
    Outcome,
    ProfiledWindow,
    ProfileJob,
    QualityAnswer,
    QualityJob,
    ReferenceAnswer,
    ReferenceJob,
    ReportJob,
    ResolveJob,
    Rollup,
    RuleResult,
    RunJob,
    Settings,
    Source,
    VersionsJob,
    WeakestJob,
)
from monitor.profiling.binning import build_binning
from monitor.profiling.plan import Plan, changes, service_rules
from monitor.sources import SOURCES, identity, open_source, sniff

KEPT_SOURCES, KEPT_BINNINGS, KEPT_PROFILES = 200, 100, 1500
K = TypeVar("K")
V = TypeVar("V")

@dataclass(frozen=True, slots=True)
class Scanned:
    """A window's profile with what was bound and counted, and its lineage."""

    profile: Profile
    types: dict[str, str]
    bound: Bound | None
    failed: Mapping[str, str]
    unreadable: Mapping[str, str]
    fingerprint: str
    snapshot: str
    plan: dict[str, Any]
    apart: Mapping[str, str]
    setting: Setting


def outputs_to_bytes(binning: Binning, outputs: dict[str, OutputCounts]) -> bytes:
    """The score, class and label counts of a window, as a profile of nothing else."""
    return Profile(binning, 0, Profile.empty(binning).columns, outputs=outputs).to_bytes()


class Kept(Generic[K, V]):
    """What was made before, at most ``most`` things; the least recently used is forgotten."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._things: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """What is kept under ``key``, or made now."""
        if key in self._things:
            self._things.move_to_end(key)
            return self._things[key]
        thing = self._things[key] = make()
        if len(self._things) > self._most:
            self._things.popitem(last=False)
        return thing


class Evaluator:
    """Answers jobs."""

    def __init__(self) -> None:
        self._sources: Kept[str, Source] = Kept(KEPT_SOURCES)
        self._profiles: Kept[tuple[str, str, Window, int], Profile] = Kept(KEPT_PROFILES)
        self._binnings: Kept[str, Binning] = Kept(KEPT_BINNINGS)
        self._inferred: Kept[tuple[str, str], Contract] = Kept(KEPT_BINNINGS)
        self._contracts: dict[tuple[str, str | None, float], Contract] = {}

    @singledispatchmethod
    def answer(self, job: Job) -> Any:
        raise TypeError(f"no answer for {type(job).__name__}")

    def _source(self, config: Any) -> Source:
        return self._sources.get(identity(config), lambda: open_source(config))

    def _reference_source(self, monitor: MonitorConfig, path: str) -> Source:
        base = monitor.contract.path.parent if monitor.contract else None
        plugin = SOURCES[sniff(path, base)]
        return self._source(plugin.config.model_validate({"path": path}, context={"base": base} if base else None))

    def _binning(self, text: str) -> Binning:
        return self._binnings.get(hashlib.sha256(text.encode()).hexdigest(), lambda: Binning.from_json(text))

    def _contract(self, monitor: MonitorConfig, binning: Binning | None, reference: Profile | None, types: dict[str, str]) -> Contract | None:
        if monitor.contract is not None:
            path, name = monitor.contract.path, monitor.contract.object
            stamp = path.stat().st_mtime if path.exists() else 0.0
            key = (str(path), name, stamp)
            if key not in self._contracts:
                self._contracts[key] = load_contract(path, name)
            return self._contracts[key]
        if binning is None or reference is None or not reference.rows:
            return None
        return self._inferred.get((monitor.name, binning.hash), lambda: infer_contract(binning, reference, types))

    def _decode(self, monitor: str, binning: Binning, window: BaselineWindow) -> Profile:
        key = (monitor, binning.hash, window.window, window.revision)
        return self._profiles.get(key, lambda: Profile.from_bytes(window.profile, binning, light=True))

    @answer.register
    def _(self, job: ResolveJob) -> Settings:
        return resolve(job.monitor, self._source(job.monitor.source), job.now)

    @answer.register
    def _(self, job: ReferenceJob) -> ReferenceAnswer:
        monitor, settings = job.monitor, job.settings
        contract = self._contract(monitor, None, None, {})
        classified = contract.classified if contract else frozenset()
        names = [n for n in settings.types if n not in monitor.columns.ignore]
        if monitor.reference.path is not None:
            source = self._reference_source(monitor, monitor.reference.path)
            types = {n: k for n, k in source.types().items() if n in names}
            where, window, timestamp = "reference.path", None, None
        else:
            source, types = self._source(monitor.source), {n: settings.types[n] for n in names}
            window, timestamp = Window(settings.reference_from, settings.reference_to), monitor.columns.timestamp
            where = f"reference {window}"
        if window is not None:
            source.types_in(timestamp, window)  # names the files that disagree, before rows of both are put together
        table = sample_rows(source, list(types), timestamp, window)
        if table is None:
            raise SourceError(f"monitor {monitor.name}: {where}: no rows to learn from")
        binning = build_binning(monitor, types, table, classified, job.key)
        windows = self._reference_windows(job, binning) if window is not None else ()
        if window is not None:
            total = merge(binning, (Profile.from_bytes(w.profile, binning) for w in windows))
        else:
            plan = Plan(binning, service_rules(monitor, types), key=job.key)
            total = scan(source, plan, types, None, None).profile
        return ReferenceAnswer(binning.to_json(), binning.hash, total.to_bytes(), total.rows, windows)

    def _reference_windows(self, job: ReferenceJob, binning: Binning) -> tuple[ProfiledWindow, ...]:
        settings = job.settings
        grid = WindowGrid(_days(settings), job.monitor.window.timezone)
        return self._profiled(job.monitor, binning, job.key, grid.between(settings.reference_from, settings.reference_to))

    def _profiled(self, monitor: MonitorConfig, binning: Binning, key: bytes, windows: Iterable[Window]) -> tuple[ProfiledWindow, ...]:
        source, name = self._source(monitor.source), monitor.columns.timestamp
        found = []
        for window in windows:
            types = source.types_in(name, window)
            plan = Plan(binning, service_rules(monitor, types), self._version(monitor, types), name, key, shadow=frozenset(monitor.quality.shadow))
            profile = scan(source, plan, types, name, window).profile
            found.append(ProfiledWindow(window, profile.rows, profile.to_bytes()))
        return tuple(found)

    @staticmethod
    def _version(monitor: MonitorConfig, types: dict[str, str]) -> str | None:
        return monitor.columns.version if monitor.columns.version in types else None

    @answer.register
    def _(self, job: RunJob) -> Outcome:
        started = stopwatch()
        monitor = job.monitor
        binning = self._binning(job.binning)
        reference = Profile.from_bytes(job.reference, binning)
        found = self._scanned(job, binning, reference)
        profile, types, bound = found.profile, found.types, found.bound
        promised = types or job.settings.types  # an empty window has no columns to miss
        contract = bound.contract if bound else None
        baseline = [self._decode(monitor.name, binning, b) for b in job.baseline]
        parts: dict[str, Any] = {"contract": None, "quality": None}
        results: list[RuleResult] = []
        reported: dict[str, str] = {}
        violations: tuple[dict[str, Any], ...] = ()
        keys, kept = None, {}
        if bound is not None:
            earlier = [(f"{b.window.start:%Y-%m-%dT%H:%MZ}", p) for b, p in zip(job.baseline, baseline, strict=True)]
            usual = Usual(binning, reference, job.settings.types, earlier)
            judged = judge_contract(
                bound, profile, found.setting, promised, found.failed, found.apart, usual, job.stored.plan if job.stored else None,
            )
            parts["contract"], keys, kept = judged.section, judged.keys, judged.kept
            results += judged.results
            violations = tuple(parts["contract"]["violations"])
            for violation in violations:
                if violation["verdict"] == "fail" and violation["column"]:
                    reported.setdefault(violation["column"], violation["rule"])
        quality = quality_of_run(job, self._question(job, binning), types, binning, profile, self._source)
        past = drifting.past_of(job, baseline)
        breaks = drifting.still_breaks(job, past, binning, profile, find_breaks(binning, profile, baseline or [reference]))
        output = drifting.judge_output(job, past, binning, profile)
        volume = drifting.judge_volume(job, past, binning, profile)
        told = {b.column for b in breaks}
        breaks += [b for b in (*output.breaks, *([volume] if volume else [])) if b.column not in told]
        parts["data"], added = sections.data_section(
            profile, breaks, found.unreadable if types else {}, reported, quality.duplicate_ids if quality else None
        )
        results += added
        broken = {b.column for b in breaks} | set(found.unreadable)
        if job.rollup is not None:
            drift, added, days = self._drift_of_day(job, job.rollup, binning, profile, broken)
        else:
            carried = [self._decode(monitor.name, binning, c) for c in job.carried]
            (drift, added), days = drifting.judge_drift(job, past, binning, profile, broken, output, carried), ()
        results += added
        statistics, added = sections.statistics_of(monitor, binning, profile, reference, found.unreadable)
        parts["drift"] = {**drift, **statistics}
        results += added
        if quality is not None:
            parts["quality"] = quality.section
            results += quality.results
        if not profile.rows:
            parts, results = sections.inhibited(parts, results)
        parts["service"], added = sections.service_section(
            monitor, profile, baseline, job.window, [b.window.start for b in job.baseline]
        )
        results += added
        outputs = profile.outputs
        profile.outputs = {}  # kept apart: a baseline is sent with every run, and has no use for them
        return Outcome(
            rows=profile.rows, sections=parts, results=tuple(results), profile=profile.to_bytes(),
            model_versions=profile.versions, fingerprint=found.fingerprint,
            quality_counts=quality.counts if quality else None, labelled=quality.labelled if quality else None,
            contract_id=contract.id if contract else "", contract_version=contract.version if contract else "",
            contract_hash=contract.hash if contract else "", seconds=round(stopwatch() - started, 4),
            violations=violations, drift_p_value=drift["p_value"], drift_learning=drift["learning"],
            plan={**found.plan, **kept, "duplicate_ids": quality.duplicate_ids if quality else 0}, snapshot=found.snapshot,
            outputs=outputs_to_bytes(binning, outputs) if outputs else None, days=days, keys=keys,
        )

    def _scanned(self, job: RunJob, binning: Binning, reference: Profile) -> Scanned:
        """The window's profile, from its rows or from what an earlier scan left; `PlanChanged` when that cannot answer."""
        monitor, name, stored = job.monitor, job.monitor.columns.timestamp, job.stored
        source = self._source(monitor.source)
        if stored is None:
            fingerprint = source.fingerprint(name, job.window)
            types = source.types_in(name, job.window)
        else:
            fingerprint, types = stored.fingerprint, dict(stored.plan.get("types", {}))
        contract = self._contract(monitor, binning, reference, job.settings.types)
        promised = types or job.settings.types
        setting = self._setting(job, source, contract)
        bound = bind_contract(contract, setting, promised, stored.plan if stored else None, rows=bool(types)) if contract else None
        rules = {**(bound.predicates if bound else {}), **service_rules(monitor, types)}
        scored = monitor.columns.score is not None or monitor.columns.prediction is not None
        plan = Plan(
            binning, rules, self._version(monitor, types), name, job.key, tuple(monitor.quality.slice_keys) if scored else (), scored,
            nested=nested_of(bound, promised) if bound else {}, shadow=frozenset(monitor.quality.shadow),
        )
        lineage = plan.lineage(types) | ({"quality": asked_for(monitor)} if has_quality(monitor) else {}) | (lineage_of(bound, promised) if bound else {})
        if stored is None:
            scanned = scan(source, plan, types, name, job.window, promised)
            return Scanned(
                scanned.profile, types, bound, scanned.failed, scanned.unreadable, fingerprint, source.snapshot(),
                {**lineage, "others": others_of(monitor, job.window, self._source), "source": source.lineage(name, job.window) if types else {}, "failed": dict(scanned.failed), "unreadable": dict(scanned.unreadable), "apart": dict(scanned.apart)},
                scanned.apart, setting,
            )
        found = changes(stored.plan, lineage)
        if found:
            some = "; ".join(found[:5]) + (f"; and {len(found) - 5} more" if len(found) > 5 else "")
            raise PlanChanged(
                f"monitor {monitor.name}: {job.window}: {some}: its rows must be counted again, with driftd backfill "
                f"{monitor.name} --again"
            )
        failed, unreadable = stored.plan.get("failed", {}), stored.plan.get("unreadable", {})
        profile = Profile.from_bytes(stored.profile, binning)
        if stored.outputs is not None:
            profile.outputs = Profile.from_bytes(stored.outputs, binning).outputs
        apart = stored.plan.get("apart", {})
        return Scanned(
            profile, types, bound, failed, unreadable, fingerprint, stored.snapshot, {**stored.plan, **lineage}, apart, setting
        )

    def _setting(self, job: RunJob, source: Source, contract: Contract | None) -> Setting:
        monitor = job.monitor
        private = frozenset(monitor.columns.personal) | (contract.classified if contract else frozenset())

        def other(name: str) -> Source:
            data = monitor.contract.data if monitor.contract is not None else {}
            if name not in data:
                raise LookupError(f"no data is named for the object {name!r}: contract.data")
            return self._source(data[name])

        return Setting(
            source, str(getattr(monitor.source, "kind", "")), monitor.columns.timestamp, job.window, job.as_of, job.key, monitor.columns.id,
            private, tuple(monitor.columns.ignore), monitor.owner, other, job.keys,
        )

    def _drift_of_day(
        self, job: RunJob, rollup: Rollup, binning: Binning, profile: Profile, broken: set[str],
    ) -> tuple[dict[str, Any], list[RuleResult], tuple[ProfiledWindow, ...]]:
        """Drift of the day that ends with this window, from merged profiles; before its end, when it will be decided."""
        day = rollup.today.window
        size = job.monitor.window.rollup or day.length  # not the day's own length: a day has 23 hours when the clocks change
        if not rollup.due:
            return drifting.deferred(job, day.end, size), [], ()
        merged, days = [], []
        for before in rollup.before:
            if len(before.pieces) == 1:
                merged.append(self._decode(f"{job.monitor.name} days", binning, BaselineWindow(before.window, before.revision, before.pieces[0])))
                continue
            whole = merge(binning, (Profile.from_bytes(piece, binning) for piece in before.pieces))
            days.append(ProfiledWindow(before.window, whole.rows, whole.to_bytes()))
            merged.append(whole)
        today = merge(binning, [*(Profile.from_bytes(piece, binning) for piece in rollup.today.pieces), profile])
        days.append(ProfiledWindow(day, today.rows, today.to_bytes()))
        windows = tuple(BaselineWindow(before.window, before.revision, b"") for before in rollup.before)
        whole_day = drifting.of_day(job, day, size, windows)
        past = drifting.past_of(whole_day, merged)
        output = drifting.judge_output(whole_day, past, binning, today)
        found, results = drifting.judge_drift(whole_day, past, binning, today, broken, output)
        found["sentence"] = f"{day.start:%Y-%m-%dT%H:%MZ} to {day.end:%Y-%m-%dT%H:%MZ}: {found['sentence']}"
        if rollup.missing:
            found["sentence"] += f"; {rollup.missing} of its windows could not be read"
        return found, results, tuple(days)

    def _question(self, job: Any, binning: Binning | None) -> Question:
        contract = self._contract(job.monitor, None, None, {})
        private = frozenset(job.monitor.columns.personal) | (contract.classified if contract else frozenset())
        return Question(job.monitor, job.settings, job.window, job.now, job.key, private, binning)

    @answer.register
    def _(self, job: ProfileJob) -> tuple[ProfiledWindow, ...]:
        return self._profiled(job.monitor, self._binning(job.binning), job.key, job.windows)

    @answer.register
    def _(self, job: NormalJob) -> dict[str, Any]:
        from monitor.evaluation.simulate import normal

        binning = self._binning(job.binning)
        job, profiles = drifting.in_days(job, binning, [self._decode(job.monitor.name, binning, w) for w in job.windows])
        return normal(job, binning, profiles, Profile.from_bytes(job.reference, binning))

    @answer.register
    def _(self, job: HistoryJob) -> dict[str, Any]:
        from monitor.evaluation.simulate import inject, simulate, track_of

        binning = self._binning(job.binning)
        job, profiles = drifting.in_days(job, binning, [self._decode(job.monitor.name, binning, w) for w in job.windows])
        track = track_of(job, binning, profiles)
        return inject(track) if job.faults else simulate(track)

    @answer.register
    def _(self, job: QualityJob) -> QualityAnswer:
        types = self._source(job.monitor.source).types_in(job.monitor.columns.timestamp, job.window)
        if not types:
            raise SchemaError(f"monitor {job.monitor.name}: the rows of {job.window} are gone")
        binning = self._binning(job.binning)
        question = self._question(job, binning)
        answer = counted(question, binning, types, self._source, searched=job.searched)
        if job.measure:
            answer = with_parity(with_kpis(answer, question, self._source), question, types, self._source)
        if answer.section["verdict"] == "error" and answer.section.get("reason"):
            raise SchemaError(f"monitor {job.monitor.name}: {answer.section['reason']}")
        return answer

    @answer.register
    def _(self, job: CalibrationJob) -> tuple[bytes, float]:
        assert job.monitor.labels is not None
        source, labels = self._source(job.monitor.source), self._source(job.monitor.labels.source)
        return learn_reference(job.monitor, job.settings, source, labels, job.windows, job.now, self._binning(job.binning))

    @answer.register
    def _(self, job: CompareJob) -> dict[str, Any]:
        from monitor.evaluation.versions import compare_versions

        if job.spans and job.monitor.labels is not None:
            return compare_versions(job, self._source(job.monitor.source), self._source(job.monitor.labels.source))
        return compare_versions(job)

    @answer.register
    def _(self, job: WeakestJob) -> dict[str, Any] | None:
        from monitor.evaluation.weakest import find_weakest

        binning, source = self._binning(job.binning), self._source(job.monitor.source)
        types = source.types_in(job.monitor.columns.timestamp, job.window)
        if job.monitor.labels is None or not types:
            return None
        return find_weakest(self._question(job, binning), binning, source, self._source(job.monitor.labels.source), types)

    @answer.register
    def _(self, job: HoursJob) -> tuple[ProfiledWindow, ...]:
        from monitor.evaluation.deployment import count_hours

        return count_hours(job, self._source(job.monitor.source))

    @answer.register
    def _(self, job: DeploymentJob) -> Any:
        from monitor.evaluation.deployment import judge_deployment

        return judge_deployment(job)

    @answer.register
    def _(self, job: ObserveJob) -> Any:
        from monitor.evaluation.observe import observe

        labels = self._source(job.monitor.labels.source) if job.monitor.labels else None
        return observe(job, self._source(job.monitor.source), labels, self._source)

    @answer.register
    def _(self, job: VersionsJob) -> dict[str, int]:
        columns = job.monitor.columns
        if columns.version is None or job.until <= job.since:
            return {}
        plan = Plan(Binning(()), version=columns.version)
        window = Window(job.since, job.until)
        types = {columns.version: "string"}
        return scan(self._source(job.monitor.source), plan, types, columns.timestamp, window).profile.versions

    @answer.register
    def _(self, job: ReportJob) -> str:
        from monitor.reports.html import render

        binning = self._binning(job.binning)
        profile = Profile.from_bytes(job.profile, binning) if job.profile else None
        baseline = [self._decode(job.monitor.name, binning, b) for b in job.baseline]
        fitted = drifting.chart_of(job, binning, baseline).normal
        own = fitted.left_out.tolist() if fitted is not None else []
        return render(job.view, binning, profile, Profile.from_bytes(job.reference, binning), baseline, own)

    @answer.register
    def _(self, job: EvidentlyJob) -> str:
        from monitor.reports.evidently import drill_down

        source = self._source(job.monitor.source)
        columns = [n for n in job.settings.types if n not in job.monitor.columns.ignore and n not in job.monitor.columns.personal]
        columns = [n for n in columns if job.monitor.columns.roles.get(n) not in ("timestamp", "id", "version")]
        reference = Window(job.settings.reference_from, job.settings.reference_to)
        tables = [
            sample_rows(source, columns, job.monitor.columns.timestamp, w, job.rows) for w in (reference, job.window)
        ]
        if tables[0] is None or tables[1] is None:
            raise SourceError(f"monitor {job.monitor.name}: no rows for the drill-down")
        return drill_down(*(t.select(columns).slice(0, 2 * job.rows) for t in tables if t is not None))


def _days(settings: Settings) -> Any:
    from datetime import timedelta

    return timedelta(seconds=settings.size_seconds)
