"""The model of normal windows: natural variation, memory, heavy tails, and how many independent chances of alarm there are."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, gammaincinv, ndtr, polygamma

from checks.calibration.contrasts import KINDS, Contrasts, Values
from checks.calibration.level import Level, left_out, level_of, trend_shrinkage

Floats = NDArray[np.float64]
Places = NDArray[np.int64]

PRIOR_WEIGHT = 20.0
"""A contrast's variance ratio is drawn toward its column's with the weight of so many windows."""

BARE_PRIOR_WEIGHT = 2.0
"""The same for nulls and unseen values, whose absence in every window says more of them than the column does."""

CONFIDENCE = 0.7
"""The number of independent contrasts, which few windows tell but roughly, is taken at this quantile."""

SMOOTHING = 0.15
"""The weight of the newest window in the slow channel."""

CAP = 6.0
"""What one window can bring to the slow channel, in standard deviations."""

TAIL_BELIEF = 0.5
"""Of the excess kurtosis that the baseline shows, so much is believed; a single storm counts only once."""

SUDDEN_SHARE = 0.7
"""How much of the false alarms the sudden channel may use; the slow one has the rest."""

NOISE_KURTOSIS = 0.6
"""What fifty normal windows show by chance, and is not believed."""

MOST_SKEWED = 0.5
"""Means of more skewed summands, of few rows or of nearly constant columns, are not corrected further."""

WARM_UP = 6
"""Windows until the slow channel has forgotten that it began at zero."""


def normal_equivalent(z: Floats, freedom: Floats) -> Floats:
    """The normal deviate about as rare as ``z`` under a t distribution, with its sign (Wallace 1959)."""
    found: Floats = np.copysign((8 * freedom + 1) / (8 * freedom + 3) * np.sqrt(freedom * np.log1p(z * z / freedom)), z)
    return found


def unskewed(z: Floats, skewness: Floats) -> Floats:
    """A standardised mean of summands with that ``skewness`` (of the mean) as a normal deviate (Wilson and Hilferty 1931)."""
    plain = np.abs(skewness) < 1e-6
    solid = np.where(plain, 1e-6, skewness)
    cubic: Floats = 6 / solid * (np.cbrt(np.maximum(1 + solid * z / 2, 0.0)) - 1) + solid / 6
    return np.where(plain, z, cubic)


def moderation(ratio: Floats, freedom: float) -> tuple[float, float]:
    """Prior degrees of freedom and prior value of variance ratios, from their spread over contrasts (Smyth 2004)."""
    populated = ratio[ratio > 0.5]
    used = populated if len(populated) > 10 else ratio
    logs = np.log(np.maximum(used, 1e-12)) - digamma(freedom / 2) + np.log(freedom / 2)
    excess = float(logs.var() - polygamma(1, freedom / 2))
    if excess <= 2e-3:
        return 1e3, float(np.exp(logs.mean()))
    guess = 0.5 + 1 / excess
    for _ in range(50):
        value = float(polygamma(1, guess))
        step = value * (1 - value / excess) / float(polygamma(2, guess))
        guess += step
        if -step / guess < 1e-8:
            break
    return min(2 * guess, 1e3), float(np.exp(logs.mean() + digamma(guess) - np.log(guess)))


def chances(tails: Floats, effective: float) -> float:
    """How many independent contrasts would give such smallest ``tails``, which are then exponential with that rate."""
    effective = max(effective, 1.0)
    return max(len(tails) / max(float(tails.sum()), 1e-300) * float(gammaincinv(effective, CONFIDENCE)) / effective, 1.0)


@dataclass(frozen=True, slots=True)
class Judgement:
    """A window against the model: p-values (before and after the guards), and per contrast (C,) what stands out.

    ``plain`` are the deviations in standard deviations, ``sudden`` the larger of them and of those from what the window
    before leads to expect, ``slow`` those of the slow channel.
    """

    p_value: float
    raw: float
    plain: Floats
    sudden: Floats
    slow: Floats
    tails: Floats


@dataclass(frozen=True, slots=True)
class Normal:
    """The fitted model.

    Parameters
    ----------
    level : what to expect, with ``trend`` (C,), how much of a straight trend is believed.
    natural : (C,), the variance between windows beyond sampling, with the error of the baseline's mean; ``unbiased`` (C,) without
        it, ``typical`` (C,) that of sampling, ``share`` (C,) the natural part in the whole.
    carry : (C,), the autocorrelation of the natural part; ``recall`` (C,) of the whole deviation with the one before.
    freedom : (C,), degrees of freedom of the t tails, fewer where the baseline is heavy-tailed.
    extra : (C,), added variance of a level that was accepted a few windows ago.
    skewness, weight : (C,), of one row's contribution; what a contrast's tail is divided by.
    last, last_position : the newest baseline window's deviation (C,), and its place on the grid.
    slow, slow_variance : (C,), the slow channel's state after the baseline, and its variance.
    chances, slow_chances : independent contrasts in each channel; ``slow_chances`` is 0 without one.
    effective : how many independent windows the baseline is worth.
    left_out : (R,), the p-values of the baseline's own windows in the sudden channel, each judged without its block.
    """

    level: Level
    natural: Floats
    unbiased: Floats
    typical: Floats
    share: Floats
    carry: Floats
    recall: Floats
    freedom: Floats
    extra: Floats
    skewness: Floats
    weight: Floats
    last: Floats
    last_position: float
    chances: float
    slow_chances: float
    slow: Floats
    slow_variance: Floats
    effective: float
    windows: int
    trend: Floats
    left_out: Floats

    def standardised(self, deviation: Floats, variance: Floats, natural: Floats, whole: Floats | float = 1.0) -> Floats:
        """Deviations as normal deviates; ``whole`` scales the variance."""
        total = (variance + natural) * whole
        skewness = np.clip(self.skewness * variance**2 / total**1.5, -MOST_SKEWED, MOST_SKEWED)
        return normal_equivalent(unskewed(deviation / np.sqrt(total), skewness), self.freedom)

    def tails(self, z: Floats) -> Floats:
        """Two-sided normal tails over the weights."""
        found: Floats = 2 * ndtr(-np.abs(z)) / self.weight
        return found

    def judge(self, value: Floats, variance: Floats, season: int, position: float, material: NDArray[np.bool_]) -> Judgement:
        """One window's contrasts (C,); only ``material`` ones, whose effect is large enough to matter, can alarm."""
        deviation = value - self.level.at(np.array([season]), np.array([position]))[0]
        plain = self.standardised(deviation, variance, self.natural + self.extra)
        recall = self.recall ** max(position - self.last_position, 1.0)
        fresh = self.standardised(deviation - recall * self.last, variance, self.unbiased + self.extra, 1 - recall**2)
        sudden = np.where(np.abs(fresh) > np.abs(plain), fresh, plain)
        state = (1 - SMOOTHING) * self.slow + SMOOTHING * np.clip(plain, -CAP, CAP)
        slow = normal_equivalent(state / np.sqrt(self.slow_variance), self.freedom)
        at_once, in_time = self.tails(sudden), self.tails(slow) if self.slow_chances else np.ones_like(sudden)

        def p_value(chosen: NDArray[np.bool_]) -> float:
            if not chosen.any():
                return 1.0
            spike = -np.expm1(-self.chances * at_once[chosen].min())
            if not self.slow_chances:
                return self.guarded(float(spike))
            slow_p = -np.expm1(-self.slow_chances * in_time[chosen].min())
            return self.guarded(min(float(spike) / SUDDEN_SHARE, float(slow_p) / (1 - SUDDEN_SHARE), 1.0))

        tails = np.minimum(at_once, in_time)
        return Judgement(p_value(material), p_value(np.ones_like(material)), plain, sudden, slow if self.slow_chances else 0 * slow, tails)

    def guarded(self, p_value: float) -> float:
        """Beyond the baseline's own experience a p-value is drawn half-way back to it, on the logarithmic scale."""
        return float(np.sqrt(p_value / self.effective)) if p_value < 1 / self.effective else p_value


def fit(
    values: Values, season: Places, position: Floats, contrasts: Contrasts, weight: Floats, *, cycle: int = 1, extra: Floats | None = None,
    widen: float = 1.0,
) -> Normal:
    """The model of R baseline windows, R at least 3.

    Parameters
    ----------
    values : of the baseline windows, in order.
    season : (R,), season keys, 0 to ``cycle`` - 1.
    position : (R,), places on the grid of windows; a step of 1 is the next window.
    weight : (C,), above 0: divides a contrast's tail.
    extra : (C,), variance of the expected value relative to that of a window, where a level was accepted lately.
    widen : multiplies the number of chances; above 1 after false alarms.
    """
    value, variance = values.value, values.variance
    windows, keys = len(value), max(cycle, 1)
    trend = trend_shrinkage(value, season, keys, position, contrasts.first)
    deviation = left_out(value, season, keys, position, cycle, trend)
    level = level_of(value, season, keys, position, trend)
    used = 1 + float(level.shrinkage.mean()) * (min(keys, windows) - 1) + float(trend.mean())
    freedom = max(windows - used, 3.0)
    typical = 1 / (1 / variance).mean(0)
    ratios = deviation**2 / variance
    ratio = ratios.mean(0)
    own, common = moderation(ratio, freedom)
    prior = np.maximum(_column_ratio(ratio, contrasts.group), common)
    prior_weight = np.where(contrasts.bare, BARE_PRIOR_WEIGHT, PRIOR_WEIGHT)

    def natural_of(found: Floats, degrees: float) -> Floats:
        excess: Floats = (np.maximum((prior_weight * prior + degrees * found) / (prior_weight + degrees), 1.0) - 1) * typical
        return excess

    unbiased = natural_of(ratio, freedom)
    share = unbiased / (unbiased + typical)
    carry = _carry(deviation / np.sqrt(variance + unbiased), share, np.diff(position))
    recall = share * carry
    error = np.minimum((1 + carry) / (1 - carry) / windows, 0.5)
    inflation = (1 + error) / (1 - error)  # the error of the baseline's mean persists
    without = natural_of((windows * ratio - ratios) / (windows - 1), max(freedom - 1, 1.0))  # each window judged without itself
    scale = unbiased + typical
    upper = float(np.quantile(recall, 0.9)) ** 2
    # Hours of one week share its season: a baseline knows as many stretches as it has seventh parts of a season.
    experience = min(windows * (1 - upper) / (1 + upper), windows / max(keys / 7, 1.0))
    # A window left out with its week is told less than one that follows the baseline's last.
    nearer = np.maximum(1 - 2 * recall / (1 - carry) / windows, 0.7)
    model = Normal(
        level, unbiased * inflation * nearer, unbiased, typical, share, carry, recall,
        _tails(deviation, share, contrasts, np.maximum(own + freedom * (1 - recall**2) / (1 + recall**2), 4.0)),
        np.zeros_like(scale) if extra is None else extra * scale, contrasts.skewness, weight,
        value[-1] - level.at(season[-1:], position[-1:])[0], float(position[-1]), 1.0, 0.0, np.zeros_like(scale), np.ones_like(scale),
        experience, windows, trend,
        np.ones(windows),
    )
    plain = model.standardised(deviation, variance, without * inflation)
    near = np.diff(position) == 1
    fresh = model.standardised(deviation[1:] - recall * deviation[:-1], variance[1:], without[1:], 1 - recall**2)
    smallest = model.tails(plain).min(1)
    smallest[1:] = np.where(near, np.minimum(smallest[1:], model.tails(fresh).min(1)), smallest[1:])
    number = widen * chances(smallest, 0.8 * (windows / max(keys / 7, 1.0) - 1))
    found = replace(model, chances=number, left_out=-np.expm1(-number * smallest))
    return found if windows < 2 * WARM_UP else _slow_channel(found, values, season, position, widen)


def _slow_channel(model: Normal, values: Values, season: Places, position: Floats, widen: float) -> Normal:
    deviation = values.value - model.level.at(season, position)
    plain = np.clip(model.standardised(deviation, values.variance, model.natural), -CAP, CAP)
    states = np.empty_like(plain)
    state = np.zeros(plain.shape[1])
    for index, row in enumerate(plain):
        state = states[index] = (1 - SMOOTHING) * state + SMOOTHING * row
    white, grid, coloured = smoothing_variance(model.windows)
    variance = (1 - model.share) * white + model.share * np.interp(model.carry, grid, coloured)
    # The baseline's own swings are smaller, as its mean has followed them; they are few, so part of that is believed.
    variance = variance * (0.3 + 0.7 * float(np.mean(states[WARM_UP:] ** 2 / variance)))
    smallest = model.tails(normal_equivalent(states[WARM_UP:] / np.sqrt(variance), model.freedom)).min(1)
    number = widen * chances(smallest, (min(model.windows, 7 * model.effective) - WARM_UP) * SMOOTHING)
    return replace(model, slow=states[-1], slow_variance=variance, slow_chances=number)


@functools.lru_cache(maxsize=16)
def smoothing_variance(windows: int) -> tuple[float, Floats, Floats]:
    """The variance of the slow channel about the mean of ``windows`` windows, of white noise and, over a grid of
    autocorrelations, of an autoregressive process; both of variance 1."""
    weights = SMOOTHING * (1 - SMOOTHING) ** np.arange(windows) - 1 / windows
    products = np.correlate(weights, weights, "full")[windows - 1 :]
    grid = np.linspace(0.0, 0.95, 20)
    lags = np.arange(windows)
    found = np.array([products[0] + 2 * (products[1:] * phi ** lags[1:]).sum() for phi in grid])
    return float(products[0]), grid, found


def _column_ratio(ratio: Floats, group: Places) -> Floats:
    """Per contrast, the variance ratio of its column: the mean of the populated ones, or that of its first two if larger.

    Rows inside a window cluster (all flights of an hour share one weather): a bin never visited before is no miracle.
    """
    populated = ratio > 0.2
    number = int(group.max()) + 1
    mean = np.bincount(group, np.where(populated, ratio, 0.0), number) / np.maximum(np.bincount(group, populated, number), 1.0)
    order = np.argsort(group, kind="stable")
    begin = np.searchsorted(group[order], np.arange(number))
    size = np.bincount(group, minlength=number)
    second = order[np.minimum(begin + 1, begin + size - 1)]
    found: Floats = np.maximum(mean, np.maximum(ratio[order[begin]], ratio[second]))[group]
    return found


def _carry(scaled: Floats, share: Floats, step: Floats) -> Floats:
    """Autocorrelation of the natural part per contrast, drawn toward that of all; only neighbours on the grid count."""
    near = step == 1
    count = int(near.sum())
    if count < 5:
        return np.zeros_like(share)
    observed = (scaled[1:] * scaled[:-1])[near].mean(0)
    weight = share * (share > 0.1)
    pooled = float(np.clip((weight * observed).sum() / max(float((weight * share).sum()), 1e-9), 0.0, 0.9)) if weight.any() else 0.0
    found = (PRIOR_WEIGHT * pooled + count * share * observed) / (PRIOR_WEIGHT + count * share**2)
    memory: Floats = np.clip(found + 1 / count + 3 * np.maximum(found, 0.0) / count, 0.0, 0.95)
    return memory


def _tails(deviation: Floats, share: Floats, contrasts: Contrasts, freedom: Floats) -> Floats:
    """Degrees of freedom that give each contrast's deviations the kurtosis they show, pooled over a column's like contrasts.

    Only natural variation is heavy-tailed: excess kurtosis counts by the squared share of it. ``4 + 6 / kurtosis`` degrees
    of freedom have that kurtosis.
    """
    windows = len(deviation)
    power = np.maximum((deviation**2).mean(0), 1e-18)
    excess = (deviation**4).mean(0) / power**2 - 3 + 6 / windows
    kind, member = contrasts.kind, contrasts.member
    squared = np.where(kind[member] == KINDS["correlation"], 1.0, share**2)  # that of heavy-tailed columns is so by itself
    size = np.maximum(np.bincount(member), 1)
    above = np.bincount(member, squared * excess) / size
    below = np.bincount(member, squared * squared) / size
    kinds = np.maximum(np.bincount(kind), 1)
    typical = np.bincount(kind, below) / kinds
    usual = np.bincount(kind, above) / np.maximum(np.bincount(kind, below), 1e-9)
    pooled = (above + 0.3 * (usual * typical)[kind]) / np.maximum(below + 0.3 * typical[kind], 1e-9)
    heavy = np.maximum(TAIL_BELIEF * squared * (pooled[member] - NOISE_KURTOSIS), 1e-3)
    found: Floats = 1 / (1 / freedom + 1 / (4 + 6 / heavy))
    return found
