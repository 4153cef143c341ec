"""Small types of the configuration."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, SecretStr, model_validator

from checks.calibration.ledger import Budget
from checks.core.errors import ConfigError
from checks.core.result import Threshold
from checks.core.window import format_duration, parse_duration


class Section(BaseModel):
    """A part of the configuration: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


def _duration(value: Any) -> timedelta:
    try:
        return value if isinstance(value, timedelta) else parse_duration(value)
    except ConfigError as error:
        raise ValueError(str(error)) from None


def _auto_duration(value: Any) -> Any:
    return value if value == "auto" else _duration(value)


def _show(value: Any) -> Any:
    return format_duration(value) if isinstance(value, timedelta) else value


Duration = Annotated[timedelta, BeforeValidator(_duration), PlainSerializer(_show)]
AutoDuration = Annotated[Any, BeforeValidator(_auto_duration), PlainSerializer(_show)]


def _moment(value: Any) -> str:
    text = value.isoformat() if isinstance(value, (date, datetime)) else str(value)
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither a date such as 2013-04-16 nor an ISO time") from None
    return text


Moment = Annotated[str, BeforeValidator(_moment)]

_BUDGET = re.compile(r"^\s*(\d+(?:\.\d+)?)\s+per\s+(\S+)\s*$")


def parse_budget(value: Any) -> Budget:
    """The budget that a text such as ``1 per 30d`` names."""
    if isinstance(value, Budget):
        return value
    match = _BUDGET.match(str(value))
    if match is None or float(match[1]) <= 0:
        raise ValueError(f"{value!r} is not a budget; allowed is a number per duration, such as 1 per 30d")
    return Budget(float(match[1]), _duration(match[2]))


def format_budget(budget: Budget) -> str:
    """The text that `parse_budget` reads back."""
    return f"{budget.count:g} per {format_duration(budget.period)}"


BudgetField = Annotated[Budget, BeforeValidator(parse_budget), PlainSerializer(format_budget)]

_FIRE = re.compile(r"^\s*(\d+)\s+of\s+(\d+)\s*$")


def _fire(value: Any) -> str:
    if value == "auto":
        return "auto"
    match = _FIRE.match(str(value))
    if match is None or not 1 <= int(match[1]) <= int(match[2]) <= 100:
        raise ValueError(f"{value!r} is not auto or k of n with 1 <= k <= n, such as 2 of 3")
    return f"{int(match[1])} of {int(match[2])}"


Fire = Annotated[str, BeforeValidator(_fire)]


class ThresholdConfig(Section):
    """Where a number warns, fails and clears."""

    warn_above: float | None = None
    fail_above: float | None = None
    clear_below: float | None = None
    warn_below: float | None = None
    fail_below: float | None = None
    clear_above: float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> ThresholdConfig:
        limits = [v for v in (self.warn_above, self.fail_above, self.warn_below, self.fail_below) if v is not None]
        if not limits:
            raise ValueError("a limit needs one of warn_above, fail_above, warn_below, fail_below")
        if self.warn_above is not None and self.fail_above is not None and self.fail_above < self.warn_above:
            raise ValueError(f"fail_above {self.fail_above:g} is below warn_above {self.warn_above:g}")
        if self.warn_below is not None and self.fail_below is not None and self.fail_below > self.warn_below:
            raise ValueError(f"fail_below {self.fail_below:g} is above warn_below {self.warn_below:g}")
        above = [v for v in (self.warn_above, self.fail_above) if v is not None]
        below = [v for v in (self.warn_below, self.fail_below) if v is not None]
        if self.clear_below is not None and (not above or self.clear_below > min(above)):
            raise ValueError(f"clear_below {self.clear_below:g} would clear above where it fires; it must be at most the lowest *_above")
        if self.clear_above is not None and (not below or self.clear_above < max(below)):
            raise ValueError(f"clear_above {self.clear_above:g} would clear below where it fires; it must be at least the highest *_below")
        return self

    def threshold(self) -> Threshold:
        """The value that `checks.evaluate` takes."""
        return Threshold(**self.model_dump())


def reveal(secret: SecretStr | None) -> str | None:
    """The text of a secret, for the one place that sends it."""
    return secret.get_secret_value() if secret is not None else None
