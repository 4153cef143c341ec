"""From config.yaml to a `Config`; every error names file, line, key and what is allowed."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from checks.core.errors import ConfigError, ContractError
from contracts.document import Lined, read_yaml
from monitor.config.model import Config, MonitorConfig
from monitor.config.quality import ESTIMATED
from monitor.config.references import Place, resolve

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")


@dataclass(frozen=True, slots=True)
class Registries:
    """What plugins offer to the configuration: the config model of each kind.

    ``sniff`` gives the kind of a source from its address.
    """

    sources: Mapping[str, type[BaseModel]]
    channels: Mapping[str, type[BaseModel]]
    metrics: Mapping[str, Any]
    statistics: Mapping[str, Any]
    sniff: Callable[[str, Path], str]


class _File:
    """One YAML file with what is needed to point at its lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ConfigError(f"{path}: there is no such file; name one with -c FILE or DRIFTD_CONFIG") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read: {error}") from None
        try:
            self.raw = read_yaml(text, str(path))
        except ContractError as error:
            raise ConfigError(str(error)) from None
        except RecursionError:
            raise ConfigError(f"{path}: it contains itself, or is nested too deeply") from None
        if not isinstance(self.raw, dict):
            raise ConfigError(f"{path}:1: the file must be a mapping with monitors")
        try:
            self.data, self.missing = resolve(self.raw, path.parent)
        except RecursionError:
            raise ConfigError(f"{path}: an alias in it contains itself") from None

    def line(self, place: Place) -> int:
        node: Any = self.raw
        line = 1
        for key in place:
            if isinstance(node, Lined):
                line = node.lines.get(str(key), line)
                node = node.get(str(key))
            elif isinstance(node, list) and isinstance(key, int) and key < len(node):
                node = node[key]
                line = getattr(node, "line", line)
            else:
                break
        return line

    def error(self, place: Place, message: str) -> ConfigError:
        where = ".".join(str(part) for part in place)
        return ConfigError(f"{self.path}:{self.line(place)}: {where}: {message}")


def load(path: Path, registries: Registries) -> Config:
    """The configuration in ``path`` and the files it includes, or `ConfigError` naming all that is wrong."""
    main = _File(path)
    files = [main]
    patterns = main.data.get("include") or []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        files += [_File(found) for found in sorted(path.parent.glob(pattern))]
    defaults = main.data.get("defaults") or {}
    if not isinstance(defaults, dict):
        raise main.error(("defaults",), "must be a mapping of monitor keys")
    errors: list[str] = []
    top = {key: value for key, value in main.data.items() if key != "monitors"}
    top["channels"] = _channels(main, registries, errors)
    top["store"] = _store_url(top.get("store") or "sqlite:///driftd.db", path.parent)
    monitors: dict[str, MonitorConfig] = {}
    hashes: dict[str, str] = {}
    homes: dict[str, _File] = {}
    for file in files:
        section = file.data.get("monitors") or {}
        if not isinstance(section, dict):
            raise file.error(("monitors",), "must be a mapping from name to monitor")
        if file is not main and set(file.data) - {"monitors"}:
            key = next(iter(set(file.data) - {"monitors"}))
            raise file.error((key,), "an included file may hold only monitors")
        for name, body in section.items():
            if name in monitors:
                errors.append(str(file.error(("monitors", name), f"a monitor of this name is already in {homes[name].path}")))
                continue
            built = _monitor(file, name, body, defaults, registries, errors)
            if built is not None:
                monitors[name], homes[name] = built, file
                raw = {"defaults": main.raw.get("defaults"), "monitor": file.raw["monitors"][name]}
                text = json.dumps(raw, sort_keys=True, default=str)
                hashes[name] = "sha256:" + hashlib.sha256(text.encode()).hexdigest()[:16]
    if not monitors and not errors:
        errors.append(f"{path}:1: monitors: at least one monitor is needed")
    config = _validate(main, Config, {**top, "path": path, "monitors": {}, "hashes": hashes}, (), errors)
    if config is not None:
        config = config.model_copy(update={"monitors": monitors, "reports": _reports(config, path.parent)})
        config = _owners(config, homes, main, registries, errors)
        _secrets(config, files, errors)
    if errors or config is None:
        raise ConfigError("\n".join(dict.fromkeys(errors)))
    loaded: Config = config
    return loaded


def store_of_file(path: Path) -> str | None:
    """The store that a file names, whatever else is wrong with it; None where that cannot be read."""
    try:
        file = _File(path)
        url = file.data.get("store") or "sqlite:///driftd.db"
    except ConfigError:
        return None
    return _store_url(url, path.parent) if isinstance(url, str) else None


def _reports(config: Config, base: Path) -> Any:
    return config.reports.model_copy(update={"path": base / config.reports.path})


def _store_url(url: str, base: Path) -> str:
    prefix = "sqlite:///"
    if url.startswith(prefix) and not url.startswith("sqlite:////") and ":memory:" not in url:
        return prefix + str((base / url[len(prefix) :]).resolve())
    return url


def _validate(
    file: _File, model: type[Any], data: Any, place: Place, errors: list[str], context: Mapping[str, Any] | None = None,
) -> Any:
    try:
        return model.model_validate(data, context=context)
    except ValidationError as error:
        for item in error.errors():
            loc = tuple(part for part in item["loc"] if not _internal(part))
            where = (*place, *loc)
            errors.append(str(file.error(where, _message(item, model, loc))))
    except ConfigError as error:
        errors.append(str(file.error(place, str(error))))
    return None


def _internal(part: str | int) -> bool:
    return isinstance(part, str) and (part.endswith("]") or part in ("str",) or "[" in part)


def _message(item: Any, model: type[BaseModel], loc: tuple[str | int, ...]) -> str:
    text = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        known = _known(model, loc[:-1])
        near = difflib.get_close_matches(str(loc[-1]), known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"unknown key{hint}; allowed are {', '.join(known)}" if known else f"unknown key{hint}"
    if item["type"] == "missing":
        return "this key is needed"
    if item["type"] == "model_type":
        return "must be a mapping"
    return text[:1].lower() + text[1:]


def _known(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    current: Any = model
    for part in loc:
        field = getattr(current, "model_fields", {}).get(part)
        if field is None:
            return []
        current = _model_in(field.annotation)
        if current is None:
            return []
    internal = {"name", "path", "hashes", "warnings"} if current in (Config, MonitorConfig) else set()
    return [field.alias or name for name, field in current.model_fields.items() if name not in internal]


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        found = _model_in(part)
        if found is not None:
            return found
    return None


def _merge(under: Any, over: Any) -> Any:
    if isinstance(under, dict) and isinstance(over, dict):
        return {**under, **{key: _merge(under.get(key), value) for key, value in over.items()}}
    return under if over is None else over


def _monitor(
    file: _File, name: str, body: Any, defaults: Any, registries: Registries, errors: list[str],
) -> MonitorConfig | None:
    place: Place = ("monitors", name)
    if not _NAME.match(name):
        errors.append(str(file.error(place, "a monitor's name has letters, digits, _ . and -, at most 100 characters")))
        return None
    if not isinstance(body, dict):
        errors.append(str(file.error(place, "must be a mapping")))
        return None
    base = file.path.parent

    def source(value: Any) -> BaseModel:
        data = {"path": value} if isinstance(value, str) else value
        if not isinstance(data, dict):
            raise ValueError("a source is an address or a mapping with kind")
        kind = data.get("kind") or registries.sniff(str(data.get("path", "")), base)
        if kind not in registries.sources:
            raise ValueError(f"there is no source {kind!r}; allowed are {', '.join(sorted(registries.sources))}")
        return registries.sources[kind].model_validate({**data, "kind": kind}, context={"base": base})

    merged = {**_merge(defaults, body), "name": name}
    built: MonitorConfig | None = _validate(file, MonitorConfig, merged, place, errors, {"source": source, "base": base})
    if built is not None:
        own = {item.name for item in built.quality.custom}
        for section, known, noun in (
            ("quality", {*registries.metrics, *own}, "metric"), ("drift", set(registries.statistics), "statistic"),
        ):
            limits = getattr(built, section).limits
            for name in limits:
                kind = name.removeprefix(ESTIMATED if section == "quality" else "").partition("[")[0]
                if kind not in known:
                    message = f"there is no {noun} {kind!r}; allowed are {', '.join(sorted(known))}"
                    errors.append(str(file.error((*place, section, "limits", name), message)))
                elif kind in own and name != kind:
                    errors.append(str(file.error((*place, section, "limits", name), f"{kind} is a custom metric: it needs no labels and has no classes")))
        for index, item in enumerate(built.quality.custom):
            if item.name in registries.metrics:
                errors.append(str(file.error((*place, "quality", "custom", index), f"{item.name!r} is the name of a metric; give it another")))
        asked = {*(built.quality.metrics or []), *(n.removeprefix(ESTIMATED) for n in built.quality.limits)}
        if "business_value" in asked and not built.quality.costs:
            errors.append(str(file.error((*place, "quality", "costs"), "business_value needs costs, such as {tp: 5, fp: -1, fn: -20, tn: 0}")))
        for index, kind in enumerate(built.drift.statistics or []):
            if kind not in registries.statistics:
                message = f"there is no statistic {kind!r}; allowed are {', '.join(sorted(registries.statistics))}"
                errors.append(str(file.error((*place, "drift", "statistics", index), message)))
        for index, kind in enumerate(built.quality.metrics or []):
            if kind not in registries.metrics:
                message = f"there is no metric {kind!r}; allowed are {', '.join(sorted(registries.metrics))}"
                errors.append(str(file.error((*place, "quality", "metrics", index), message)))
    return built


def _channels(main: _File, registries: Registries, errors: list[str]) -> dict[str, BaseModel]:
    built: dict[str, BaseModel] = {}
    section = main.data.get("channels") or {}
    if not isinstance(section, dict):
        raise main.error(("channels",), "must be a mapping from name to channel")
    for name, body in section.items():
        place: Place = ("channels", name)
        kind = str(body.get("kind")) if isinstance(body, dict) else "None"
        if kind not in registries.channels:
            allowed = ", ".join(sorted(registries.channels))
            errors.append(str(main.error((*place, "kind"), f"there is no channel {kind!r}; allowed are {allowed}")))
            continue
        unresolved = {place[-1] for place in main.missing if place[:2] == ("channels", name)}
        body = {key: "unset" if key in unresolved else value for key, value in body.items()}
        channel = _validate(main, registries.channels[kind], body, place, errors)
        if channel is not None:
            built[name] = channel
    built.setdefault("log", registries.channels["log"].model_validate({"kind": "log"}))
    return built


def _owners(
    config: Config, homes: Mapping[str, _File], main: _File, registries: Registries, errors: list[str],
) -> Config:
    from monitor.config.alerts import Owner

    owners, channels = dict(config.owners), dict[str, Any](config.channels)
    warnings = list(config.warnings)
    for name, monitor in config.monitors.items():
        if monitor.owner in owners:
            continue
        kind, _, target = monitor.owner.partition(":")
        place: Place = ("monitors", name, "owner")
        if kind == "slack" and target:
            data, missing = resolve({"kind": "slack", "token": "${env:SLACK_BOT_TOKEN}", "channel": target}, main.path.parent)
            if missing:
                errors.append(str(homes[name].error(place, next(iter(missing.values())))))
                continue
            channels[monitor.owner] = registries.channels["slack"].model_validate(data)
            owners[monitor.owner] = Owner(channels=[monitor.owner])
        elif monitor.owner in channels:
            owners[monitor.owner] = Owner(channels=[monitor.owner])
        else:
            allowed = ", ".join([*config.owners, *channels, "slack:#CHANNEL"])
            errors.append(str(homes[name].error(place, f"there is no owner {monitor.owner!r}; allowed are {allowed}")))
    for name, owner in owners.items():
        for channel in owner.all_channels:
            if channel not in channels:
                message = f"there is no channel {channel!r}; allowed are {', '.join(channels)}"
                errors.append(str(main.error(("owners", name, "channels"), message)))
        silent = [severity for severity in ("warn", "fail") if not owner.route(severity)]
        if silent or (owner.escalate is not None and not owner.escalate.to):
            what = f"no channel for {' and '.join(silent)}" if silent else "escalate.to names no channel"
            errors.append(str(main.error(("owners", name), f"{what}: such messages would reach nobody")))
        if len(owner.all_channels) < 2:
            warnings.append(f"owner {name} has one channel; when it is down, nobody is told in another way")
    if "platform" not in owners and owners:
        first = next((m.owner for m in config.monitors.values() if m.owner in owners), next(iter(owners)))
        owners["platform"] = owners[first]
    return config.model_copy(update={"owners": owners, "channels": channels, "warnings": warnings})


def _secrets(config: Config, files: list[_File], errors: list[str]) -> None:
    used = {channel for owner in config.owners.values() for channel in owner.all_channels}
    for file in files:
        for place, problem in file.missing.items():
            if len(place) > 1 and place[0] == "channels" and place[1] not in used:
                continue
            if place[:1] == ("web",) and place[-1:] == ("token",):
                continue
            errors.append(str(file.error(place, problem)))
