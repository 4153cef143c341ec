"""History replayed under a policy, and with faults injected into it: what would have been sent, and what would be found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from checks.calibration import faults
from checks.calibration.chart import Chart, DriftScore
from checks.calibration.explain import distinct, sentence
from checks.calibration.ledger import Budget, alert_below
from checks.calibration.names import ROWS
from checks.calibration.sensitivity import sensitivity
from checks.calibration.structural import find_breaks
from checks.core.binning import Binning
from checks.core.errors import ConfigError
from checks.core.profile import Profile
from checks.core.window import Window, WindowGrid, format_duration, iso
from monitor.alerting.drift import decide
from monitor.alerting.fold import FORGET_AFTER
from monitor.evaluation.drift import Past, driver_json, judge_output, judge_volume, normal_words, seasonality_of
from monitor.evaluation.sections import number
from monitor.ports import HistoryJob, NormalJob, RunJob

ONSETS = 3
MOST_COLUMNS = 4
GIVE_UP = 20


@dataclass(slots=True)
class Replay:
    """A policy on its way through history: what is left out of the baseline, and whether an incident is open."""

    budget: Budget
    clear: int
    spent: list[datetime] = field(default_factory=list)
    left: set[int] = field(default_factory=set)
    breaching: list[int] = field(default_factory=list)
    quiet: list[int] = field(default_factory=list)
    held: list[int] = field(default_factory=list)

    def outside(self, index: int) -> set[int]:
        """The windows that are no part of the baseline of the one at ``index``."""
        return self.left | {i for i in self.held if i >= index - FORGET_AFTER}

    def step(self, index: int, window: Window, score: DriftScore) -> str:
        """What a window leads to: pass, member, page or watch."""
        decision = decide(score.p_value, score.learning, window, self.budget, self.spent, None, (), bool(self.breaching))
        if decision.verdict != "warn":
            if self.breaching:
                self.quiet.append(index)
                self.left.add(index)
                if len(self.quiet) >= self.clear:
                    self._close()
            return decision.verdict
        if decision.state == "watch":
            self.held.append(index)
            return "watch"
        state = "member" if self.breaching else "page"
        if decision.spend:
            self.spent.append(window.start)
        self.breaching.append(index)
        self.left.add(index)
        self.quiet.clear()
        if len(self.breaching) >= FORGET_AFTER:  # the level has lasted: it is the new normal
            self.left -= set(self.breaching)
            self._close()
        return state

    def _close(self) -> None:
        if self.breaching:
            self.left -= set(self.quiet)
        self.breaching.clear()
        self.quiet.clear()


@dataclass(frozen=True, slots=True)
class Track:
    """A monitor's history: its windows with rows, in order, and how a chart is made of some of them."""

    job: HistoryJob
    windows: Sequence[Window]
    profiles: Sequence[Profile]
    grid: WindowGrid
    binning: Binning
    columns: Sequence[str]

    def past(self, places: Sequence[int], profiles: Sequence[Profile] | None = None) -> Past:
        """The baseline of the windows at ``places``."""
        seasonality, cycle = seasonality_of(self.job.monitor, self.grid)
        chosen = profiles if profiles is not None else [self.profiles[i] for i in places]
        return Past([self.windows[i] for i in places], chosen, self.grid, seasonality, cycle, self.job.monitor)

    def chart(self, past: Past) -> Chart:
        """The chart that a run would have."""
        return past.chart(self.binning, self.columns, weights=dict(self.job.monitor.drift.weights))


def track_of(job: HistoryJob, binning: Binning, profiles: Sequence[Profile]) -> Track:
    """The history that a job holds."""
    grid = WindowGrid(timedelta(seconds=job.settings.size_seconds), job.monitor.window.timezone)
    kept = [(w.window, p) for w, p in zip(job.windows, profiles, strict=True) if p.rows]
    columns = [c.name for c in binning.columns if c.role == "feature"]
    return Track(job, [w for w, _ in kept], [p for _, p in kept], grid, binning, columns)


def normal(job: NormalJob, binning: Binning, profiles: Sequence[Profile], reference: Profile) -> dict[str, Any]:
    """What the baseline shows: season, trend, memory and natural variation per column, and the number of chances of alarm."""
    grid = WindowGrid(timedelta(seconds=job.settings.size_seconds), job.monitor.window.timezone)
    seasonality, cycle = seasonality_of(job.monitor, grid)
    kept = [(w.window, p) for w, p in zip(job.windows, profiles, strict=True) if p.rows]
    past = Past([w for w, _ in kept], [p for _, p in kept], grid, seasonality, cycle, job.monitor)
    features = [c.name for c in binning.columns if c.role == "feature"]
    chart = past.chart(binning, features, weights=dict(job.monitor.drift.weights))
    fitted = chart.normal
    columns: list[dict[str, Any]] = [
        {"name": c.name, "kind": c.kind, "role": c.role, "bins": c.bins, "natural": None, "carry": None, "season": None} for c in binning.columns
    ]
    found = {
        "rows": reference.rows, "state": "learning" if chart.learning else "ready", "seasonality": seasonality, "columns": columns,
        "seasonal": 0.0, "trend": 0.0, "contrasts": 0, "chances": 0.0, "effective": 0.0,
    }
    if fitted is None:
        return found
    named = {c["name"]: c for c in columns}
    first = chart.contrasts.first
    for index in first.tolist():
        about = chart.contrasts.about[index]
        if about.column in named:
            size = float(np.sqrt(fitted.unbiased[index]))
            unit = f"{size:.2f} sd" if about.unit == "sd" else f"{100 * size * float(np.sqrt(_share(chart, index))):.1f} points"
            named[about.column] |= {
                "natural": unit, "carry": round(float(fitted.carry[index]), 2), "season": f"{float(fitted.level.shrinkage[index]):.0%}",
            }
    return found | {
        "seasonal": round(float(fitted.level.shrinkage[first].mean()), 3), "trend": round(float(fitted.trend[first].mean()), 3),
        "contrasts": len(chart.contrasts), "chances": round(fitted.chances, 1), "effective": round(fitted.effective, 1),
    }


def _share(chart: Chart, index: int) -> float:
    """The variance of one row's membership: what turns an angle into a share."""
    share = float(chart.values.shown[:, index].mean())
    return max(share * (1 - share), 0.0)


def simulate(track: Track) -> dict[str, Any]:
    """What the policy would have sent, when, and how sensitive its chart is at the end."""
    return _replay(track, Replay(track.job.budget, track.job.monitor.alerts.clear))


def _replay(track: Track, replay: Replay) -> dict[str, Any]:
    job, monitor = track.job, track.job.monitor
    pages: list[dict[str, Any]] = []
    watch: list[dict[str, Any]] = []
    data: list[dict[str, Any]] = []
    judged, values, effective, expected = 0, [], 0.0, 0.0
    chart: Chart | None = None
    learning = True
    for index, window in enumerate(track.windows):
        if window.start < job.since:
            continue
        outside = replay.outside(index)
        places = [i for i in range(index) if i not in outside][-job.baseline :]
        past = track.past(places)
        profile = track.profiles[index]
        run = _run(job, window)
        output = judge_output(run, past, track.binning, profile)
        volume = judge_volume(run, past, track.binning, profile)
        breaks = [*find_breaks(track.binning, profile, past.profiles), *output.breaks, *([volume] if volume else [])]
        broken = {b.column for b in breaks}
        names = [c for c in (*track.columns, *(output.columns if output.whole else ())) if c not in broken]
        thin = profile.rows < monitor.drift.min_rows
        now = Chart(track.binning, []) if thin else (
            past.chart(track.binning, names, weights={**monitor.drift.weights, **({ROWS: 0.0} if volume else {})})
        )
        chart = chart if chart is not None and (thin or breaks) else now
        if breaks:  # a data incident, outside the budget: its windows are no part of the baseline
            replay.left.add(index)
            data.append({"window": iso(window.start), "sentences": [b.sentence for b in breaks[:3]]})
        score = past.score(now, profile, window)
        if score.p_value is not None:
            judged += 1
            values.append(score.p_value)
            effective, learning = score.effective, score.learning
            expected += alert_below(job.budget.per(window.length), score.learning)
        state = replay.step(index, window, score)
        if state in ("page", "watch"):
            found = {
                "window": iso(window.start), "p_value": number(score.p_value), "drivers": [driver_json(d) for d in distinct(score.drivers)[:3]],
                "sentence": sentence(score, normal_words(monitor, past, window)),
            }
            (pages if state == "page" else watch).append(found)
    span = (track.windows[-1].end - job.since) if judged else timedelta(0)
    length = timedelta(seconds=job.settings.size_seconds)
    limit = alert_below(job.budget.per(length), learning)
    shown = sensitivity(chart, limit) if chart is not None else []
    return {
        "monitor": monitor.name, "windows": judged, "budget": f"{job.budget.count:g} per {format_duration(job.budget.period)}",
        "allowed": round(job.budget.per(span), 2), "bound": round(job.budget.per(span) + 5, 2), "expected": round(expected, 2),
        "pages": pages, "watch": watch, "data": data, "state": "learning" if learning else "ready", "alert_below": round(limit, 6),
        "below_limit": sum(p < limit for p in values), "effective_windows": round(effective, 1),
        "sensitivity": [
            {**asdict(s), "within": {f"{k}": number(v) for k, v in zip((1, 3, 10), s.within, strict=True)}, "wobble": number(s.wobble)}
            for s in shown
        ],
    }


def inject(track: Track) -> dict[str, Any]:
    """The detection matrix: every fault, in some columns, begun at some windows of the history."""
    monitor = track.job.monitor
    replay = Replay(track.job.budget, monitor.alerts.clear)
    _replay(track, replay)
    calm = [i for i in range(len(track.windows)) if i not in replay.left]  # the history's own incidents are no part of it
    track = replace(track, windows=[track.windows[i] for i in calm], profiles=[track.profiles[i] for i in calm])
    last = len(track.windows)
    if last < 4:
        raise ConfigError(f"monitor {monitor.name}: {last} calm windows with rows are too few to inject faults into")
    room = min(GIVE_UP, max(last // 4, 1))
    onsets = sorted({max(last - room - 7 * k - k, min(track.job.baseline, last - 1)) for k in range(ONSETS)})
    rows = []
    for kind, table in (("numeric", faults.NUMERIC), ("category", faults.CATEGORICAL), ("", faults.ANY), ("rows", faults.WHOLE)):
        for name, fault in table.items():
            columns = [ROWS] if kind == "rows" else _columns(track, kind, name)
            for column in columns:
                found = [_detect(track, fault, column, onset) for onset in onsets if onset < last]
                caught = [f for f in found if f is not None]
                windows = sorted(f[0] for f in caught)
                checks = sorted({f[1] for f in caught})
                rows.append({
                    "fault": name, "column": column, "tried": len(found), "caught": len(caught),
                    "windows": windows[len(windows) // 2] if windows else None, "by": checks,
                })
    return {"monitor": monitor.name, "windows": last, "onsets": [iso(track.windows[o].start) for o in onsets if o < last], "faults": rows}


def _columns(track: Track, kind: str, fault: str) -> list[str]:
    """Some columns that a fault can befall, spread over all of them."""
    names = []
    crossed = {c.name for c in track.binning.crossed}
    for name in track.columns:
        column = track.binning[name]
        if (kind == "" and column.kind != "text") or (column.kind == kind and (len(column.categories) > 1 or column.bins > 2) and (
            fault != "correlation broken" or (name in crossed and _correlated(track, name))
        )):
            names.append(name)
    step = max(len(names) // MOST_COLUMNS, 1)
    return names[::step][:MOST_COLUMNS]


def _correlated(track: Track, name: str) -> bool:
    """Whether a column has a correlation worth breaking."""
    cross = track.profiles[-1].cross
    names = [c.name for c in track.binning.crossed]
    if cross is None:
        return False
    row = abs(cross.correlation()[names.index(name)])
    return bool(sum(value > 0.3 for value in row.tolist()) > 1)


def _detect(track: Track, fault: faults.Fault, column: str, onset: int) -> tuple[int, str] | None:
    """After how many windows a fault is found and by which check; None when it is not within 20 windows of history."""
    changed: dict[int, Profile] = {}
    for since, index in enumerate(range(onset, min(onset + GIVE_UP, len(track.windows)))):
        places = list(range(index))[-track.job.baseline :]
        past = track.past(places, [changed.get(i, track.profiles[i]) for i in places])
        window = track.windows[index]
        profile = changed[index] = fault(track.profiles[index], column, since)
        own = {b.column for b in find_breaks(track.binning, track.profiles[index], past.profiles)}
        if any(b.column == column for b in find_breaks(track.binning, profile, past.profiles)) and column not in own:
            return since + 1, "data"
        if column == ROWS and judge_volume(_run(track.job, window), past, track.binning, profile) is not None:
            return since + 1, "volume"
        score = past.score(track.chart(past), profile, window)
        limit = alert_below(track.job.budget.per(window.length), score.learning)
        if score.p_value is not None and score.p_value < limit and _blamed(score, column):
            return since + 1, f"drift ({score.drivers[0].contrast})"
    return None


def _blamed(score: DriftScore, column: str) -> bool:
    """Whether the alarm names the column: an alarm for another reason has not found the fault."""
    return any(d.column == column or column in d.detail.split(" ~ ") for d in score.drivers)


def _run(job: HistoryJob, window: Window) -> RunJob:
    return RunJob(job.monitor, job.settings, job.binning, b"", window, window.end, window.end, (), b"")
