"""What quality costs beside a scan, and what its estimates are worth on a year of flights.

``python -m tests.benchmarks.labels`` writes the table of docs/quality.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from checks.core.binning import Binning
from checks.core.window import Window
from checks.performance import METRICS
from checks.performance.counts import QualityCounts
from checks.performance.methods.estimate import Calibrator, expected_of, learn, uniform
from monitor.config.model import MonitorConfig
from monitor.demo import flights
from monitor.evaluation.quality import Question, judge_quality
from monitor.ports import Settings
from monitor.profiling.arrow import Executor
from monitor.profiling.plan import Plan
from monitor.profiling.quality import Asked, count_labels
from monitor.sources.parquet import ParquetConfig, ParquetSource
from tests.benchmarks.data import START

DOCS = Path(__file__).parents[2] / "docs" / "quality.md"
WINDOW = Window(START, START + timedelta(days=1))
TEN = ["accuracy", "precision", "recall", "f1", "specificity", "matthews", "roc_auc", "log_loss", "brier", "calibration"]
SHOWN = ("accuracy", "recall", "roc_auc", "log_loss")


def rows(folder: Path) -> None:
    """A million rows of 40 numbers and 10 categories with id, score and prediction, and their labels."""
    wide, path = folder / "wide1.parquet", folder / "predicted.parquet"
    if path.exists():
        return
    table = pq.read_table(wide)
    random = np.random.default_rng(3)
    score = random.random(table.num_rows)
    ids = pa.array([f"r{i:08d}" for i in range(table.num_rows)])
    table = table.append_column("id", ids).append_column("score", pa.array(score)).append_column("predicted", pa.array(score >= 0.5))
    for k in range(2):
        names = pa.array([f"s{i}" for i in range(10)])
        table = table.append_column(f"slice{k}", names.take(pa.array(random.integers(0, 10, table.num_rows))))
    order = random.permutation(table.num_rows)
    labels = pa.table({"id": ids.take(pa.array(order)), "label": pa.array((random.random(table.num_rows) < score)[order]), "known_at": table["at"].take(pa.array(order))})
    pq.write_table(labels, folder / "predicted-labels.parquet", compression="zstd")
    pq.write_table(table, path, compression="zstd")


def work_of(folder: Path, binning: Binning, *, quality: bool) -> Callable[[], Any]:
    """The scan of a run (score and class counts by slice, cross products), and quality of 20 slices by ten metrics beside it."""
    source = ParquetSource(ParquetConfig(path=str(folder / "predicted.parquet")))
    labels = ParquetSource(ParquetConfig(path=str(folder / "predicted-labels.parquet")))
    config = {
        "name": "m", "owner": "log", "source": {}, "labels": {"source": {}}, "columns": {"timestamp": "at", "id": "id", "score": "score", "prediction": "predicted"},
        "quality": {"metrics": TEN, "slices": ["slice0", "slice1"]},
    }
    monitor = MonitorConfig.model_validate(config, context={"source": lambda _: ParquetConfig(path=str(folder / "predicted.parquet"))})
    types = source.types()
    plan = Plan(binning, timestamp="at", cross=True, outputs=True, slices=(("slice0",), ("slice1",)) if quality else ())
    settings = Settings(86400.0, 0.0, types, START, START, START, "id", "label", "known_at")
    question = Question(monitor, settings, WINDOW, WINDOW.end + timedelta(days=30), binning=binning)

    def scan(window: Window) -> None:
        Executor(plan, types).scan(source.read(plan.columns(types), "at", window, plan.dictionaries))
        if quality:
            answer = judge_quality(Question(monitor, settings, window, question.now, binning=binning), source, labels, types)
            assert len(answer.section["metrics"]) == 10 * 21

    scan(Window(START, START + timedelta(minutes=30)))  # compiles
    return lambda: scan(WINDOW)


# -- estimates on the flights


def main() -> None:
    """Estimate every month of the flights from the demo's reference, and write what came of it."""
    table = flights.load()
    day_of = table["day"]
    model = flights.Model(table[(day_of >= flights.TRAIN_FROM) & (day_of < flights.TRAIN_TO)])
    reference = table[(day_of >= date(2013, 2, 16)) & (day_of < date(2013, 4, 16))]
    learned = learn([counts(model, rows) for _, rows in reference.groupby("day")])
    assert isinstance(learned, Calibrator)
    lines = [
        f"| month | rows | {' | '.join(f'{kind} realised | estimated' for kind in SHOWN)} |",
        "|---|---|" + "---|" * (2 * len(SHOWN)),
    ]
    for month in range(5, 13):
        rows = table[(day_of >= date(2013, month, 1)) & (day_of < (date(2013, month + 1, 1) if month < 12 else date(2014, 1, 1)))]
        lines.append(line(f"2013-{month:02d}", counts(model, rows), learned))
    october = table[day_of == date(2013, 10, 9)]
    lines.append(line("2013-10-09, scores of the wrong class", counts(model, october, bad=True), learned))
    text = DOCS.read_text()
    begin, end = "<!-- estimates -->\n", "<!-- /estimates -->"
    DOCS.write_text(re.sub(f"{begin}.*{end}", lambda _: begin + "\n".join(lines) + "\n" + end, text, flags=re.DOTALL))
    print("\n".join(lines), "isotonic" if learned.isotonic else "scores as they are", learned.gain)


def counts(model: flights.Model, rows: Any, *, bad: bool = False) -> QualityCounts:
    """The labelled counts of some flights."""
    known = rows[rows["late"].notna()]
    score = model.score(known, bad=bad)
    ids = np.arange(len(known))
    tables = pa.table({"id": ids, "score": score}), pa.table({"id": ids, "label": known["late"].astype(bool).to_numpy()})
    return count_labels(*tables, Asked("binary", "id", "id", "label", score="score", now=datetime.now(UTC))).slices["ALL"]


def line(name: str, found: QualityCounts, learned: Calibrator) -> str:
    """One line of the table."""
    positive, negative, _ = uniform(found)
    guess = expected_of(positive + negative, None, learned)
    cells = [f"{METRICS[kind](found).value:.3f} | {METRICS[kind](guess).value:.3f}" for kind in SHOWN]
    return f"| {name} | {found.rows:,} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
