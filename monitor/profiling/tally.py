"""Compiled passes over joined rows: sums by slice, one pass for all slices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from checks.performance.counts import CLIP, GRADES, STEEP
from monitor.profiling.kernel import compiled


@compiled
def tally_binary(labels: Any, predicted: Any, scores: Any, weights: Any, codes: Any, starts: Any, sums: Any, rows: Any, grids: Any) -> None:
    """Adds each row to slice ``starts[k] + codes[k, i]`` of every cut k, in the order of `SUMS` of a binary task.

    Labels and predictions are 1, 0, or -1 for unknown; ``scores`` may be empty. ``grids`` are (slice, 3, bin): weights of
    positives and of negatives, and the scores.
    """
    scored = len(scores) > 0
    for i in range(len(labels)):
        y, p, w = labels[i], predicted[i], weights[i]
        if y < 0:
            continue
        usable, place, s = False, np.int64(0), 0.0
        residual, loss = 0.0, 0.0
        if scored:
            s = scores[i]
            usable = s >= 0.0 and s <= 1.0
            if usable:
                inner = min(max(s, CLIP), 1.0 - CLIP)
                logit = min(max(math.log(inner / (1.0 - inner)), -STEEP), STEEP)
                place = min(np.int64((0.5 * s + 0.25 * (logit / STEEP + 1.0)) * GRADES), np.int64(GRADES - 1))
                residual = (y - s) ** 2
                chance = s if y == 1 else 1.0 - s
                loss = -math.log(min(max(chance, CLIP), 1.0 - CLIP))
        for k in range(codes.shape[0]):
            slot = starts[k] + codes[k, i]
            total = sums[slot]
            if p >= 0:
                rows[slot] += 1
                total[0] += w
                total[1] += w * w
                total[2 + 2 * p + y] += w
            if scored:
                if usable:
                    total[6] += w
                    total[8] += w * s
                    total[9] += w * y
                    total[10] += w * residual
                    total[11] += w * residual * residual
                    total[12] += w * loss
                    total[13] += w * loss * loss
                    total[14] += w * loss * loss * loss
                    grids[slot, 1 - y, place] += w
                    grids[slot, 2, place] += w * s
                else:
                    total[7] += w


@compiled
def tally_regression(errors: Any, targets: Any, weights: Any, codes: Any, starts: Any, sums: Any, rows: Any) -> None:
    """Adds each row with a finite error to its slices, in the order of `SUMS` of a regression."""
    for i in range(len(errors)):
        e, y, w = errors[i], targets[i], weights[i]
        if not (abs(e) <= 1.7976931348623157e308):
            continue
        square, size = e * e, abs(e)
        share = size / abs(y) if y != 0.0 else 0.0
        for k in range(codes.shape[0]):
            slot = starts[k] + codes[k, i]
            total = sums[slot]
            rows[slot] += 1
            total[0] += w
            total[1] += w * w
            total[2] += w * e
            total[3] += w * size
            total[4] += w * size * square
            total[5] += w * square
            total[6] += w * square * square
            total[7] += w * y
            total[8] += w * y * y
            total[9] += w * y * y * y
            total[10] += w * y * y * y * y
            total[11] += w * square * y
            total[12] += w * square * y * y
            total[13] += w * share
            total[14] += w * share * share
            if y == 0.0:
                total[15] += w


@compiled
def tally_classes(cells: Any, hits: Any, weights: Any, codes: Any, starts: Any, sums: Any, rows: Any, matrices: Any) -> None:
    """Adds each row to its slices: weight, its square, hits; and to the cell of (label, prediction). Cell -1 is unknown."""
    for i in range(len(cells)):
        if cells[i] < 0:
            continue
        w = weights[i]
        for k in range(codes.shape[0]):
            slot = starts[k] + codes[k, i]
            rows[slot] += 1
            sums[slot, 0] += w
            sums[slot, 1] += w * w
            sums[slot, 2] += w * hits[i]
            matrices[slot, cells[i]] += w


@compiled
def tally_values(values: Any, weights: Any, codes: Any, starts: Any, sums: Any) -> None:
    """Adds each finite value to its slices: weight, value, its square, its cube, and one row; rows without one to the last place."""
    for i in range(len(values)):
        v, w = values[i], weights[i]
        finite = abs(v) <= 1.7976931348623157e308
        for k in range(codes.shape[0]):
            total = sums[starts[k] + codes[k, i]]
            if finite:
                total[0] += w
                total[1] += w * v
                total[2] += w * v * v
                total[3] += w * v * v * v
                total[4] += w * w
                total[5] += 1
            else:
                total[6] += 1
