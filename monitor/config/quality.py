"""What the configuration says of quality: metrics, slices, limits, groups, versions, business figures, parity."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationError, ValidationInfo, field_validator, model_validator

from monitor.config.types import Duration, Section, ThresholdConfig

ESTIMATED = "estimated."
"""Before a metric's name, in limits and results: its estimate without labels."""

AGGREGATES = Literal["mean", "sum", "share", "p50", "p95", "p99"]


class Slice(Section):
    """A cut of the rows: by a ``column``, a number's in ``bins`` (how many, or their edges); or the rows of which ``where`` is true."""

    column: str | None = None
    bins: Annotated[int, Field(ge=2, le=20)] | list[float] | None = None
    name: str | None = None
    where: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Slice:
        if (self.column is None) == (self.where is None):
            raise ValueError("a slice needs either a column or where")
        if self.where is not None and (self.bins is not None or not self.name):
            raise ValueError("a slice with where needs a name, and has no bins")
        if isinstance(self.bins, list) and (not self.bins or sorted(set(self.bins)) != self.bins):
            raise ValueError("bins must be a number of bins or ascending edges, such as [0, 32, 60]")
        if self.where is not None:
            _parsed(self.where, condition=True)
            if self.name == "ALL" or "=" in str(self.name) or len(str(self.name)) > 100:
                raise ValueError(f"{self.name!r:.60} is no name of a slice: not ALL, without =, at most 100 characters")
        return self

    @property
    def title(self) -> str:
        """The name under which its counts are kept."""
        if self.where is not None:
            return f"{self.name}: {self.where}"
        return str(self.column) if self.bins is None else f"{self.column}{self.bins}"


class Cut(Section):
    """One or several slices whose crossings are counted."""

    parts: tuple[Slice, ...]

    @property
    def title(self) -> str:
        return " & ".join(part.title for part in self.parts)

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The columns, where it is cut by whole columns alone."""
        names = tuple(part.column for part in self.parts if part.column is not None and part.bins is None)
        return names if len(names) == len(self.parts) else None


class Custom(Section):
    """A metric of the owner: ``expr`` over the columns of a row (and the label), taken together over the rows of a slice."""

    name: str
    expr: str
    aggregate: AGGREGATES = "mean"

    @field_validator("expr")
    @classmethod
    def _expression(cls, value: str) -> str:
        _parsed(value)
        return value


class Fairness(Section):
    """Groups of a ``column`` compared with the ``reference`` group, the largest without one."""

    column: str
    reference: str | None = None
    limits: dict[
        Literal[
            "selection_rate_difference", "selection_rate_ratio", "tpr_difference", "tpr_ratio", "fpr_difference", "fpr_ratio",
        ], ThresholdConfig,
    ] = {}


class Deployment(Section):
    """For how long a new version is watched from hour to hour, and by how much it must be worse to be called so."""

    watch: Duration = timedelta(hours=72)
    min_rows: Annotated[int, Field(ge=20)] = 200
    errors: Annotated[float, Field(gt=0, le=1)] = 0.01
    latency: Annotated[float, Field(gt=1)] = 1.5
    selection: Annotated[float, Field(gt=0, le=1)] = 0.1
    scores: Annotated[float, Field(gt=0, le=1)] = 0.15
    quality: Annotated[float, Field(gt=0, le=1)] = 0.05


def _parsed(text: str, *, condition: bool = False) -> None:
    from checks.core.errors import ExpressionError
    from checks.core.expression import Arithmetic, Literal, parse

    try:
        found = parse(text)
    except ExpressionError as error:
        raise ValueError(re.sub(r" for <class '[^']*'>", "", str(error))) from None
    if condition and isinstance(found, (Arithmetic, Literal)):
        raise ValueError(f"{text!r} is a value, not a condition such as {text} > 0")


def _slices(value: Any) -> Any:
    """Each entry as texts and slices, so that what is wrong with one is said once."""
    if not isinstance(value, list):
        raise ValueError("slices must be a list")
    return [[_slice(part) for part in entry] if isinstance(entry, list) else _slice(entry) for entry in value]


def _slice(part: Any) -> Any:
    if isinstance(part, (str, Slice)):
        return part
    if not isinstance(part, dict):
        raise ValueError(f"{part!r:.60} is no slice: a column's name, or a mapping with column and bins, or with name and where")
    try:
        return Slice.model_validate(part)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(p) for p in first["loc"])
        raise ValueError((f"{place}: " if place else "") + str(first["msg"]).removeprefix("Value error, ")) from None


def _custom(value: Any) -> Any:
    """A list of metrics, one metric, or a mapping from names to the rest."""
    if isinstance(value, dict):
        return [value] if "expr" in value else [
            {"name": name, **(body if isinstance(body, dict) else {"expr": body})} for name, body in value.items()
        ]
    return value


def _costs(value: Any) -> Any:
    """``{tp: .., fp: .., fn: .., tn: ..}`` as ``{label: {prediction: value}}``."""
    if isinstance(value, dict) and set(value) & {"tp", "fp", "fn", "tn"}:
        unknown = set(value) - {"tp", "fp", "fn", "tn"}
        if unknown:
            raise ValueError(f"costs know tp, fp, fn and tn, not {', '.join(sorted(map(str, unknown)))}")
        return {"1": {"1": value.get("tp", 0.0), "0": value.get("fn", 0.0)}, "0": {"1": value.get("fp", 0.0), "0": value.get("tn", 0.0)}}
    if isinstance(value, dict):
        return {str(label): {str(p): v for p, v in row.items()} if isinstance(row, dict) else row for label, row in value.items()}
    return value


class Quality(Section):
    """Metrics and slices.

    ``limits`` are on a metric (``recall``), on one class of a multiclass task (``recall[cat]``), on the estimate that needs no
    labels (``estimated.recall``), or on a custom metric.
    """

    metrics: list[str] | None = None
    slices: Annotated[list[str | Slice | list[str | Slice]], BeforeValidator(_slices)] = []
    min_rows: Annotated[int, Field(ge=1)] = 200
    limits: dict[str, ThresholdConfig] = {}
    custom: Annotated[list[Custom], BeforeValidator(_custom)] = []
    costs: Annotated[dict[str, dict[str, float]], BeforeValidator(_costs)] = {}
    fairness: Fairness | None = None
    shadow: Annotated[list[str], BeforeValidator(lambda v: [v] if isinstance(v, str) else v)] = []
    estimate: bool = True
    weakest: bool = True
    deployment: Deployment = Deployment()

    @field_validator("custom")
    @classmethod
    def _once(cls, value: list[Custom]) -> list[Custom]:
        names = [item.name for item in value]
        if len(set(names)) < len(names):
            raise ValueError(f"two custom metrics are named {next(n for n in names if names.count(n) > 1)!r}")
        return value

    @field_validator("slices")
    @classmethod
    def _named_once(cls, value: list[Any]) -> list[Any]:
        parts = [part for entry in value for part in (entry if isinstance(entry, list) else [entry]) if isinstance(part, Slice)]
        known: dict[str, str] = {}
        for part in parts:
            if part.where is not None and known.setdefault(str(part.name), part.where) != part.where:
                raise ValueError(f"two slices are named {part.name!r}")
        return value

    @property
    def cuts(self) -> list[Cut]:
        """Each entry of ``slices``."""
        found = []
        for entry in self.slices:
            parts = entry if isinstance(entry, list) else [entry]
            found.append(Cut(parts=tuple(Slice(column=part) if isinstance(part, str) else part for part in parts)))
        return found

    @property
    def slice_keys(self) -> list[tuple[str, ...]]:
        """The cuts by whole columns, each as a tuple of columns."""
        return [cut.columns for cut in self.cuts if cut.columns]

    @property
    def cost_of(self) -> dict[tuple[str, str], float]:
        """Value by (label, prediction)."""
        return {(label, predicted): value for label, row in self.costs.items() for predicted, value in row.items()}


def _build_source(value: Any, info: ValidationInfo) -> Any:
    return (info.context or {})["source"](value)


class Kpi(Section):
    """A business figure from a table of its own: ``aggregate`` of ``value`` over the rows of a window."""

    source: SerializeAsAny[Section]
    timestamp: str
    value: str | None = None
    aggregate: Literal["sum", "mean", "count"] = "sum"
    limits: ThresholdConfig | None = None

    @field_validator("source", mode="before")
    @classmethod
    def _source(cls, value: Any, info: ValidationInfo) -> Any:
        return _build_source(value, info)

    @model_validator(mode="after")
    def _counted(self) -> Kpi:
        if self.value is None and self.aggregate != "count":
            raise ValueError(f"aggregate {self.aggregate} needs a value column; count needs none")
        return self


class Parity(Section):
    """The same features computed again offline, joined by id: the share of rows in which they differ, by column.

    Numbers differ by more than ``tolerance`` of their size (and more than it where they are small); ``columns`` are those compared,
    all that both have without it.
    """

    source: SerializeAsAny[Section]
    id: str
    timestamp: str | None = None
    tolerance: Annotated[float, Field(ge=0)] = 1e-6
    columns: list[str] | None = None
    limits: ThresholdConfig = ThresholdConfig(warn_above=0.01)
    min_rows: Annotated[int, Field(ge=1)] = 50

    @field_validator("source", mode="before")
    @classmethod
    def _source(cls, value: Any, info: ValidationInfo) -> Any:
        return _build_source(value, info)
