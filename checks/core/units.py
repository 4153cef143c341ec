"""Conversions that a feed makes by mistake, and whether one of them explains a shift."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Conversion:
    """``factor`` and ``offset`` bring the present values back to the usual ones."""

    name: str
    factor: float
    offset: float


CONVERSIONS = tuple(Conversion(*parts) for parts in (
    ("degrees Celsius instead of Fahrenheit", 1.8, 32.0),
    ("degrees Fahrenheit instead of Celsius", 1 / 1.8, -32 / 1.8),
    ("1000 times smaller (as g for kg turned round, or s for ms)", 1000.0, 0.0),
    ("1000 times larger (as ms for s)", 0.001, 0.0),
    ("100 times smaller (a share instead of percent)", 100.0, 0.0),
    ("100 times larger (percent instead of a share)", 0.01, 0.0),
    ("miles instead of kilometres", 1.609344, 0.0),
    ("kilometres instead of miles", 1 / 1.609344, 0.0),
))


def explain(mean: float, scale: float, usual: float, typical: float, wobble: float) -> list[Conversion]:
    """The conversions that bring location and scale back to the usual ones.

    ``wobble`` is how far the mean of a normal window lies from ``usual``; scales may differ by a factor of three.
    """
    found = []
    for conversion in CONVERSIONS:
        back, back_scale = mean * conversion.factor + conversion.offset, scale * conversion.factor
        if abs(back - usual) <= 3 * wobble and 0.3 <= back_scale / max(typical, 1e-12) <= 3:
            found.append(conversion)
    return found


def likely(mean: float, scale: float, usual: float, typical: float, wobble: float) -> list[Conversion]:
    """The conversions that explain a shift, and not only allow it.

    What is as usual needs no explanation; the converted mean must lie at least twice as near, or the converted scale must
    be as usual where the present one is far from it.
    """
    found = []
    away, ratio = abs(mean - usual), scale / typical
    for conversion in explain(mean, scale, usual, typical, wobble):
        nearer = away > 2 * wobble and abs(mean * conversion.factor + conversion.offset - usual) <= away / 2
        scaled = not 0.4 < ratio < 2.5 and 0.5 <= ratio * conversion.factor <= 2
        if nearer or scaled:
            found.append(conversion)
    return found
