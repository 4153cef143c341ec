"""What `driftd contract test` does: rows from the options, the contract's section, skew, quarantine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checks.core.errors import ConfigError
from checks.core.result import Verdict, roll_up
from checks.core.window import Window
from contracts.load import load_contract
from monitor.clock import system_clock
from monitor.evaluation.adhoc import Given, apply_contract, event_time, export_quarantine, learn, open_address, served_skews
from monitor.evaluation.contract import Usual
from monitor.sources import open_source

if TYPE_CHECKING:
    from contracts.model import Contract
    from monitor.config.model import Config, MonitorConfig
    from monitor.ports import Source

REFERENCE = "reference"
FIRST = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Request:
    """The options of one test."""

    target: str
    data: str | None
    against: str | None
    object: str | None
    timestamp: str | None
    since: str | None
    until: str | None
    others: tuple[str, ...]
    quarantine: Path | None


def run_test(request: Request, config: Callable[[], Config]) -> dict[str, Any]:
    """The contract section of the rows, with ``rules``, ``rows`` and, where they were asked for, ``skew`` and ``quarantine``."""
    base = Path.cwd()
    others: dict[str, Source] = {}
    for text in request.others:
        name, mark, address = text.partition("=")
        if not mark:
            raise ConfigError(f"--with {text}: must be NAME=SOURCE")
        others[name] = open_address(address, base)[0]
    if Path(request.target).is_file():
        contract, given, training, ignored, identifier, owner = _of_file(request, base)
    else:
        monitor = _monitor(request, config)
        contract, given, training, ignored, identifier = _of_monitor(request, monitor, base)
        owner = monitor.owner
        others = {name: open_source(data) for name, data in (monitor.contract.data if monitor.contract else {}).items()} | others
    for name in others:
        if name not in contract.objects:
            raise ConfigError(f"--with {name}: the contract has no object {name!r}; it has {', '.join(contract.objects)}")
    skew, usual = None, None
    if training is not None:
        skew, learned = served_skews(training, given, contract, ignored)
        usual = Usual(learned.binning, learned.profile, learned.types)
    now = system_clock().now()
    as_of = min(now, given.window.end) if given.window is not None else now
    judged, bound, setting = apply_contract(contract, given, as_of, others, usual, identifier, ignored, owner)
    found = {**judged.section, "rows": judged.rows}
    if skew is not None:
        found["skew"] = [{"column": s.column, "kind": s.kind, "verdict": str(s.verdict), "sentence": s.sentence} for s in skew]
        found["verdict"] = str(roll_up([Verdict(found["verdict"]), *(s.verdict for s in skew)]))
    if request.quarantine is not None:
        found["quarantine"] = export_quarantine(request.quarantine, bound, judged, setting, given.types())
    return found


def _moment(text: str | None, option: str) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{option} {text!r} is neither a date such as 2013-04-16 nor an ISO time") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _window(since: datetime, until: datetime) -> Window:
    if until <= since:
        raise ConfigError(f"--to {until:%Y-%m-%dT%H:%MZ} is not after --from {since:%Y-%m-%dT%H:%MZ}")
    return Window(since, until)


Parts = tuple["Contract", Given, Given | None, tuple[str, ...], str | None]


def _of_file(request: Request, base: Path) -> tuple[Contract, Given, Given | None, tuple[str, ...], str | None, str]:
    contract = load_contract(Path(request.target), request.object)
    if request.data is None:
        raise ConfigError(f"{request.target}: name the rows with --data SOURCE")
    source, kind = open_address(request.data, base)
    timestamp = event_time(contract, source.types(), request.timestamp)
    since, until = _moment(request.since, "--from"), _moment(request.until, "--to")
    window = None
    if since is not None or until is not None:
        if timestamp is None:
            raise ConfigError("--from and --to need --timestamp COLUMN, or a property with the role timestamp")
        window = _window(since or datetime(1970, 1, 1, tzinfo=UTC), until or datetime(9999, 1, 1, tzinfo=UTC))
    given = Given(source, kind, timestamp, window, contract.classified)
    if request.against is None:
        return contract, given, None, (), None, ""
    if request.against == REFERENCE:
        raise ConfigError("--against reference needs the name of a monitor; with a contract file name the training rows")
    taught, kind = open_address(request.against, base)
    time = timestamp if timestamp in taught.types() else None
    return contract, given, Given(taught, kind, time, None, contract.classified), (), None, ""


def _monitor(request: Request, config: Callable[[], Config]) -> MonitorConfig:
    if request.target.endswith((".yaml", ".yml", ".json")) or "/" in request.target:
        raise ConfigError(f"{request.target}: there is no such contract file")
    return config().monitor(request.target)


def _of_monitor(request: Request, monitor: MonitorConfig, base: Path) -> Parts:
    """The monitor's contract (or the one that its reference supports), its first served windows, and its reference."""
    from monitor.evaluation.resolve import resolve

    opened, kind = open_address(request.data, base) if request.data else (open_source(monitor.source), str(getattr(monitor.source, "kind", "")))
    source = open_source(monitor.source)
    settings = resolve(monitor, source, system_clock().now())
    timestamp, ignored = monitor.columns.timestamp, tuple(monitor.columns.ignore)
    private = frozenset(monitor.columns.personal)
    since = _moment(request.since, "--from") or settings.start
    until = _moment(request.until, "--to") or since + FIRST
    given = Given(opened, kind, timestamp, _window(since, until), private)
    if monitor.reference.path is not None:
        taught, taught_kind = open_address(monitor.reference.path, monitor.contract.path.parent if monitor.contract else base)
        training = Given(taught, taught_kind, timestamp if timestamp in taught.types() else None, None, private)
    else:
        own = str(getattr(monitor.source, "kind", ""))
        training = Given(source, own, timestamp, Window(settings.reference_from, settings.reference_to), private)
    if request.against not in (None, REFERENCE):
        taught, taught_kind = open_address(str(request.against), base)
        training = Given(taught, taught_kind, timestamp if timestamp in taught.types() else None, None, private)
    if monitor.contract is not None:
        contract = load_contract(monitor.contract.path, request.object or monitor.contract.object)
        training = replace(training, private=private | contract.classified)
    else:
        from contracts.infer import infer_contract

        learned = learn(training, ignored)
        contract = infer_contract(learned.binning, learned.profile, learned.types)
    return contract, given, training if request.against else None, ignored, monitor.columns.id
