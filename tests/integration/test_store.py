"""The store on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from checks.core.errors import StoreError
from checks.core.window import Window
from monitor.ports import ProfiledWindow, RuleResult
from monitor.store import incidents, outbox, runs, tables
from monitor.store.engine import HEAD, open_engine
from monitor.store.migrate import back_up, head, upgrade
from monitor.store.store import Store, holds_lease, release_lease, take_lease
from tests.history import fill

NOW = datetime(2024, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def add_incident(store: Store) -> int:
    with store.write() as connection:
        return incidents.create(
            connection, monitor="m", family="data", severity="fail", state="open", headline="h", owner="o", opened_at=NOW, reason="",
            first_window=NOW, last_window=NOW, windows=1, members=[], facts={}, hold_by="",
        )


def add_message(store: Store, incident: int, sequence: int, destination: str = "log") -> None:
    with store.write() as connection:
        outbox.add(connection, incident=incident, sequence=sequence, destination=destination, kind="alert", payload={"n": sequence}, text="t", now=NOW)


def test_the_migrations_make_exactly_the_tables_that_the_code_uses(store: Store) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    assert head(store.engine) == HEAD
    with store.engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), tables.metadata)
    assert found == []


def test_a_newer_schema_is_refused_and_an_older_one_names_the_command(store: Store) -> None:
    for version, words in (("9999", "install a newer one"), ("0000", "run driftd migrate")):
        with store.write() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = :v"), {"v": version})
        with pytest.raises(StoreError, match=words):
            Store(str(store.engine.url.render_as_string(hide_password=False)), store.engine)


def test_a_window_has_one_current_run_and_an_error_is_replaced_by_its_retry(store: Store) -> None:
    base = {
        "monitor": "m", "start": NOW, "end": NOW + timedelta(days=1), "rows": 1, "as_of": NOW, "evaluated_at": NOW, "seconds": 0.1,
        "config_hash": "", "binning": None, "baseline": [], "contract_id": "", "contract_version": "", "contract_hash": "",
        "model_versions": {}, "fingerprint": "", "quality_state": "", "driftd_version": "0", "sections": {}, "error": "",
    }
    revisions = []
    unread = "the source could not be read"
    for verdict, why in (("error", unread), ("error", unread), ("pass", ""), ("error", ""), ("fail", "")):
        with store.write() as connection:
            revisions.append(runs.insert_run(connection, base | {"verdict": verdict, "error": why}, [RuleResult("r", "data", "pass")], [])[1])
    assert revisions == [1, 1, 1, 2, 3], "a run with one rule in error is complete: only one that failed as a whole is replaced"
    with store.read() as connection:
        current = runs.current_run(connection, "m", NOW)
        assert current is not None
        assert (current.verdict, current.revision) == ("fail", 3)
        assert len(runs.recent_runs(connection, "m")) == 1


def test_a_baseline_takes_the_newest_revision_and_leaves_incidents_out(store: Store) -> None:
    windows = [Window(NOW + timedelta(days=i), NOW + timedelta(days=i + 1)) for i in range(6)]
    with store.write() as connection:
        runs.save_profiles(connection, "m", "b", "reference", 0, [ProfiledWindow(w, 10, b"old") for w in windows[:3]])
        runs.save_profiles(connection, "m", "b", "window", 1, [ProfiledWindow(w, 10, b"one") for w in windows[2:5]])
        runs.save_profiles(connection, "m", "b", "window", 2, [ProfiledWindow(windows[4], 0, b"empty")])
    with store.read() as connection:
        found = runs.baseline(connection, "m", "b", windows[5].start, 10, [(windows[1].start, windows[2].start)])
    assert [(b.window, b.profile) for b in found][:2] == [(windows[0], b"old"), (windows[2], b"one")]
    assert windows[1] not in [b.window for b in found]


def test_a_lease_is_held_by_one_and_a_lost_one_is_fenced(store: Store) -> None:
    with store.write() as connection:
        assert take_lease(connection, "monitor/m", "a", NOW, MINUTE) == 1
    with store.write() as connection:
        assert take_lease(connection, "monitor/m", "b", NOW, MINUTE) is None
        assert take_lease(connection, "monitor/m", "a", NOW + MINUTE / 2, MINUTE) == 1
    with store.write() as connection:
        assert take_lease(connection, "monitor/m", "b", NOW + 3 * MINUTE, MINUTE) == 2
        assert not holds_lease(connection, "monitor/m", "a", 1)
        assert holds_lease(connection, "monitor/m", "b", 2)
    with store.write() as connection:
        release_lease(connection, "monitor/m", "b")
    with store.write() as connection:
        assert take_lease(connection, "monitor/m", "a", NOW + 3 * MINUTE, MINUTE) == 3


def test_only_the_head_of_an_order_key_is_claimed_and_a_lost_lease_is_taken_over(store: Store) -> None:
    incident = add_incident(store)
    for sequence in (1, 2):
        add_message(store, incident, sequence)
        add_message(store, incident, sequence, "other")
    with store.write() as connection:
        first = outbox.claim(connection, "a", NOW, MINUTE, ("alert",))
    assert sorted((r.destination, r.sequence) for r in first) == [("log", 1), ("other", 1)]
    with store.write() as connection:
        assert outbox.claim(connection, "b", NOW, MINUTE, ("alert",)) == []
        taken = outbox.claim(connection, "b", NOW + 2 * MINUTE, MINUTE, ("alert",))
    assert len(taken) == 2
    with store.write() as connection:
        assert not outbox.record(connection, first[0], NOW, state=outbox.SENT, outcome="sent"), "the old lease must be fenced"
        assert all(outbox.record(connection, row, NOW, state=outbox.SENT, outcome="sent") for row in taken)
        assert sorted(r.sequence for r in outbox.claim(connection, "b", NOW, MINUTE, ("alert",))) == [2, 2]


def test_a_message_of_an_incident_is_decided_once(store: Store) -> None:
    from sqlalchemy.exc import IntegrityError

    incident = add_incident(store)
    add_message(store, incident, 1)
    with pytest.raises(IntegrityError):
        add_message(store, incident, 1)


def test_the_key_of_private_texts_is_made_once(store: Store) -> None:
    assert store.key() == store.key()
    assert len(store.key()) == 32


def test_every_listing_works_on_ninety_days_of_fifty_monitors(store: Store) -> None:
    from monitor.web.overview import incident_rows, run_rows

    fill(store)
    assert len(run_rows(store, None, 5000)) == 4500
    assert [r["window"]["start"] for r in run_rows(store, "model-07", 2)] == ["2024-03-30T00:00:00Z", "2024-03-29T00:00:00Z"]
    assert len(incident_rows(store)) == 150
    with store.write() as connection:
        runs.prune(connection, timedelta(days=10), timedelta(days=10))
        assert len(runs.recent_runs(connection, "model-00")) == 11


def test_a_back_up_is_a_whole_store(sqlite: Store) -> None:
    incident = add_incident(sqlite)
    copy = back_up(sqlite.engine, NOW)
    assert copy is not None
    with Store(f"sqlite:///{copy}").read() as connection:
        assert incidents.get(connection, incident).headline == "h"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql+psycopg://user:hunter2@127.0.0.1:1/db", "cannot be opened"), ("mysql://x/y", "allowed are"), ("nonsense", "store"),
        ("sqlite:////proc/none/store.db", "store"),
    ],
)
def test_a_store_that_cannot_be_used_says_why_without_its_password(url: str, words: str) -> None:
    with pytest.raises(StoreError, match=words) as caught:
        Store(url)
    assert "hunter2" not in str(caught.value)


def test_a_corrupt_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError, match="cannot be opened"):
        Store(f"sqlite:///{path}")
    assert open_engine(f"sqlite:///{path}")


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_store_of_the_first_schema_is_brought_up_with_its_rows(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = request.getfixturevalue("postgres") if kind == "postgres" else f"sqlite:///{tmp_path}/old.db"
    engine = open_engine(url)
    upgrade(engine, "0001")
    old = {
        "monitor": "m", "start": 0, "end": 1, "revision": 1, "current": True, "verdict": "pass", "rows": 5, "as_of": 1, "evaluated_at": 1,
        "seconds": 0.1, "config_hash": "", "baseline": "[]", "contract_id": "", "contract_version": "", "contract_hash": "",
        "model_versions": "{}", "fingerprint": "", "quality_state": "", "driftd_version": "0", "sections": "{}", "attempts": 1, "error": "",
    }
    with engine.connect() as connection:
        connection.execute(sa.text(f"INSERT INTO run ({', '.join(f'{chr(34)}{k}{chr(34)}' for k in old)}) VALUES ({', '.join(':' + k for k in old)})"), old)
        connection.execute(sa.text("INSERT INTO result (run_id, rule, family, verdict, n, state, cleared, reason) VALUES (1, 'r', 'drift', 'pass', 1, '', true, '')"))
        connection.commit()
    with pytest.raises(StoreError, match="run driftd migrate"):
        Store(url)
    upgrade(engine)
    engine.dispose()
    store = Store(url)
    with store.read() as connection:
        run = runs.current_run(connection, "m", tables.EPOCH)
        assert run is not None
        assert (run.rows, run.snapshot, run.plan) == (5, "", {})
        assert [r.rule for r in runs.results_of(connection, run.id)] == ["r"]
    store.close()
