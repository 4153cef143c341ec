"""Contrasts of a column: linear in its counts, so that their sampling variance is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from checks.core.profile import ColumnBinning

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Contrast:
    """What one contrast is about.

    ``name`` is ``location``, ``spread``, ``bin``, ``category``, ``other`` or ``missing``; ``detail`` says which bin or
    category; ``unit`` is ``sd`` (normal scores under the reference) or ``share``.
    """

    column: str
    name: str
    detail: str
    unit: str


def normal_scores(reference: Floats) -> Floats:
    """Location and spread as scores per bin, orthonormal under the reference counts; shape (0..2, bins)."""
    shares = (reference + 0.5) / (reference + 0.5).sum()
    middle = np.clip(np.cumsum(shares) - shares / 2, 1e-4, 1 - 1e-4)
    base = ndtri(middle)
    basis = [np.ones_like(shares)]
    for degree in (1, 2):
        score = base**degree
        for earlier in basis:
            score = score - (shares * score * earlier).sum() * earlier
        size = float(np.sqrt((shares * score * score).sum()))
        if size < 1e-6:
            break
        basis.append(score / size)
    return np.array(basis[1:]).reshape(len(basis) - 1, len(shares))


def arcsine(count: Floats, total: Floats) -> Floats:
    """``2 asin sqrt((k + 3/8) / (m + 3/4))``, of variance ``1 / (m + 1/2)`` whatever the share (Anscombe 1948)."""
    angle: Floats = 2 * np.arcsin(np.sqrt(np.clip((count + 0.375) / (total + 0.75), 0.0, 1.0)))
    return angle


def column_contrasts(binning: ColumnBinning, layouts: Floats, reference: Floats) -> tuple[list[Contrast], Floats, Floats, Floats]:
    """The contrasts of one column in T windows.

    Parameters
    ----------
    layouts : (T, bins + 2), ``[bins.., other, missing]`` per window.
    reference : (bins,), the counts of the reference.

    Returns
    -------
    what each of C contrasts is about; their values (T, C); sampling variances (T, C); and the values in their ``unit``
    (T, C), which are what a reader is shown.
    """
    core, other, missing = layouts[:, :-2], layouts[:, -2:-1], layouts[:, -1:]
    rows = layouts.sum(1, keepdims=True)
    filled = core.sum(1, keepdims=True)
    solid = np.maximum(filled, 1.0)
    names: list[Contrast] = []
    values: list[Floats] = []
    variances: list[Floats] = []
    shown: list[Floats] = []

    def add(contrast: Contrast, value: Floats, variance: Floats, display: Floats) -> None:
        names.append(contrast)
        values.append(value.ravel())
        variances.append(variance.ravel())
        shown.append(display.ravel())

    if binning.kind == "numeric":
        scores = normal_scores(reference)
        for name, score in zip(("location", "spread"), scores, strict=False):
            value = core @ score[:, None] / solid
            add(Contrast(binning.name, name, "", "sd"), value, 1 / solid, value)
    elif binning.kind == "category":
        for index, category in enumerate(binning.categories):
            share = core[:, [index]]
            total = filled + other
            add(
                Contrast(binning.name, "category", category, "share"),
                arcsine(share, total), 1 / (total + 0.5), share / np.maximum(total, 1.0),
            )
    if binning.kind != "text":
        total = filled + other
        add(Contrast(binning.name, "other", "", "share"), arcsine(other, total), 1 / (total + 0.5), other / np.maximum(total, 1.0))
    add(Contrast(binning.name, "missing", "", "share"), arcsine(missing, rows), 1 / (rows + 0.5), missing / np.maximum(rows, 1.0))
    return names, np.array(values).T, np.array(variances).T, np.array(shown).T
