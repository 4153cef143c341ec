"""Incidents of sources that monitors share: what joins is said, what is one monitor's own is not swallowed, what is late changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from checks.core.window import Window
from monitor import hands
from monitor.announce import SILENCE, Announcer
from tests.integration.test_upkeep import HOUR, Ward, null_days
from tests.integration.test_upkeep import ward as ward
from tests.streams import START, Stream, nulls, shift

MINUTES = timedelta(minutes=1)
TWO: dict[str, Any] = {"monitors": {"a": {}, "b": {}}, "owners": {"ops": {"channels": ["chat"]}, "platform": {"channels": ["boss"]}}}


def silent(here: Ward, monitor: str, reason: str, day: int = 40) -> None:
    """The source of a monitor falls silent, or speaks again."""
    prepared = here.app.watch.pipeline.known(monitor)
    assert prepared is not None
    window = Window(START + timedelta(days=day), START + timedelta(days=day + 1))
    with here.app.store.write() as connection:
        Announcer(here.app.config, prepared).beside(connection, SILENCE, window, here.clock.now(), reason)


def test_trouble_that_joins_an_acknowledged_source_incident_is_said(ward: Callable[..., Ward]) -> None:
    here = ward(null_days(40), **TWO)
    here.day(40)
    here.later(6 * MINUTES)
    assert (here.said(), here.said("boss")) == (["fired"], ["fired"])
    hands.acknowledge(here.app.store, "INC-3", "ann", here.clock.now())
    here.later(HOUR)
    for name in "ab":
        silent(here, name, "no event since noon")
    here.later(6 * MINUTES)
    assert here.said("boss") == ["fired", "updated"]
    assert "also silence" in here.inboxes["boss"].messages[-1].text
    here.later(20 * HOUR)
    assert here.said("boss") == ["fired", "updated"], "the ack stops reminders"


def own_contracts(folder: Path) -> dict[str, Any]:
    """Monitors a and b on one source, each with its own contract and owner: a on c0, b on c0 and x1."""
    text = (folder / "contract.yaml").read_text()
    (folder / "b.yaml").write_text(text.replace("{name: x1}", "{name: x1, required: true}"))
    return {"a": {}, "b": {"contract": "b.yaml", "owner": "third"}}


OWNERS = {"ops": {"channels": ["chat"]}, "third": {"channels": ["pager"]}, "platform": {"channels": ["boss"]}}


@pytest.fixture
def pair(tmp_path: Path) -> Callable[[Stream], Ward]:
    def make(stream: Stream) -> Ward:
        from tests.acceptance.harness import CONTRACT

        (tmp_path / "contract.yaml").write_text(CONTRACT)
        drift = {"budget": "1 per 365d", "weights": {"x1": 0, "c0": 0}}
        return Ward(tmp_path, stream, monitors=own_contracts(tmp_path), owners=OWNERS, drift=drift)

    return make


def test_what_one_monitor_breaks_by_itself_is_told_though_its_sources_incident_is_open(pair: Callable[[Stream], Ward]) -> None:
    here = pair(Stream(faults={40: [nulls("c0", 0.01)], 42: [nulls("x1", 0.05)]}))
    here.day(40)
    here.later(6 * MINUTES)
    assert (here.said("chat"), here.said("pager")) == (["fired"], ["fired"]), "of the source"
    here.day(41)
    here.day(42)
    here.later(6 * MINUTES)
    news = [m for m in here.inboxes["pager"].messages if m.payload["data"].get("monitor") == "b"]
    assert "x1.required" in news[-1].text, "b's own trouble, by its own incident"
    assert not [m for m in here.inboxes["chat"].messages if m.payload["data"].get("monitor") == "b"]


def test_what_began_in_another_window_is_no_trouble_of_the_source(pair: Callable[[Stream], Ward]) -> None:
    """a has been broken for days; then b breaks for a reason of its own."""
    here = pair(Stream(faults={40: [nulls("x1", 0.05)], 41: [nulls("x1", 0.05)], 42: [nulls("x1", 0.05), nulls("c0", 0.01)]}))
    for day in (40, 41, 42):
        here.day(day)
        here.later(6 * MINUTES)
    assert here.said("boss") == []
    assert [m.payload["data"]["monitor"] for m in here.inboxes["chat"].messages if m.payload["type"] == "incident.fired"] == ["a"]
    assert [m.payload["data"]["monitor"] for m in here.inboxes["pager"].messages if m.payload["type"] == "incident.fired"] == ["b"]


def test_when_all_but_one_have_recovered_that_one_speaks_for_itself(pair: Callable[[Stream], Ward]) -> None:
    faults = {day: [nulls("x1", 0.05)] for day in range(41, 47)} | {40: [nulls("c0", 0.01), nulls("x1", 0.05)]}
    here = pair(Stream(faults=faults))
    for day in (40, 41, 42, 43, 44):
        here.day(day)
        here.later(6 * MINUTES)
    assert here.said("boss")[-1] == "resolved"
    assert "only b still is in trouble: told apart" in here.inboxes["boss"].messages[-1].text
    told = [m for m in here.inboxes["pager"].messages if m.payload["data"].get("monitor") == "b"]
    assert told
    assert "goes on by itself" in told[0].text


def test_a_source_whose_monitors_are_well_again_is_not_repeated_while_it_waits_to_be_sure(ward: Callable[..., Ward]) -> None:
    here = ward(null_days(40), **TWO)
    here.day(40)
    here.later(6 * MINUTES)
    here.day(41)
    for _ in range(11):
        here.later(4 * HOUR)
    assert [k for k in here.said("boss") if k == "reminder"] == here.said("boss")[1:2], "at most the one of before they were well"
    here.later(8 * HOUR)
    assert here.said("boss")[-1] == "resolved"


def test_resolving_a_sources_incident_by_hand_tells_what_goes_on(ward: Callable[..., Ward]) -> None:
    here = ward(null_days(40, 41), **TWO)
    here.day(40)
    here.later(6 * MINUTES)
    hands.resolve(here.app.watch.pipeline, "INC-3", "ann", "it is not the table")
    here.later(MINUTES)
    assert here.said() == ["fired", "resolved", "updated", "updated"]
    assert {m.payload["data"]["monitor"] for m in here.inboxes["chat"].messages[-2:]} == {"a", "b"}


def test_an_incident_that_comes_back_is_nobodys_until_somebody_acknowledges_it_again(ward: Callable[..., Ward]) -> None:
    here = ward(null_days(40, 43), owners={"ops": {"channels": ["chat"], "escalate": {"after": "30m", "to": ["boss"]}}})
    here.day(40)
    hands.acknowledge(here.app.store, "INC-1", "ann", here.clock.now())
    for day in (41, 42, 43):
        here.day(day)
    assert here.said() == ["fired", "resolved", "updated"]
    assert "firing since 2024-02-13" in here.inboxes["chat"].messages[-1].text
    here.later(31 * MINUTES)
    assert here.said("boss") == ["reminder"], "escalated: the ack was of what is over"


def test_a_fail_that_began_as_a_warning_is_escalated_from_when_it_became_one(ward: Callable[..., Ward]) -> None:
    here = ward(Stream(), owners={"ops": {"channels": ["chat"]}, "platform": {"channels": ["chat"], "escalate": {"after": "30m", "to": ["boss"]}}})
    here.day(40)
    prepared = here.app.watch.pipeline.known("m")
    assert prepared is not None
    window = Window(START + timedelta(days=40), START + timedelta(days=41))
    for severity in ("warn", "fail"):
        with here.app.store.write() as connection:
            Announcer(here.app.config, prepared).beside(connection, SILENCE, window, here.clock.now(), "quiet", severity)
        if severity == "warn":
            hands.acknowledge(here.app.store, "INC-1", "ann", here.clock.now())
            here.later(10 * HOUR)
    here.later(MINUTES)
    assert here.said("boss") == [], "half an hour from the fail on"
    here.later(30 * MINUTES)
    assert "not acknowledged for 31 minutes" in here.inboxes["boss"].messages[-1].text


def test_a_message_that_waits_for_its_siblings_waits_for_the_end_of_a_silence_too(ward: Callable[..., Ward]) -> None:
    here = ward(null_days(40), monitors={"a": {}, "b": {"contract": None}, "c": {"contract": None}}, owners=TWO["owners"])
    here.day(40)
    hands.silence(here.app.store, here.app.config, "all", timedelta(days=1), "planned", "ann", here.clock.now())
    here.later(6 * MINUTES)
    assert here.said() == []
    here.later(25 * HOUR)
    assert here.said() == ["fired"]


def test_a_source_is_silenced_when_all_of_its_monitors_are(ward: Callable[..., Ward]) -> None:
    here = ward(null_days(40), **TWO)
    for name in "ab":
        hands.silence(here.app.store, here.app.config, name, timedelta(days=3), "planned", "ann", here.clock.now())
    here.day(40)
    here.later(6 * MINUTES)
    assert (here.said(), here.said("boss")) == ([], [])


def test_a_window_that_comes_late_is_not_learned_and_does_not_end_the_incident_that_it_began(ward: Callable[..., Ward]) -> None:
    """x0 is a standard deviation higher from day 42 on; the file of day 42 comes a day late."""
    stream = Stream(faults={day: [shift("x0", 1.0)] for day in range(42, 60)})
    here = ward(stream, contract=None, drift={"budget": "1 per 30d"}, window={"size": "1d", "lateness": "1h", "revise": "3d"})
    for day in (40, 41):
        here.day(day)
    here.world.written = 43  # that of day 42 is not there yet
    here.world.stream.write(here.path.parent, range(43, 44), labels=False)
    here.clock.move_to(START + timedelta(days=44, hours=2))
    here.app.watch.tick()
    here.world.stream.write(here.path.parent, range(42, 43), labels=False)
    here.world.written = 44
    here.clock.advance(HOUR)
    here.app.watch.tick()
    for day in range(44, 50):
        here.day(day)
    with here.app.store.read() as connection:
        from monitor.store import incidents

        (drift,) = [i for i in incidents.listing(connection) if i.family == "drift"]
        assert (drift.state, drift.first_window, drift.windows) == ("open", START + timedelta(days=42), 8)
        assert len(incidents.tokens(connection, "m")) == 1, "one incident, one token"


def test_a_monitor_that_cannot_be_looked_at_is_told_to_the_platform_once_and_its_end_too(ward: Callable[..., Ward]) -> None:
    here = ward(Stream(), owners=TWO["owners"])
    folder = here.path.parent
    (folder / "predictions").rename(folder / "away")
    for _ in range(6):
        here.clock.advance(2 * HOUR)
        here.app.watch.tick()
    assert [k for k in here.said("boss") if k != "reminder"] == ["fired"]
    assert "it cannot be watched" in here.inboxes["boss"].messages[0].text
    (folder / "away").rename(folder / "predictions")
    here.clock.advance(12 * HOUR)
    here.app.watch.tick()
    assert here.said("boss")[-1] == "resolved"


def test_when_settings_are_not_known_reminders_and_the_end_are_still_said(ward: Callable[..., Ward]) -> None:
    here = ward(null_days(40), owners=TWO["owners"])
    here.day(40)
    folder = here.path.parent
    (folder / "predictions").rename(folder / "away")
    here.config["monitors"]["m"]["window"] = {"size": "1d", "lateness": "3h"}
    here.open()
    here.later(5 * HOUR)
    assert here.said() == ["fired", "reminder"]
    hands.resolve(here.app.watch.pipeline, "INC-1", "ann", "")
    here.later(MINUTES)
    assert here.said() == ["fired", "reminder", "resolved"]
    assert json.loads(json.dumps(here.inboxes["chat"].messages[-1].payload))["data"]["state"] == "closed"
