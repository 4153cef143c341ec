"""Streams of windows whose truth is known, as rows: seven kinds of quiet life and the faults that are planted in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Numbers = NDArray[np.float32]

NUMBERS, CATEGORIES = 12, 8
WOBBLE = 0.1
"""Standard deviation of a column's mean between windows, in units of its rows' standard deviation."""
CARRY = 0.7
"""Autocorrelation of that wobble from one daily window to the next."""
SLOPE = 0.005
"""Largest trend a window, in standard deviations: 0.28 over a baseline of 56 windows."""
HOLIDAYS = 11


@dataclass(frozen=True)
class Regime:
    """A kind of quiet life.

    ``weekday`` moves weekends (hourly: nights, too) by up to that many standard deviations; ``wobble`` and ``carry`` are the
    size and the autocorrelation of what varies between windows; ``slope`` a steady trend; ``holidays`` whether some days
    look like weekends; ``per_day`` the windows of a day.
    """

    name: str
    weekday: float = 0.0
    wobble: float = 0.0
    carry: float = 0.0
    slope: float = 0.0
    holidays: bool = False
    per_day: int = 1


REGIMES = (
    Regime("independent"),
    Regime("weekday", weekday=0.8),
    Regime("autocorrelated", wobble=WOBBLE, carry=CARRY),
    Regime("weekday + autocorrelated", weekday=0.8, wobble=WOBBLE, carry=CARRY),
    Regime("level trend", weekday=0.8, wobble=WOBBLE, carry=CARRY, slope=SLOPE),
    Regime("holidays", weekday=0.8, wobble=WOBBLE, carry=CARRY, holidays=True),
    Regime("hourly", weekday=0.8, wobble=WOBBLE, carry=0.9, per_day=24),
)


@dataclass
class Window:
    """The rows of one window: ``numbers`` (n, 12), NaN where null; ``codes`` (n, 8), -1 where null, a new category above all."""

    numbers: Numbers
    codes: NDArray[np.int16]


Fault = Callable[["Life", Window, int, int], Window]


@dataclass
class Life:
    """A monitor's windows under a regime; the same seed gives the same life.

    The columns ``x0`` to ``x3`` share a factor, so that they are correlated; ``x8`` to ``x10`` are heavy-tailed, ``x11`` has
    an atom at zero. Categories have 3 to 12 values of unequal shares.
    """

    regime: Regime
    rows: int
    seed: int
    windows: int
    fault: Fault | None = None
    first: int = 1 << 30
    drawn: dict[int, Window] = field(default_factory=dict)

    def __post_init__(self) -> None:
        random = np.random.default_rng([self.seed, 7])
        regime, count = self.regime, NUMBERS + CATEGORIES
        self.season = regime.weekday * random.uniform(-1, 1, count)
        self.hour = 0.5 * self.season * random.uniform(0.3, 1, count)
        self.trend = regime.slope * random.uniform(-1, 1, count)
        shocks = random.normal(size=(self.windows + 200, count))
        state, walk = np.zeros(count), np.empty((self.windows, count))
        for index in range(self.windows + 200):
            state = regime.carry * state + np.sqrt(1 - regime.carry**2) * shocks[index]
            if index >= 200:
                walk[index - 200] = regime.wobble * state
        self.walk = walk
        sizes = random.integers(3, 13, CATEGORIES)
        self.logits = [np.log(random.dirichlet(np.full(k, 2.0)) + 0.02) for k in sizes]
        self.pull = [random.normal(size=k) for k in sizes]
        days = self.windows // regime.per_day + 1
        self.holidays = np.zeros(days, bool)
        if regime.holidays:
            weekdays = [d for d in range(days) if d % 7 < 5]
            chosen = random.choice(weekdays, max(round(HOLIDAYS * days / 365), 1), replace=False)
            self.holidays[chosen] = True

    def key(self, index: int) -> int:
        """The season key that driftd would be given: weekday (holidays as Sundays), or hour of the week."""
        day, hour = divmod(index, self.regime.per_day)
        weekday = 6 if self.holidays[day] else day % 7
        return weekday * self.regime.per_day + hour

    def level(self, index: int) -> Floats:
        """The mean of every column in a window, in standard deviations."""
        day, hour = divmod(index, self.regime.per_day)
        free = day % 7 >= 5 or bool(self.holidays[day])
        level = self.walk[index] + self.trend * index + (self.season if free else 0.0)
        if self.regime.per_day > 1:
            level = level + self.hour * np.sin(2 * np.pi * hour / self.regime.per_day)
        return np.asarray(level)

    def window(self, index: int) -> Window:
        """The rows of a window."""
        random = np.random.default_rng([self.seed, 11, index])
        level, rows = self.level(index), self.rows
        base = random.standard_normal((rows, NUMBERS), np.float32)
        factor = random.standard_normal((rows, 1), np.float32)
        base[:, :4] = np.sqrt(0.5) * base[:, :4] + np.sqrt(0.5) * factor
        base += level[:NUMBERS].astype(np.float32)
        codes = np.empty((rows, CATEGORIES), np.int16)
        for j in range(CATEGORIES):
            weights = np.exp(self.logits[j] + level[NUMBERS + j] * self.pull[j])
            bounds = np.cumsum(weights / weights.sum())
            codes[:, j] = np.searchsorted(bounds[:-1], random.random(rows), side="right")
        found = Window(base, codes)
        if self.fault is not None and index >= self.first:
            found = self.fault(self, found, index - self.first, int(random.integers(1 << 30)))
        found.numbers[:, 8:11] = np.exp(found.numbers[:, 8:11])
        found.numbers[:, 11] = np.where(found.numbers[:, 11] < 0, np.float32(0), found.numbers[:, 11])
        return found


def _column(seed: int) -> int:
    return seed % 8  # the columns whose rows are normal


def shifted(by: float) -> Fault:
    """One column's mean moves by so many standard deviations."""

    def fault(life: Life, window: Window, since: int, seed: int) -> Window:
        window.numbers[:, _column(life.seed)] += np.float32(by)
        return window

    return fault


def spread(life: Life, window: Window, since: int, seed: int) -> Window:
    """One column's standard deviation grows by half."""
    j = _column(life.seed)
    mean = window.numbers[:, j].mean()
    window.numbers[:, j] = mean + 1.5 * (window.numbers[:, j] - mean)
    return window


def mix(life: Life, window: Window, since: int, seed: int) -> Window:
    """Ten points of one category's rows go to another."""
    random, j = np.random.default_rng(seed), life.seed % CATEGORIES
    counts = np.bincount(window.codes[:, j].clip(0), minlength=len(life.logits[j]))
    largest, other = int(counts.argmax()), int(np.argsort(counts)[-2])
    places = np.flatnonzero(window.codes[:, j] == largest)
    moved = random.choice(places, min(len(window.codes) // 10, len(places)), replace=False)
    window.codes[moved, j] = other
    return window


def new_category(life: Life, window: Window, since: int, seed: int) -> Window:
    """Two percent of one column's rows hold a category never seen."""
    chosen = np.random.default_rng(seed).random(len(window.codes)) < 0.02
    window.codes[chosen, life.seed % CATEGORIES] = 99
    return window


def more_nulls(life: Life, window: Window, since: int, seed: int) -> Window:
    """Five percent of one column's rows turn null."""
    chosen = np.random.default_rng(seed).random(len(window.numbers)) < 0.05
    window.numbers[chosen, _column(life.seed)] = np.nan
    return window


def unit(life: Life, window: Window, since: int, seed: int) -> Window:
    """One column is logged as 1.8 x + 32."""
    window.numbers[:, _column(life.seed)] = window.numbers[:, _column(life.seed)] * np.float32(1.8) + np.float32(32)
    return window


def uncorrelated(life: Life, window: Window, since: int, seed: int) -> Window:
    """One column keeps its distribution and loses its correlation of 0.5 with three others."""
    j = life.seed % 4
    window.numbers[:, j] = np.random.default_rng(seed).permutation(window.numbers[:, j])
    return window


def gradual(life: Life, window: Window, since: int, seed: int) -> Window:
    """One column's mean moves by one standard deviation in 20 windows."""
    window.numbers[:, _column(life.seed)] += np.float32(min(since + 1, 20) / 20)
    return window


def halved(life: Life, window: Window, since: int, seed: int) -> Window:
    """Half of the rows stay away."""
    half = len(window.numbers) // 2
    return Window(window.numbers[:half].copy(), window.codes[:half].copy())


FAULTS: dict[str, Fault] = {
    "mean +0.25 sd": shifted(0.25), "mean +0.5 sd": shifted(0.5), "mean +1 sd": shifted(1.0), "spread x1.5": spread,
    "category mix 10 points": mix, "new category 2%": new_category, "+5% nulls": more_nulls, "unit x1.8+32": unit,
    "correlation broken": uncorrelated, "gradual, 1 sd in 20 windows": gradual, "volume halved": halved,
}


def names() -> Sequence[str]:
    """The columns: x0 to x11 and c0 to c7."""
    return [*(f"x{j}" for j in range(NUMBERS)), *(f"c{j}" for j in range(CATEGORIES))]
