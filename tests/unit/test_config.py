"""Configuration: every refusal names file, line, key and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from checks.core.errors import ConfigError
from monitor.app import load_config, registries
from monitor.config.schema import json_schema

GOOD = """\
channels:
  hook: {kind: webhook, url: "${env:HOOK_URL}"}
owners:
  ops: {channels: [log]}
monitors:
  m:
    owner: ops
    source: logs/
    columns: {timestamp: at, id: id, score: s, version: v}
    labels: labels/
    quality: {limits: {roc_auc: {warn_below: 0.6, fail_below: 0.5, clear_above: 0.65}}}
    rollback: {url: "https://example.org/rollback"}
"""


def load(tmp_path: Path, text: str) -> object:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return load_config(path)


def test_the_least_that_works_has_the_documented_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLACK_BOT_TOKEN", "xoxb-secret")
    path = tmp_path / "config.yaml"
    path.write_text(
        'monitors:\n  fraud:\n    owner: "slack:#fraud-oncall"\n    source: logs/\n    labels: labels/\n'
        "    columns: {timestamp: scored_at, id: txn_id, score: p_fraud, version: model_version}\n    task: binary\n"
    )
    config = load_config(path)
    monitor = config.monitors["fraud"]
    assert config.store == f"sqlite:///{tmp_path}/driftd.db"
    assert (monitor.window.timezone, monitor.window.size, monitor.rollback.effective_mode) == ("UTC", "auto", "off")
    assert (monitor.drift.budget.count, monitor.drift.budget.period.days) == (1, 30)
    assert config.owners["platform"] == config.owners["slack:#fraud-oncall"]
    assert "xoxb-secret" not in repr(config)


@pytest.mark.parametrize(
    ("change", "line", "words"),
    [
        (("    owner: ops", "    ownr: ops"), 7, "unknown key; did you mean 'owner'"),
        (("    owner: ops", "    owner: nobody"), 7, "there is no owner 'nobody'; allowed are ops"),
        (("[log]", "[pager]"), 4, "there is no channel 'pager'; allowed are"),
        (("kind: webhook", "kind: pigeon"), 2, "there is no channel 'pigeon'; allowed are alertmanager, apprise, email, log, pagerduty, slack, webhook"),
        (("clear_above: 0.65", "clear_above: 0.55"), 11, "would clear below where it fires"),
        (("roc_auc: {warn", "auc: {warn"), 11, "there is no metric 'auc'; allowed are accuracy"),
        (("source: logs/", "source: {kind: ftp, path: x}"), 8, "there is no source 'ftp'; allowed are csv, delta, feather, jsonl, parquet"),
        (("{timestamp: at, ", "{"), 9, "timestamp: this key is needed"),
        (("[log]", "[hook]"), 2, "the environment variable HOOK_URL is not set"),
        (("labels: labels/", "window: {timezone: Mars/Olympus}"), 10, "is not a time zone"),
        (("labels: labels/", "window: {size: soon}"), 10, "is not a duration"),
        (("    rollback: {url", "    rollback: {mode: auto, ur"), 12, "unknown key"),
        (("    rollback: {url: ", "    drift: {budget: few}\n    rollback: {url: "), 12, "is not a budget"),
        (("    owner: ops", "    owner: ops\n    owner: ops"), 8, "there twice"),
        (("    rollback: {url: ", "    rollback: {to_version: latest, url: "), 12, "'latest' is no version of its own"),
        (("    rollback: {url: ", "    rollback: {body: '{{ to_verison }}', url: "), 12, "there is no 'to_verison' for a template; allowed are dry_run, "),
        (("    rollback: {url: ", "    rollback: {status_url: 'https://x/{{', url: "), 12, "not a Jinja template"),
        (("    rollback: {url: ", "    actions: [{on: drift, url: 'https://x/{{ to_version }}'}]\n    rollback: {url: "), 12, "there is no 'to_version'"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line(tmp_path: Path, change: tuple[str, str], line: int, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD.replace(*change))
    assert words in str(caught.value)
    assert f"config.yaml:{line}:" in str(caught.value)


def test_a_missing_secret_of_a_channel_that_nobody_uses_is_no_error(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD)


def test_secrets_come_from_files_and_the_environment_and_show_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hook").write_text("https://example.org/T0/secretpath\n")
    config = load(tmp_path, GOOD.replace("${env:HOOK_URL}", "${file:hook}").replace("[log]", "[hook]"))
    assert "secretpath" not in repr(config)
    assert config.channels["hook"].url.get_secret_value() == "https://example.org/T0/secretpath"  # type: ignore[attr-defined]


def test_two_monitors_of_one_name_are_refused_across_included_files(tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text("monitors:\n  m:\n    owner: ops\n    source: x/\n    columns: {timestamp: at}\n")
    with pytest.raises(ConfigError, match=r"more.yaml:2: monitors.m: a monitor of this name"):
        load(tmp_path, "include: more.yaml\n" + GOOD)


def test_a_missing_file_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file; name one with -c FILE or DRIFTD_CONFIG"):
        load_config(tmp_path / "none.yaml")


def test_the_schema_knows_every_kind_of_source_and_channel() -> None:
    schema = json_schema(registries())
    kinds = [item["properties"]["kind"]["const"] for item in schema["properties"]["channels"]["additionalProperties"]["anyOf"]]
    assert sorted(kinds) == ["alertmanager", "apprise", "email", "log", "pagerduty", "slack", "webhook"]
    assert "timezone" in schema["$defs"]["WindowConfig"]["properties"]


def test_a_contract_is_a_path_or_says_which_object_and_where_the_others_lie(tmp_path: Path) -> None:
    body = json_schema(registries())["$defs"]["MonitorConfig"]["properties"]["contract"]
    assert [part.get("type") or part["$ref"] for part in body["anyOf"]] == ["string", "#/$defs/ContractConfig", "null"]
    text = "monitors:\n  m: {owner: log, source: rows.parquet, columns: {timestamp: at}, contract: %s}\n"
    for given, wanted in (("c.yaml", (None, [])), ("{path: c.yaml, object: rows, data: {kinds: kinds.csv}}", ("rows", ["csv"]))):
        (tmp_path / "config.yaml").write_text(text % given)
        contract = load_config(tmp_path / "config.yaml").monitors["m"].contract
        assert contract is not None
        assert contract.path == tmp_path / "c.yaml"
        assert (contract.object, [source.kind for source in contract.data.values()]) == wanted
