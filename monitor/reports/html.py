"""Rendering a report: one HTML file without scripts and without requests to anywhere."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from checks.core.profile import Binning, Profile
from monitor.reports import svg

TEMPLATES = Path(__file__).parent / "templates"
MOST_SLICES = 80


def render(
    view: dict[str, Any], binning: Binning, profile: Profile | None, reference: Profile, baseline: Sequence[Profile],
    normal: Sequence[float] = (),
) -> str:
    """The report's HTML; ``normal`` are the p-values of the baseline's own windows."""
    columns = [_column(binning, name, profile, reference, view) for name in profile.columns] if profile is not None else []
    columns.sort(key=lambda c: (-c["drives"], c["name"]))
    quality = (view["sections"] or {}).get("quality") or {}
    rows = quality.get("metrics", [])
    realised = [row for row in rows if not row["estimated"] and not row.get("fairness")]
    slices = [row for row in realised if row["slice"] != "ALL"]
    real = {row["metric"]: row for row in realised if row["slice"] == "ALL"}
    order = {"fail": 0, "error": 1, "warn": 2}
    by_name: dict[str, dict[str, Any]] = {}
    for row in slices:
        by_name.setdefault(row["slice"], {})[row["metric"]] = row
    gravest = {name: min(order.get(r["verdict"], 3) for r in found.values()) for name, found in by_name.items()}
    names = sorted(by_name, key=lambda name: gravest[name])  # the gravest first, else as configured
    kinds = list(dict.fromkeys(row["metric"] for row in slices if row["metric"] != "rows"))
    return _environment().get_template("report.html").render(
        view=view, columns=columns, strip=svg.strip(view["history"]), slices=[(name, by_name[name]) for name in names[:MOST_SLICES]], kinds=kinds,
        more_slices=max(len(names) - MOST_SLICES, 0), breaches=[r for r in realised if r["verdict"] in ("fail", "warn", "error")],
        charts=[(rule, svg.line(points, rule)) for rule, points in view["metrics"].items()],
        calibration=svg.p_values(normal, view["calibration"]["p_values"]),
        whole=[row for row in realised if row["slice"] == "ALL"], fairness=[row for row in rows if row.get("fairness")],
        both=[(row["metric"], real.get(row["metric"]), row) for row in rows if row["estimated"] and row["slice"] == "ALL"],
    )


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined, auto_reload=False,
    )
    environment.filters["figure"] = _figure
    environment.filters["amount"] = lambda value: "–" if value is None else f"{value:,.7g}"
    environment.filters["percent"] = lambda value: "" if value is None else f"{value:.1%}"
    return environment


def _figure(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _column(binning: Binning, name: str, profile: Profile, reference: Profile, view: dict[str, Any]) -> dict[str, Any]:
    drift = (view["sections"] or {}).get("drift") or {}
    column, now, then = binning[name], profile.columns[name], reference.columns[name]
    drivers = [d for d in drift.get("drivers", []) if d["column"] == name]
    return {
        "name": name, "kind": column.kind, "role": column.role, "drives": abs(drivers[0]["z"]) if drivers else 0.0,
        "driver": drivers[0] if drivers else None, "chart": svg.histogram(column, then, now),
        "mean": now.mean() if column.kind == "numeric" else None, "usual": then.mean() if column.kind == "numeric" else None,
        "missing": now.missing / profile.rows if profile.rows else None,
        "statistics": [s for s in drift.get("statistics", []) if s["column"] == name],
    }
