"""Small charts as SVG text, drawn on the server."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from checks.core.profile import ColumnBinning, ColumnProfile

WIDTH, HEIGHT = 340, 120
GRID = 30


def _frame(body: str, title: str, width: int = WIDTH, height: int = HEIGHT) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{body}</svg>"
    )


def _spread(binning: ColumnBinning, profile: ColumnProfile, low: float, high: float) -> NDArray[np.float64]:
    """The bins' shares spread over a grid of equal steps; each bin lies evenly between its ends."""
    edges = np.asarray(binning.edges, np.float64)
    starts = np.r_[min(low, edges[0]), edges]
    ends = np.r_[edges, max(high, edges[-1])]
    steps = np.linspace(low, high, GRID + 1)
    shares = profile.counts / max(profile.filled, 1)
    grid = np.zeros(GRID)
    for start, end, share in zip(starts, ends, shares, strict=True):
        if not share:
            continue
        width = end - start
        if width <= (high - low) / 1e9:
            grid[min(max(int((start - low) / (high - low) * GRID), 0), GRID - 1)] += share
            continue
        grid += share * np.clip(np.minimum(steps[1:], end) - np.maximum(steps[:-1], start), 0, None) / width
    return grid


def histogram(binning: ColumnBinning, reference: ColumnProfile, current: ColumnProfile) -> str:
    """Reference (grey) and current (blue) laid over each other."""
    title = f"{binning.name}: reference and this window"
    if binning.kind == "numeric":
        if len(binning.edges) < 2 or not reference.filled:
            return ""
        low, high = binning.edges[0], binning.edges[-1]
        if current.filled:
            low, high = min(low, current.minimum), max(high, current.maximum)
        if not np.isfinite([low, high]).all() or high <= low:
            return ""
        left, right = (_spread(binning, p, low, high) for p in (reference, current))
        labels = [f"{low:.4g}", f"{high:.4g}"]
    else:
        order = np.argsort(-(reference.counts + current.counts), kind="stable")[:12]
        if not len(order):
            return ""
        total = [max(int(p.layout().sum()), 1) for p in (reference, current)]
        left = np.r_[reference.counts[order], reference.other, reference.missing] / total[0]
        right = np.r_[current.counts[order], current.other, current.missing] / total[1]
        labels = [("#…" if binning.categories[i].startswith("#") else binning.categories[i][:6]) for i in order] + ["other", "null"]
    peak = max(float(left.max()), float(right.max()), 1e-9)
    step = WIDTH / len(left)
    bars = []
    for index, (a, b) in enumerate(zip(left, right, strict=True)):
        x = index * step
        for value, colour, inset in ((a, "#b8bfc7", 0.0), (b, "#2468b4", 0.22)):
            height = (HEIGHT - 22) * float(value) / peak
            bars.append(
                f'<rect x="{x + step * inset:.1f}" y="{HEIGHT - 16 - height:.1f}" width="{step * (0.9 - 2 * inset):.1f}" '
                f'height="{height:.1f}" fill="{colour}" fill-opacity="0.85"/>'
            )
    if binning.kind == "numeric":
        texts = f'<text x="0" y="{HEIGHT - 3}">{labels[0]}</text><text x="{WIDTH}" y="{HEIGHT - 3}" text-anchor="end">{labels[1]}</text>'
    else:
        texts = "".join(
            f'<text x="{(i + 0.45) * step:.1f}" y="{HEIGHT - 3}" text-anchor="middle">{escape(label)}</text>'
            for i, label in enumerate(labels)
        )
    return _frame("".join(bars) + texts, title)


VERDICT_COLOURS = {
    "pass": "#2e8540", "warn": "#d9822b", "fail": "#c0322b", "error": "#6b4c9a", "no_data": "#8a8f98", "insufficient": "#c7ccd1",
    "inhibited": "#8a8f98",
}


def strip(history: Sequence[Sequence[object]]) -> str:
    """One box a window, coloured by verdict."""
    if not history:
        return ""
    step = min(14.0, 860 / len(history))
    boxes = "".join(
        f'<rect x="{i * step:.1f}" y="2" width="{max(step - 1.5, 1):.1f}" height="22" fill="{VERDICT_COLOURS[str(verdict)]}">'
        f"<title>{escape(str(start))}: {escape(str(verdict))}, {rows} rows</title></rect>"
        for i, (start, verdict, rows) in enumerate(history)
    )
    return _frame(boxes, "verdicts of the last windows", 870, 28)


def line(points: Sequence[Sequence[object]], title: str) -> str:
    """A metric with its interval over the windows."""
    values = [[float(p[k]) if p[k] is not None else float(p[1]) for k in (1, 2, 3)] for p in points]  # type: ignore[arg-type]
    if len(values) < 2:
        return ""
    low, high = min(v[1] for v in values), max(v[2] for v in values)
    span = max(high - low, 1e-9)
    step = 860 / (len(values) - 1)

    def y(value: float) -> float:
        return 8 + (HEIGHT - 28) * (1 - (value - low) / span)

    area = " ".join(f"{i * step:.1f},{y(v[2]):.1f}" for i, v in enumerate(values))
    area += " " + " ".join(f"{i * step:.1f},{y(v[1]):.1f}" for i, v in reversed(list(enumerate(values))))
    path = " ".join(f"{i * step:.1f},{y(v[0]):.1f}" for i, v in enumerate(values))
    body = (
        f'<polygon points="{area}" fill="#2468b4" fill-opacity="0.15"/><polyline points="{path}" fill="none" stroke="#2468b4" stroke-width="1.6"/>'
        f'<text x="0" y="{HEIGHT - 3}">{escape(str(points[0][0])[:10])}</text><text x="865" y="{HEIGHT - 3}" text-anchor="end">'
        f'{escape(str(points[-1][0])[:10])}</text><text x="865" y="12" text-anchor="end">{high:.3g}</text>'
        f'<text x="865" y="{HEIGHT - 18}" text-anchor="end">{low:.3g}</text>'
    )
    return _frame(body, title, 870)


P_BINS = 20


def p_values(reference: Sequence[float], since: Sequence[float]) -> str:
    """Histograms of p-values: the baseline's own (grey) and those of the windows since (blue), and what no drift would give."""
    if not len(reference) or not since:
        return ""
    edges = np.linspace(0.0, 1.0, P_BINS + 1)
    shares = [np.histogram(np.clip(values, 0.0, 1.0), edges)[0] / len(values) for values in (reference, since)]
    peak = max(float(shares[0].max()), float(shares[1].max()), 2 / P_BINS)
    step, floor = 860 / P_BINS, HEIGHT - 16
    bars = []
    for index in range(P_BINS):
        for share, colour, inset in zip(shares, ("#b8bfc7", "#2468b4"), (0.0, 0.25), strict=True):
            height = (HEIGHT - 26) * float(share[index]) / peak
            bars.append(
                f'<rect x="{index * step + step * inset:.1f}" y="{floor - height:.1f}" width="{step * (0.92 - 2 * inset):.1f}" '
                f'height="{height:.1f}" fill="{colour}" fill-opacity="0.85"/>'
            )
    level = floor - (HEIGHT - 26) / P_BINS / peak
    body = (
        "".join(bars) + f'<line x1="0" x2="860" y1="{level:.1f}" y2="{level:.1f}" stroke="#c0322b" stroke-dasharray="4 3"/>'
        f'<text x="0" y="{HEIGHT - 3}">p = 0</text><text x="860" y="{HEIGHT - 3}" text-anchor="end">1</text>'
    )
    return _frame(body, "p-values of the baseline and since", 870)
