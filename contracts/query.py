"""What no predicate over single rows can hold: questions that are asked apart, each in bounded time and memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Rows that repeat a key. Answer: ``surplus`` (rows - distinct keys), ``keys`` that repeat, ``rows`` involved, ``top``.

    A key with a null or NaN in it repeats nothing.
    """

    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Rows whose key is not among those of another object. Answer: ``bad`` rows, ``keys``, ``top``."""

    columns: tuple[str, ...]
    object: str
    to: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sql:
    """One read-only SELECT over the window, which may call it by the object's ``names``. Answer: ``value``, a number."""

    text: str
    names: tuple[str, ...]
    column: str | None


@dataclass(frozen=True, slots=True)
class Extremes:
    """Answer: ``first`` and ``last`` value of a column of times, None without any."""

    column: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Answer: ``seconds`` between the two neighbouring times that lie farthest apart, and ``after`` which."""

    column: str


@dataclass(frozen=True, slots=True)
class KeyHistory:
    """Keys that an earlier window had already. Answer: see `contracts.rules.key_history`."""

    columns: tuple[str, ...]
    seconds: float
    windows: int


Query = Duplicates | ForeignKey | Sql | Extremes | Gap | KeyHistory
