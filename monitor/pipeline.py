"""One run as a use case: scan and judge in a worker, then commit everything that follows from it in one transaction."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy.engine import Connection, Row

from checks.core.errors import DriftdError, LimitError, PlanChanged, SourceError, StoreError, WorkerError
from checks.core.result import Verdict, roll_up
from checks.core.window import Window, iso
from contracts.parse import MOST_HISTORY
from monitor import __version__
from monitor.alerting.definition import defined
from monitor.alerting.drift import decide, raised, settled
from monitor.alerting.fold import DEFERRED, DRIFT_RULE
from monitor.alerting.inhibition import STRUCTURAL, inhibit
from monitor.alerting.violations import beside
from monitor.announce import LABELS_LATE, LABELS_UNKNOWN, Announcer, Committed
from monitor.clock import Clock
from monitor.config.model import Config, MonitorConfig
from monitor.config.types import format_budget
from monitor.history import History, history_of, pinned
from monitor.labelling import MOST_UNKNOWN, NEARLY_ALL, Calibrations, compared, late, renewed, says_the_same, unknown
from monitor.ports import (
    BaselineWindow,
    Observation,
    ObserveJob,
    Outcome,
    ProfiledWindow,
    ProfileJob,
    QualityAnswer,
    QualityJob,
    RuleResult,
    RunJob,
    StoredScan,
    Workers,
)
from monitor.prepare import Prepared, build, build_reference, settings_key, unknown_columns
from monitor.rollup import defer, last_of_day, rollup_grid
from monitor.schedule import as_of, due_windows, labels_due, retry_wait
from monitor.store import incidents, runs
from monitor.store.store import Store, holds_lease

LOG = structlog.get_logger("driftd.run")
SECTIONS = ("contract", "data", "drift", "quality", "service")


class LeaseLost(DriftdError):
    """Another daemon has taken the monitor over."""


class Pipeline:
    """Prepares monitors, evaluates their windows and counts their labels again.

    ``owner`` names this process in leases; ``fence`` gives the epoch of the lease on a monitor, None where none is
    needed (single commands on a store of their own).
    """

    def __init__(self, config: Config, store: Store | None, workers: Workers, clock: Clock, owner: str = "command") -> None:
        self.config = config
        self.store = store
        self.workers = workers
        self.clock = clock
        self.owner = owner
        self.fences: dict[str, int] = {}
        self.over_limit: dict[str, str] = {}
        self.calibrations = Calibrations(store, workers, clock)
        self._prepared: dict[str, tuple[str, Prepared]] = {}
        self._key: bytes | None = None
        self.aborting = threading.Event()

    # -- preparing

    def key(self) -> bytes:
        """The key of hashed texts: the store's, or a passing one without a store."""
        if self._key is None:
            self._key = self.store.key() if self.store is not None else b"driftd check without a store"
        return self._key

    def prepare(self, name: str, *, save: bool = True, rebuild: bool = False) -> Prepared:
        """The monitor's settings, binning and reference, from the store or made now (and saved there)."""
        monitor = self.config.monitor(name)
        key = settings_key(monitor)
        known = self._prepared.get(name)
        if known is not None and known[0] == key and not rebuild:
            return replace(known[1], monitor=monitor) if known[1].monitor is not monitor else known[1]
        prepared = None if rebuild else self._load(monitor, key)
        if prepared is None:
            prepared = self._make(monitor, key, save)
        self._prepared[name] = (key, prepared)
        return prepared

    def known(self, name: str) -> Prepared | None:
        """What `prepare` gave or stored before; never starts any work."""
        monitor = self.config.monitors.get(name)
        if monitor is None:
            return None
        key = settings_key(monitor)
        cached = self._prepared.get(name)
        if cached is None or cached[0] != key:
            return self._load(monitor, key)
        return cached[1] if cached[1].monitor is monitor else replace(cached[1], monitor=monitor)

    def _load(self, monitor: MonitorConfig, key: str) -> Prepared | None:
        if self.store is None:
            return None
        with self.store.read() as connection:
            row = runs.settings_of(connection, monitor.name)
            if row is None or row.settings_key != key or row.binning is None:
                return None
            body = runs.binning_body(connection, row.binning)
        return Prepared(monitor, runs.read_settings(row), body, row.binning, row.reference, self.key())

    def _make(self, monitor: MonitorConfig, key: str, save: bool) -> Prepared:
        now = self.clock.now()
        with_settings = None
        if self.store is not None:
            with self.store.read() as connection:
                row = runs.settings_of(connection, monitor.name)
            if row is not None and row.settings_key == key:
                with_settings = runs.read_settings(row)
        if with_settings is not None:
            prepared = build_reference(monitor, with_settings, self.workers, self.key())
        else:
            prepared = build(monitor, self.workers, self.key(), now)
        if save and self.store is not None:
            with self.store.write() as connection:
                self.fenced(connection, monitor.name)
                if with_settings is None:
                    runs.save_settings(connection, monitor.name, key, prepared.settings, self.config.hashes.get(monitor.name, ""), now)
                runs.save_binning(connection, monitor.name, prepared.binning_hash, prepared.binning, prepared.reference, now)
                runs.save_profiles(connection, monitor.name, prepared.binning_hash, "reference", 0, prepared.profiled)
            prepared = replace(prepared, profiled=())  # the store has them: a thousand monitors' would fill the memory
            for name in unknown_columns(monitor, prepared.binning):
                LOG.warning("the configuration names a column that is not there", monitor=monitor.name, column=name)
            for note in prepared.settings.notes:
                LOG.info("setting found out", monitor=monitor.name, setting=note)
        return prepared

    def fenced(self, connection: Connection, monitor: str) -> None:
        """`LeaseLost` when another daemon has taken the monitor over; holds the lease until commit."""
        epoch = self.fences.get(monitor)
        if epoch is not None and not holds_lease(connection, f"monitor/{monitor}", self.owner, epoch):
            raise LeaseLost(f"monitor {monitor}: {LeaseLost.__doc__}")

    def history(self, prepared: Prepared, window: Window) -> History:
        """What a run of ``window`` is judged against."""
        before = window.start
        if self.store is None:
            return History(prepared.baseline_before(before), defer(prepared, window))
        with self.store.read() as connection:
            found = history_of(connection, prepared, window)
        return found if found.baseline else replace(found, baseline=prepared.baseline_before(before))

    # -- judging one window

    def judge(
        self, prepared: Prepared, window: Window, stored: StoredScan | None = None, *, save: bool = True,
    ) -> tuple[Outcome, datetime, tuple[BaselineWindow, ...]]:
        """Scan (or take what is ``stored``) and judge; nothing is stored but (``save``) what the reference's labels teach."""
        now = self.clock.now()
        moment = as_of(now, window, prepared.lateness)
        past = self.history(prepared, window)
        job = RunJob(
            prepared.monitor, prepared.settings, prepared.binning, prepared.key, window, moment, now, past.baseline, prepared.reference,
            stored, past.rollup, self.keys(prepared.monitor.name, window), past.carried, past.accepted, past.widen,
            *self.calibrations.of(prepared, save=save),
        )
        outcome: Outcome = self.workers.run(job)
        quality = compared(self.store, prepared, self.workers, window, outcome.sections["quality"], outcome.quality_counts)
        outcome = replace(outcome, sections={**outcome.sections, "quality": quality}, plan={**outcome.plan, "pinned": pinned(past)})
        return outcome, moment, past.baseline

    def keys(self, name: str, window: Window) -> tuple[tuple[datetime, bytes], ...]:
        """The digests of the keys of earlier windows."""
        if self.store is None:
            return ()
        with self.store.read() as connection:
            return runs.key_digests(connection, name, window.start, MOST_HISTORY)

    @staticmethod
    def _beside(connection: Connection, name: str, window: Window, outcome: Outcome) -> Outcome:
        """The outcome with its contract section beside that of the window before."""
        section = outcome.sections.get("contract")
        if section is None:
            return outcome
        known = runs.section_before(connection, name, window.start, "contract")
        section = beside(section, known[1] if known else None, iso(known[0]) if known else "")
        return replace(outcome, sections={**outcome.sections, "contract": section}, violations=tuple(section["violations"]))

    def check(self, name: str, window: Window | None = None) -> dict[str, Any]:
        """Evaluate one window now and store nothing; answers the check object."""
        prepared = self.prepare(name, save=False)
        if window is None:
            window = self.newest_closed(prepared)
        try:
            outcome, moment, baseline = self.judge(prepared, window, save=False)
        except (SourceError, WorkerError) as error:
            return error_object(name, window, as_of(self.clock.now(), window, prepared.lateness), str(error))
        spent, owner_spent = self._spent(prepared.monitor)
        if self.store is not None:
            with self.store.read() as connection:
                outcome = self._beside(connection, name, window, outcome)
        outcome, _ = self._decide(prepared, window, outcome, spent, owner_spent, False)
        return check_object(name, window, moment, outcome, prepared.binning_hash, len(baseline))

    def newest_closed(self, prepared: Prepared) -> Window:
        """The newest window that has ended and is not late any more, at most the monitor's last."""
        limit = self.clock.now() - prepared.lateness
        if prepared.end is not None:
            limit = min(limit, prepared.end)
        elif prepared.settings.start < limit:
            observed: Observation = self.workers.run(ObserveJob(prepared.monitor, prepared.settings, (), (), "", limit))
            if observed.newest_event is not None:
                limit = min(limit, prepared.grid.next(prepared.grid.at(observed.newest_event)).start)
        return prepared.grid.previous(prepared.grid.at(limit))

    def _spent(self, monitor: MonitorConfig) -> tuple[list[datetime], list[datetime]]:
        if self.store is None:
            return [], []
        with self.store.read() as connection:
            return incidents.tokens(connection, monitor.name), incidents.owner_tokens(connection, monitor.owner)

    def _decide(
        self, prepared: Prepared, window: Window, outcome: Outcome, spent: list[datetime], owner_spent: list[datetime], is_open: bool,
    ) -> tuple[Outcome, bool]:
        """The outcome with the drift section decided, and whether the window spends a token."""
        monitor = prepared.monitor
        if outcome.sections["drift"].get("deferred"):
            return self._deferred(monitor, outcome), False
        grid = rollup_grid(monitor, prepared.settings)
        if grid is not None:  # the budget counts days; the token is that of the window which decides
            window = Window(window.start, window.start + grid.at(window.start).length)
        owner = self.config.owners.get(monitor.owner)
        decision = decide(
            outcome.drift_p_value, outcome.drift_learning, window, monitor.drift.budget, spent,
            owner.budget if owner else None, owner_spent, is_open,
        )
        known = outcome.sections["drift"]["verdict"] == "pass"
        return settled(outcome, decision, format_budget(monitor.drift.budget), SECTIONS), decision.spend and known

    @staticmethod
    def _deferred(monitor: MonitorConfig, outcome: Outcome) -> Outcome:
        """A window whose drift is decided later, with its day."""
        drift = outcome.sections["drift"]
        limits = [Verdict(r.verdict) for r in outcome.results if r.family == "drift" and r.state == "limit"]
        section = {
            "verdict": str(roll_up(v for v in limits if v.breach)), "state": DEFERRED, "p_value": None, "alert_below": None,
            "budget": format_budget(monitor.drift.budget), "tokens": None, "seasonality": drift["seasonality"], "drivers": [],
            "sentence": drift["sentence"], "statistics": drift["statistics"],
        }
        result = RuleResult(DRIFT_RULE, "drift", "pass", n=outcome.rows, state=DEFERRED, reason=drift["sentence"])
        sections = {key: section if key == "drift" else outcome.sections.get(key) for key in SECTIONS}
        return replace(outcome, sections=sections, results=(*outcome.results, result))

    def past_profiles(self, prepared: Prepared, first: datetime, last: datetime) -> tuple[BaselineWindow, ...]:
        """The profiles of every window from ``first`` to before ``last``: those that are stored, and the others scanned now."""
        name = prepared.monitor.name
        known = {p.window: BaselineWindow(p.window, 0, p.profile) for p in prepared.profiled}
        if self.store is not None:
            with self.store.read() as connection:
                known |= {p.window: p for p in runs.pieces(connection, name, prepared.binning_hash, first, last)}
        wanted = list(prepared.grid.between(first, last))
        missing = tuple(w for w in wanted if w not in known)
        if missing:
            found = self.workers.run(ProfileJob(prepared.monitor, prepared.settings, prepared.binning, prepared.key, missing))
            known |= {p.window: BaselineWindow(p.window, 0, p.profile) for p in found}
        return tuple(known[w] for w in wanted)

    # -- runs that are kept

    def stored(self, prepared: Prepared, window: Window) -> StoredScan:
        """What the newest scan of a window left; `PlanChanged` when there is none under today's binning."""
        assert self.store is not None
        name = prepared.monitor.name
        with self.store.read() as connection:
            run = runs.current_run(connection, name, window.start)
            kept = None
            if run is not None and not run.error and run.binning == prepared.binning_hash:
                kept = runs.profile_of(connection, name, window.start, run.revision)
                counts = runs.profile_of(connection, name, window.start, run.revision, "quality")
                outputs = runs.profile_of(connection, name, window.start, run.revision, "outputs")
        if run is None or kept is None:
            why = "it has no stored profile under today's binning"
            raise PlanChanged(f"monitor {name}: {window}: {why}: its rows must be counted, with driftd backfill {name} --again")
        return StoredScan(kept, counts, run.labelled, run.plan or {}, run.fingerprint, run.snapshot, outputs, run.sections.get("quality"))

    def evaluate(self, name: str, window: Window, *, notify: bool = True, stored: StoredScan | None = None) -> str:
        """Evaluate one window, from its rows or from a ``stored`` scan, and commit all that follows; answers its verdict."""
        assert self.store is not None
        prepared = self.prepare(name)
        try:
            outcome, moment, baseline = self.judge(prepared, window, stored)
        except (SourceError, WorkerError, DriftdError) as error:
            if isinstance(error, (StoreError, LeaseLost, PlanChanged)) or self.aborting.is_set() or stored is not None:
                raise  # a scan that was ended on purpose says nothing of the window
            if isinstance(error, LimitError):
                self.over_limit[name] = str(error)
            return self._commit_error(prepared, window, str(error), notify)
        now = self.clock.now()
        with self.store.write() as connection:
            self.fenced(connection, name)
            # Only the window just before an incident, which came late, is part of it, too.
            is_open = any(k.family == "drift" and k.state == "open" and k.first <= window.end for k in incidents.known_since(connection, name, window.start))
            spent = incidents.tokens(connection, name)
            owner_spent = incidents.owner_tokens(connection, prepared.monitor.owner)
            outcome = self._beside(connection, name, window, outcome)
            outcome, spend = self._decide(prepared, window, outcome, spent, owner_spent, is_open)
            if spend and notify:
                incidents.spend(connection, name, prepared.monitor.owner, window.start, now)
            verdict = roll_up_sections(outcome.sections)
            values = self._run_values(prepared, window, moment, now) | {
                "verdict": str(verdict), "rows": outcome.rows, "seconds": outcome.seconds,
                "baseline": [[b.window.start.isoformat(), b.revision] for b in baseline],
                "contract_id": outcome.contract_id, "contract_version": outcome.contract_version,
                "contract_hash": outcome.contract_hash, "model_versions": outcome.model_versions,
                "fingerprint": outcome.fingerprint, "labelled": outcome.labelled, "labels_checked": now,
                "quality_state": (outcome.sections["quality"] or {}).get("state", ""), "sections": outcome.sections,
                "snapshot": outcome.snapshot, "plan": outcome.plan,
            }
            results = judged(prepared.monitor, outcome)
            _, revision = runs.insert_run(connection, values, results, outcome.violations)
            save = runs.save_profiles
            save(connection, name, prepared.binning_hash, "window", revision, [ProfiledWindow(window, outcome.rows, outcome.profile)])
            save(connection, name, prepared.binning_hash, "rollup", revision, outcome.days)
            for kind, body in (("quality", outcome.quality_counts), ("outputs", outcome.outputs), ("keys", outcome.keys)):
                if body is not None:
                    save(connection, name, prepared.binning_hash, kind, revision, [ProfiledWindow(window, outcome.rows, body)])
            if notify:
                self._follow(connection, prepared, window, now, labels=False)
                if outcome.sections["drift"]["state"] == "watch" and window.start >= prepared.settings.start:
                    Announcer(self.config, prepared).held_back(connection, window, outcome.sections["drift"], now)
        LOG.info(
            "window evaluated", monitor=name, window=iso(window.start), revision=revision, verdict=str(verdict), rows=outcome.rows,
            seconds=outcome.seconds,
        )
        if stored is None:
            self._day_again(prepared, window, notify)
        return str(verdict)

    def _day_again(self, prepared: Prepared, window: Window, notify: bool) -> None:
        """After a window has changed, decide its day anew, from the profiles, if it was decided already."""
        last = last_of_day(prepared, window)
        assert self.store is not None
        if last is None or last == window:
            return
        with self.store.read() as connection:
            run = runs.current_run(connection, prepared.monitor.name, last.start)
        if run is None or run.error:
            return
        try:
            self.evaluate(prepared.monitor.name, last, notify=notify, stored=self.stored(prepared, last))
        except PlanChanged:  # its profile does not answer today's rules: its rows do
            self.evaluate(prepared.monitor.name, last, notify=notify)

    def _run_values(self, prepared: Prepared, window: Window, moment: datetime, now: datetime) -> dict[str, Any]:
        return {
            "monitor": prepared.monitor.name, "start": window.start, "end": window.end, "as_of": moment, "evaluated_at": now,
            "config_hash": self.config.hashes.get(prepared.monitor.name, ""), "binning": prepared.binning_hash,
            "driftd_version": __version__, "quality_state": "", "error": "", "fingerprint": "", "contract_id": "",
            "contract_version": "", "contract_hash": "",
        }

    def _commit_error(self, prepared: Prepared, window: Window, message: str, notify: bool) -> str:
        assert self.store is not None
        name, now = prepared.monitor.name, self.clock.now()
        with self.store.write() as connection:
            self.fenced(connection, name)
            old = runs.current_run(connection, name, window.start)
            if old is not None and not old.error:
                return str(old.verdict)  # what is known stays; the revision is tried again
            attempts = old.attempts + 1 if old is not None else 1
            values = self._run_values(prepared, window, as_of(now, window, prepared.lateness), now) | {
                "verdict": "error", "rows": 0, "seconds": 0.0, "baseline": [], "model_versions": {},
                "sections": dict.fromkeys(SECTIONS), "error": message or "it failed", "retry_at": now + retry_wait(attempts),
            }
            reason = f"{iso(window.start)} could not be evaluated: {message}"
            runs.insert_run(connection, values, [RuleResult("service.error", "service", "warn", reason=reason)], [])
            if notify:
                self._follow(connection, prepared, window, now, labels=False)
        LOG.warning("window in error", monitor=name, window=iso(window.start), reason=message, attempts=attempts)
        return "error"

    def _follow(self, connection: Connection, prepared: Prepared, window: Window, now: datetime, *, labels: bool) -> None:
        if window.start >= prepared.settings.start:
            Announcer(self.config, prepared).follow(connection, Committed(window, now, labels, due=not labels))

    def relabel(self, name: str, window: Window, others: str | None = None) -> bool:
        """Count a window's labels again, and measure what lies in ``other`` tables where those have changed; a new revision of what is new."""
        assert self.store is not None
        prepared = self.prepare(name)
        now = self.clock.now()
        with self.store.read() as connection:
            old = runs.current_run(connection, name, window.start)
            if old is None or old.error:
                return False
            before = runs.results_of(connection, old.id)
            kept = [r for r in before if r.family != "quality" and r.rule != "service.labels"]
        section = old.sections.get("quality") or {}
        searched = "weakest" in section and section.get("state") == "final"
        measure = others is not None and others != (old.plan or {}).get("others")
        job = QualityJob(prepared.monitor, prepared.settings, prepared.key, window, now, prepared.binning, searched, measure)
        try:
            answer = renewed(old.sections.get("quality"), before, self.workers.run(job))
            quality = compared(self.store, prepared, self.workers, window, answer.section, answer.counts)
            answer = replace(answer, section=quality or answer.section)
        except (SourceError, WorkerError, DriftdError) as error:
            if isinstance(error, StoreError):
                raise
            LOG.warning("labels not counted", monitor=name, window=iso(window.start), reason=str(error))
            return False
        with self.store.write() as connection:
            self.fenced(connection, name)
            current = runs.current_run(connection, name, window.start)
            if current is None or current.id != old.id:
                return False
            if says_the_same(old.sections.get("quality"), answer.section):
                connection.execute(_touch(old, now, others))
                return False
            self._insert_relabelled(connection, prepared, old, kept, answer, now, others)
            self._follow(connection, prepared, window, now, labels=True)
        LOG.info(
            "labels counted", monitor=name, window=iso(window.start), labelled=round(answer.labelled, 3),
            state=answer.section["state"], verdict=answer.section["verdict"],
        )
        return True

    def _insert_relabelled(
        self, connection: Connection, prepared: Prepared, old: Row[Any], kept: list[RuleResult], answer: QualityAnswer, now: datetime,
        others: str | None,
    ) -> None:
        sections = {**old.sections, "quality": answer.section}
        copied = {
            key: getattr(old, key) for key in (
                "monitor", "start", "end", "rows", "seconds", "binning", "baseline", "contract_id", "contract_version",
                "contract_hash", "model_versions", "fingerprint", "as_of", "snapshot", "plan",
            )
        }
        copied["plan"] = with_others(old, others)
        values = copied | {
            "verdict": str(roll_up_sections(sections)), "evaluated_at": now, "config_hash": self.config.hashes.get(old.monitor, ""),
            "labelled": answer.labelled, "labels_checked": now, "quality_state": answer.section["state"],
            "driftd_version": __version__, "sections": sections, "error": "",
        }
        violations = (sections.get("contract") or {}).get("violations", [])
        limits: dict[str, dict[str, Any]] = {"quality": {n: limit.model_dump() for n, limit in prepared.monitor.quality.limits.items()}}
        named = defined(answer.results, limits)
        _, revision = runs.insert_run(connection, values, [*raised(kept, sections), *named], violations)
        counts = ProfiledWindow(Window(old.start, old.end), old.rows, answer.counts)
        runs.save_profiles(connection, old.monitor, old.binning, "quality", revision, [counts])

    # -- what a tick asks

    def due(self, prepared: Prepared) -> list[Window]:
        """The windows that are to be evaluated now, in order."""
        assert self.store is not None
        start = prepared.settings.start
        with self.store.read() as connection:
            newest = runs.newest_end(connection, prepared.monitor.name)
            if newest is not None:  # what retention has forgotten is not due again
                start = max(start, newest - self.config.retention.results)
            done = runs.evaluated_starts(connection, prepared.monitor.name, start)
        return due_windows(prepared.grid, start, prepared.end, prepared.lateness, self.clock.now(), done)

    def observe(self, prepared: Prepared) -> tuple[Observation, list[Window], list[Window]]:
        """Look at the source: what is newest, which closed windows changed, which windows' labels are to be counted."""
        assert self.store is not None
        monitor, now = prepared.monitor, self.clock.now()
        give_up = monitor.labels.give_up if monitor.labels else timedelta(0)
        horizon = now - max(monitor.window.revise, give_up + timedelta(days=1)) - 2 * timedelta(seconds=prepared.settings.size_seconds)
        with self.store.read() as connection:
            row = runs.settings_of(connection, monitor.name)
            recent = runs.recent_runs(connection, monitor.name, since=max(horizon, prepared.settings.start))
        evaluated = [r for r in reversed(recent) if not r.error]
        closed = {Window(r.start, r.end): r.fingerprint for r in evaluated if now - r.end <= monitor.window.revise}
        open_labels = [
            (Window(r.start, r.end), float(r.labelled), r.labels_checked) for r in evaluated
            if r.labelled is not None and monitor.labels is not None and now - r.end <= give_up + timedelta(days=1)
        ]
        job = ObserveJob(
            monitor, prepared.settings, tuple(closed), tuple(w for w, _, _ in open_labels), row.labels_seen if row else "", now
        )
        seen: Observation = self.workers.run(job)
        changed = [w for w, text in closed.items() if seen.fingerprints.get(w.start, text) != text]
        due = labels_due(open_labels, seen.labelled, now, give_up)
        known = {Window(r.start, r.end): (r.plan or {}).get("others") for r in evaluated}
        moved = [w for w in closed if seen.others.get(w.start, known[w]) != known[w]]
        return seen, changed, [*due, *(w for w in moved if w not in due)]

    def remember(self, prepared: Prepared, seen: Observation, silent: datetime | None) -> None:
        """Store what a look has found; a source that fell silent or spoke again is announced."""
        assert self.store is not None
        name, now = prepared.monitor.name, self.clock.now()
        labels = self._labels(prepared, seen, now)
        with self.store.write() as connection:
            row = runs.settings_of(connection, name)
            runs.update_monitor(
                connection, name, newest_event=seen.newest_event, newest_write=seen.newest_write, silent_since=silent,
                labels_seen=seen.labels_seen,
            )
            window, announcer = prepared.grid.at(seen.newest_event or now), Announcer(self.config, prepared)
            if row is not None and (row.silent_since is None) != (silent is None):
                over = prepared.end is not None and (now >= prepared.end or (seen.newest_event or now) >= prepared.end)
                announcer.silence(connection, window, now, silent, "nothing more is expected: the monitor has come to its end" if over else "events arrive again")
            for rule, why in labels.items():
                announcer.beside(connection, rule, window, now, why, "warn")

    def _labels(self, prepared: Prepared, seen: Observation, now: datetime) -> dict[str, str]:
        """By rule, what is wrong with how labels come; empty where nothing is, no entry where this look cannot know."""
        monitor = prepared.monitor
        if monitor.labels is None or self.store is None:
            return {}
        give_up = monitor.labels.give_up + timedelta(seconds=prepared.settings.size_seconds)
        with self.store.read() as connection:
            recent = [r for r in runs.recent_runs(connection, monitor.name, since=max(now - give_up, prepared.settings.start)) if not r.error]
            ended = prepared.end is not None and now > prepared.end + give_up
            why = "" if ended else late(connection, monitor, recent, seen, now)
        strange = unknown(seen)
        never = bool(recent) and not any(r.labelled or seen.labelled.get(r.start) for r in recent)
        found = {LABELS_LATE: f"{why}; {strange[1]}" if why and strange is not None and strange[0] > MOST_UNKNOWN else why}
        if strange is not None:  # that no label at all has a prediction is said for itself; else only beside labels that are late
            found[LABELS_UNKNOWN] = strange[1] if never and strange[0] > NEARLY_ALL else ""
        return found


def judged(monitor: MonitorConfig, outcome: Outcome) -> list[RuleResult]:
    """The results as they are kept: what something graver explains is inhibited, and every limit has its name."""
    data = outcome.sections.get("data") or {}
    broken = [f["column"] for f in data.get("findings", []) if f["kind"] in STRUCTURAL and f["column"]]
    limits: dict[str, dict[str, Any]] = {
        "quality": {name: limit.model_dump() for name, limit in monitor.quality.limits.items()},
        "service": {name: limit.model_dump() for name, limit in monitor.service.limits.items()},
    }
    return defined(inhibit([*outcome.results, RuleResult("service.error", "service", "pass")], broken), limits)


def with_others(old: Row[Any], others: str | None) -> dict[str, Any]:
    """A run's plan with the fingerprint of other tables as it is now."""
    return {**(old.plan or {}), **({"others": others} if others is not None else {})}


def _touch(old: Row[Any], now: datetime, others: str | None) -> Any:
    from monitor.store import tables

    return tables.run.update().where(tables.run.c.id == old.id).values(labels_checked=now, plan=with_others(old, others))


def roll_up_sections(sections: dict[str, Any]) -> Verdict:
    """The verdict of a window from its sections."""
    return roll_up(Verdict(s["verdict"]) for key, s in sections.items() if key in SECTIONS and s is not None)


def check_object(
    monitor: str, window: Window, moment: datetime, outcome: Outcome, binning: str, baseline: int,
) -> dict[str, Any]:
    """What ``driftd check --json`` prints."""
    sections = {key: outcome.sections.get(key) for key in SECTIONS}
    return {
        "monitor": monitor, "window": {"start": iso(window.start), "end": iso(window.end)}, "as_of": iso(moment),
        "verdict": str(roll_up_sections(sections)), "rows": outcome.rows, "model_versions": outcome.model_versions,
        "reference": binning, "baseline": baseline, "seconds": outcome.seconds, **sections,
    }


def error_object(monitor: str, window: Window, moment: datetime, message: str) -> dict[str, Any]:
    """The check object of a window that could not be evaluated."""
    return {
        "monitor": monitor, "window": {"start": iso(window.start), "end": iso(window.end)}, "as_of": iso(moment),
        "verdict": "error", "error": message, "rows": 0, "model_versions": {}, "reference": None, "baseline": 0, "seconds": 0.0,
        **dict.fromkeys(SECTIONS),
    }


__all__ = ["LeaseLost", "Pipeline", "check_object", "roll_up_sections"]
