"""The drift section of a window: the chart on inputs, the model's own output, volume, and what was pooled or accepted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from checks.calibration.chart import Accepted, Chart, DriftScore, Driver, Season
from checks.calibration.explain import sentence, words
from checks.calibration.ledger import alert_below
from checks.calibration.names import ROWS
from checks.calibration.structural import StructuralBreak, find_breaks
from checks.core.binning import Binning
from checks.core.profile import Profile, merge
from checks.core.window import Window, WindowGrid, iso
from monitor.config.model import MonitorConfig
from monitor.evaluation.sections import NO_ROWS, number
from monitor.ports import BaselineWindow, HistoryJob, NormalJob, ReportJob, RuleResult, RunJob

DaysJob = TypeVar("DaysJob", HistoryJob, NormalJob)

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
HOLIDAY = 6
"""Holidays are looked at as Sundays."""
DOMINANT = 0.9
"""A window belongs to a model version that served at least this share of its rows."""
HALVED, DOUBLED = 0.5, 2.0
MOVED = 0.5
"""The share of its standard deviation by which a score's mean has moved when it fails."""
SEEN_CLASS = 0.02
"""A class held by fewer rows doubles too easily."""


def weekday_of(monitor: MonitorConfig, grid: WindowGrid, window: Window) -> tuple[int, bool]:
    """The weekday of a window, Monday 0, and whether it is a holiday, which counts as Sunday."""
    local = window.start.astimezone(ZoneInfo(grid.timezone))
    if local.date().isoformat() in {text[:10] for text in monitor.drift.holidays}:
        return HOLIDAY, True
    return local.weekday(), False


def season_of(monitor: MonitorConfig, grid: WindowGrid, window: Window, seasonality: str) -> int:
    """The season key of a window: its weekday, or its place in the week."""
    weekday, _ = weekday_of(monitor, grid, window)
    if seasonality == "hour_of_week":
        local = window.start.astimezone(ZoneInfo(grid.timezone))
        seconds = grid.size.total_seconds()
        return int((weekday * 86400 + local.hour * 3600 + local.minute * 60) // seconds)
    return weekday if seasonality == "weekday" else 0


def seasonality_of(monitor: MonitorConfig, grid: WindowGrid) -> tuple[str, int]:
    """The season that a monitor has, and how many keys make a whole one."""
    chosen = monitor.drift.seasonality
    if chosen == "auto":
        if grid.size.days == 1:
            chosen = "weekday"
        else:
            chosen = "none" if grid.daily else "hour_of_week"
    return chosen, {"none": 1, "weekday": 7, "hour_of_week": round(168 / max(grid.size.total_seconds() / 3600, 1 / 60))}[chosen]


def position_of(grid: WindowGrid, window: Window) -> float:
    """The place of a window on the grid; the next window's is one more."""
    if grid.daily:
        return float(grid.local_date(window.start).toordinal() // max(grid.size.days, 1))
    return float(window.start.timestamp() // grid.size.total_seconds())  # steps of one, whatever the zone's offset


def grid_of(job: RunJob) -> WindowGrid:
    """The windows of the job's monitor."""
    return WindowGrid(timedelta(seconds=job.settings.size_seconds), job.monitor.window.timezone)


@dataclass(frozen=True, slots=True)
class Past:
    """The baseline of a run with its places and seasons."""

    windows: Sequence[Window]
    profiles: Sequence[Profile]
    grid: WindowGrid
    seasonality: str
    cycle: int
    monitor: MonitorConfig

    def chart(
        self, binning: Binning, columns: Sequence[str], *, chosen: Sequence[int] | None = None, virtual: bool = True,
        weights: dict[str, float] | None = None, accepted: Sequence[Accepted] = (), widen: float = 1.0,
    ) -> Chart:
        """A chart of ``columns`` on the baseline, or on its windows at the ``chosen`` places."""
        kept = range(len(self.windows)) if chosen is None else chosen
        keys = [season_of(self.monitor, self.grid, self.windows[i], self.seasonality) for i in kept]
        return Chart(
            binning, [self.profiles[i] for i in kept], [position_of(self.grid, self.windows[i]) for i in kept],
            Season(self.seasonality, keys, self.cycle), weights=weights, columns=columns, accepted=accepted, widen=widen, virtual=virtual,
        )

    def score(self, chart: Chart, profile: Profile, window: Window) -> DriftScore:
        """A window on a chart of this baseline."""
        return chart.score(profile, season_of(self.monitor, self.grid, window, self.seasonality), position_of(self.grid, window))


def past_of(job: RunJob, baseline: Sequence[Profile]) -> Past:
    """The job's baseline, without its empty windows."""
    grid = grid_of(job)
    seasonality, cycle = seasonality_of(job.monitor, grid)
    kept = [(b.window, p) for b, p in zip(job.baseline, baseline, strict=True) if p.rows]  # an empty one shows nothing
    return Past([w for w, _ in kept], [p for _, p in kept], grid, seasonality, cycle, job.monitor)


def chart_of(job: ReportJob, binning: Binning, baseline: Sequence[Profile]) -> Chart:
    """The chart of the inputs on the baseline that a report's run pinned."""
    size = job.baseline[0].window.length if job.baseline else timedelta(days=1)
    if job.monitor.window.rollup is not None:  # its days are not what the run pinned
        return Chart(binning, [])
    grid = WindowGrid(timedelta(days=max(round(size / timedelta(days=1)), 1)) if size > timedelta(hours=22) else size, job.monitor.window.timezone)
    seasonality, cycle = seasonality_of(job.monitor, grid)
    kept = [(b.window, p) for b, p in zip(job.baseline, baseline, strict=True) if p.rows]
    past = Past([w for w, _ in kept], [p for _, p in kept], grid, seasonality, cycle, job.monitor)
    return past.chart(binning, [c.name for c in binning.columns if c.role == "feature"], weights=dict(job.monitor.drift.weights))


def driver_json(driver: Driver) -> dict[str, Any]:
    """A driver as the check object shows it."""
    return {
        "column": driver.column, "contrast": driver.contrast, **({"detail": driver.detail} if driver.detail else {}),
        "effect": number(driver.effect), "unit": driver.unit, "z": round(driver.z, 2),
        "usual": [number(driver.usual[0]), number(driver.usual[1])], "value": number(driver.value), "expected": number(driver.expected),
        **({"observed": number(driver.observed), "usually": number(driver.usually)} if driver.observed is not None else {}),
        "words": words(driver),
    }


def dominant(profile: Profile) -> str | None:
    """The version that served nearly all rows that name one, empty where none does; None where versions are mixed."""
    named = {name: rows for name, rows in profile.versions.items() if name}
    if not named:
        return ""
    best = max(named, key=lambda name: named[name])
    return best if named[best] >= DOMINANT * sum(named.values()) else None


def in_days(job: DaysJob, binning: Binning, profiles: Sequence[Profile]) -> tuple[DaysJob, list[Profile]]:
    """A history of hours whose drift is decided by days (``window.rollup``) as one of days; others as they are."""
    size = job.monitor.window.rollup
    if size is None or size.total_seconds() <= job.settings.size_seconds:
        return job, list(profiles)
    grid = WindowGrid(size, job.monitor.window.timezone)
    days: dict[Window, list[Profile]] = {}
    for item, profile in zip(job.windows, profiles, strict=True):
        days.setdefault(grid.at(item.window.start), []).append(profile)
    windows = tuple(BaselineWindow(day, 0, b"") for day in days)
    settings = replace(job.settings, size_seconds=size.total_seconds())
    changed = replace(job, windows=windows, settings=settings)
    if isinstance(changed, HistoryJob):
        changed = replace(changed, baseline=min(changed.baseline, 56))
    return changed, [merge(binning, parts) for parts in days.values()]


@dataclass(frozen=True, slots=True)
class Output:
    """What was found of the model's own output: the columns, the baseline windows of the same version, breaks, a note."""

    columns: tuple[str, ...]
    chosen: tuple[int, ...]
    breaks: tuple[StructuralBreak, ...]
    section: dict[str, Any] | None
    note: str = ""
    score: DriftScore | None = None

    @property
    def whole(self) -> bool:
        """Whether nothing was left out of the baseline."""
        return not self.note


def judge_output(job: RunJob, past: Past, binning: Binning, profile: Profile) -> Output:
    """Whether the scores and predicted classes moved so far that harm is near, against windows of the same version."""
    monitor = job.monitor
    weights = dict(monitor.drift.weights)
    columns = tuple(c.name for c in binning.columns if c.role in ("score", "prediction") and c.bins > 0 and weights.get(c.name, 1.0) > 0)
    if not columns or profile.rows < monitor.drift.min_rows:
        return Output((), (), (), None)
    now = dominant(profile)
    versions = monitor.columns.version is not None and now != ""
    chosen = tuple(i for i, p in enumerate(past.profiles) if not versions or dominant(p) == now)
    note = ""
    if versions and now is None:
        note = f"versions {', '.join(sorted(filter(None, profile.versions)))} serve together: score and prediction are not compared"
        chosen = ()
    elif versions and len(chosen) < len(past.profiles):
        note = f"version {now} serves: score and prediction are compared with its {len(chosen)} windows"
        if not chosen:
            note = f"version {now} is new: the baselines of score and prediction restart"
    since = max((moment for moment, named in job.accepted if named is None or set(named) & set(columns)), default=None)
    if since is not None:  # a level that was accepted is compared with itself
        chosen = tuple(i for i in chosen if past.windows[i].start >= since)
    chart = past.chart(binning, columns, chosen=chosen, virtual=False, weights=weights)
    score = past.score(chart, profile, job.window)
    limit = alert_below(monitor.drift.budget.per(job.window.length), score.learning)
    breaks: list[StructuralBreak] = []
    if score.p_value is not None and score.p_value < limit:
        usual = merge(binning, (past.profiles[i] for i in chosen))
        for name in columns:
            text = _harm(binning, name, profile, usual)
            if text:
                breaks.append(StructuralBreak(name, "prediction", text, profile.rows))
    section = {
        "p_value": number(score.p_value), "windows": len(chosen), "version": now, "drivers": [driver_json(d) for d in score.drivers[:5]],
        **({"note": note} if note else {}),
    }
    return Output(columns, chosen, tuple(breaks), section, note, score)


def _harm(binning: Binning, name: str, profile: Profile, usual: Profile) -> str:
    """In words, how an output is beyond what may be called drift: a mean by half its sd, a class share halved or doubled."""
    column, now, then = binning[name], profile.columns[name], usual.columns[name]
    if column.kind == "numeric":
        mean, before, spread = now.mean(), then.mean(), then.deviation(column.center)
        if mean is None or before is None or not spread or abs(mean - before) <= MOVED * spread:
            return ""
        return f"the mean of {name} is {mean:.4g}, usually {before:.4g}: moved by {abs(mean - before) / spread:.2f} of its standard deviation"
    total, whole = max(int(now.layout().sum()), 1), max(int(then.layout().sum()), 1)
    for index, category in enumerate(column.categories):
        share, before = now.counts[index] / total, then.counts[index] / whole
        if max(share, before) >= SEEN_CLASS and (share <= HALVED * before or share >= DOUBLED * before):
            return f"{share:.1%} of rows are predicted {category}, usually {before:.1%}"
    return ""


def judge_volume(job: RunJob, past: Past, binning: Binning, profile: Profile) -> StructuralBreak | None:
    """A number of rows outside half to twice the usual of that hour or day, beyond what the baseline ever shows."""
    since = max((moment for moment, named in job.accepted if named is None or ROWS in named), default=None)
    chosen = [i for i, w in enumerate(past.windows) if since is None or w.start >= since]
    if not profile.rows or len(chosen) < 3:
        return None
    score = past.score(past.chart(binning, (), chosen=chosen, virtual=True), profile, job.window)
    if score.p_value is None or not score.drivers:
        return None
    (rows, *_) = score.drivers
    ratio = rows.value / max(rows.expected, 1.0)
    limit = alert_below(job.monitor.drift.budget.per(job.window.length), score.learning)
    if score.p_value >= limit or HALVED <= ratio <= DOUBLED:
        return None
    return StructuralBreak(ROWS, "volume", f"{profile.rows:,} rows, usually {rows.expected:,.0f} at this time", profile.rows)


def still_breaks(
    job: RunJob, past: Past, binning: Binning, profile: Profile, breaks: Sequence[StructuralBreak],
) -> list[StructuralBreak]:
    """The breaks without those that a person has accepted: they are none against the windows since then."""
    kept = []
    for found in breaks:
        since = max((moment for moment, named in job.accepted if named is None or found.column in named), default=None)
        after = [p for w, p in zip(past.windows, past.profiles, strict=True) if since is not None and w.start >= since]
        if not after or any(again.column == found.column for again in find_breaks(binning, profile, after)):
            kept.append(found)
    return kept


def judge_drift(
    job: RunJob, past: Past, binning: Binning, profile: Profile, broken: set[str], output: Output, carried: Sequence[Profile] = (),
) -> tuple[dict[str, Any], list[RuleResult]]:
    """The drift section before the ledger decides, and a result for each driving column."""
    monitor = job.monitor
    whole = merge(binning, [*carried, profile]) if carried and profile.rows else profile
    pooled = [iso(w.window.start) for w in job.carried] if carried and profile.rows else []
    names = [c.name for c in binning.columns if c.role == "feature" and c.name not in broken]
    if output.whole:
        names += [name for name in output.columns if name not in broken]
    enough = whole.rows >= monitor.drift.min_rows
    weights = dict(monitor.drift.weights)
    if pooled or ROWS in broken:
        weights[ROWS] = 0.0  # together they are more rows than a window has; or it was said already
    score = DriftScore(None, (), len(past.profiles), 0, past.seasonality, True)
    if enough:
        accepted = [
            Accepted(position_of(past.grid, past.grid.at(moment)), frozenset(columns) if columns else None) for moment, columns in job.accepted
        ]
        chart = past.chart(binning, names, weights=weights, accepted=accepted, widen=job.widen)
        score = past.score(chart, whole, job.window)
    if not output.whole and output.score is not None and output.score.p_value is not None and not output.score.learning:
        score = _together(score, output.score)  # the same version's windows are enough by themselves
    if not enough:
        text = f"{whole.rows} rows; {monitor.drift.min_rows} are needed" if profile.rows else NO_ROWS
        verdict = "insufficient" if profile.rows else "no_data"
    else:
        text = sentence(score, normal_words(monitor, past, job.window))
        verdict = "insufficient" if score.p_value is None else "pass"
    if pooled:
        text += f"; pooled with {len(pooled)} windows too small by themselves ({pooled[0]} on)"
    if output.note and not output.chosen:
        text += f"; {output.note}"
    budget = monitor.drift.budget.per(job.window.length)
    section: dict[str, Any] = {
        "verdict": verdict, "p_value": number(score.p_value), "learning": score.learning and enough, "seasonality": past.seasonality,
        "drivers": [driver_json(d) for d in score.drivers], "sentence": text,
        "extrapolated_from": score.windows if score.windows and budget < 1 / (2 * score.windows) else None,
        **({"pooled": pooled} if pooled else {}), **({"prediction": output.section} if output.section else {}),
    }
    first: dict[str, Driver] = {}
    for driver in score.drivers:
        first.setdefault(driver.column, driver)
    results = [
        RuleResult(f"drift[{name}]", "drift", "warn", number(d.effect), n=whole.rows, column=name, state="driver", reason=words(d))
        for name, d in first.items()
    ]
    return section, results


def _together(inputs: DriftScore, output: DriftScore) -> DriftScore:
    """Inputs and output on charts of their own: twice the smaller p-value, the drivers of both."""
    if inputs.p_value is None or output.p_value is None:
        return inputs
    p_value = min(2 * min(inputs.p_value, output.p_value), 1.0)
    first, second = (inputs, output) if inputs.p_value <= output.p_value else (output, inputs)
    return replace(inputs, p_value=p_value, drivers=(*first.drivers, *(second.drivers if second.p_value < 0.05 else ())))  # type: ignore[operator]


def normal_words(monitor: MonitorConfig, past: Past, window: Window) -> str:
    """What a window is compared with, such as ``Tuesdays``."""
    weekday, holiday = weekday_of(monitor, past.grid, window)
    if past.seasonality == "weekday":
        return "Sundays and holidays" if holiday else f"{WEEKDAYS[weekday]}s"
    return "windows of this hour of the week" if past.seasonality == "hour_of_week" else "windows"


def deferred(job: RunJob, end: Any, size: timedelta) -> dict[str, Any]:
    """The section of a window whose drift is decided with its day."""
    seasonality, _ = seasonality_of(job.monitor, WindowGrid(size, job.monitor.window.timezone))
    text = f"decided with its day, which ends at {end:%Y-%m-%dT%H:%MZ} (window.rollup)"
    return {"verdict": "pass", "deferred": True, "p_value": None, "learning": False, "seasonality": seasonality, "drivers": [], "sentence": text}


def of_day(job: RunJob, day: Window, size: timedelta, windows: Sequence[Any]) -> RunJob:
    """The job as if its window were the whole day."""
    return replace(job, window=day, baseline=tuple(windows), carried=(), settings=replace(job.settings, size_seconds=size.total_seconds()))
