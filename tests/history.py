"""A store with 90 days of many monitors, for trying every listing on it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from checks.core.window import Window
from monitor.ports import RuleResult
from monitor.store import incidents, runs
from monitor.store.store import Store

START = datetime(2024, 1, 1, tzinfo=UTC)


def fill(store: Store, monitors: int = 50, days: int = 90) -> None:
    """Write ``days`` daily runs of ``monitors`` monitors, with an incident every 30 days."""
    for index in range(monitors):
        name = f"model-{index:02d}"
        with store.write() as connection:
            for day in range(days):
                window = Window(START + timedelta(days=day), START + timedelta(days=day + 1))
                verdict = "warn" if (day + index) % 30 == 0 else "pass"
                values = {
                    "monitor": name, "start": window.start, "end": window.end, "verdict": verdict, "rows": 1000 + day,
                    "as_of": window.end, "evaluated_at": window.end, "seconds": 0.05, "config_hash": "", "binning": "b",
                    "baseline": [], "contract_id": "", "contract_version": "", "contract_hash": "",
                    "model_versions": {"v1": 1000}, "fingerprint": "", "quality_state": "final", "driftd_version": "0",
                    "sections": {}, "error": "",
                }
                results = [RuleResult(f"contract.r{k}", "contract", verdict if k == 0 else "pass", n=1000) for k in range(5)]
                runs.insert_run(connection, values, results, [])
                if verdict == "warn":
                    incidents.create(
                        connection, monitor=name, family="contract", severity="warn", state="closed", headline="r0: 3 rows",
                        owner="ops", opened_at=window.end, closed_at=window.end + timedelta(days=1), reason="resolved",
                        first_window=window.start, last_window=window.start, closed_window=window.end, windows=1,
                        members=["contract.r0"], facts={"members": []}, hold_by="",
                    )
