"""What time and people do to incidents: reminders, escalation, digests, silences, resolving, sources, and what is told to whom."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from checks.core.errors import ConfigError
from monitor import hands
from monitor.app import build, inline_workers, load_config
from monitor.heartbeat import health
from monitor.ports import Message
from monitor.store import incidents, outbox, tables
from tests.acceptance.harness import CONTRACT
from tests.streams import START, Stream, nulls
from tests.world import Inbox, World

HOUR = timedelta(hours=1)


class Ward:
    """A world with channels of its own: monitors on one stream, an inbox for each channel."""

    def __init__(self, folder: Path, stream: Stream, monitors: dict[str, dict[str, Any]] | None = None, owners: dict[str, Any] | None = None, people: bool = False, **keys: Any) -> None:
        (folder / "contract.yaml").write_text(CONTRACT)
        keys = {"contract": "contract.yaml", "labels": None, "drift": {"budget": "1 per 365d"}, "service": {"silent_after": "90d"}, **keys}
        self.world = World(folder, stream, **keys)
        self.world.app.close()
        self.path = folder / "config.yaml"
        config = json.loads(self.path.read_text())
        base = config["monitors"].pop("m")
        config["channels"] = {name: {"kind": "log"} for name in ("chat", "pager", "boss")}
        config["owners"] = owners or {"ops": {"channels": ["chat"]}}
        for name, changes in (monitors or {"m": {}}).items():
            config["monitors"][name] = {**base, "owner": "ops", **changes}
        self.config = config
        self.inboxes = {name: Inbox() for name in ("log", "chat", "pager", "boss")}
        for inbox in self.inboxes.values():
            inbox.people = people  # type: ignore[attr-defined]
        self.clock = self.world.clock
        self.open()

    def open(self) -> None:
        self.path.write_text(json.dumps(self.config))
        if getattr(self, "app", None) is not None:
            self.app.close()
        self.app = build(load_config(self.path), clock=self.clock, workers=inline_workers(), channels=dict(self.inboxes), reports=False)

    def day(self, index: int) -> None:
        self.world.write(index + 1, labels=False)
        self.clock.move_to(START + timedelta(days=index + 1, hours=2))
        self.app.watch.tick()

    def later(self, length: timedelta) -> None:
        self.clock.advance(length)
        self.app.watch.keep_up()
        self.app.watch.deliver()

    def said(self, channel: str = "chat") -> list[str]:
        return [str(m.payload["type"]).removeprefix("incident.") for m in self.inboxes[channel].messages]

    def incident(self, number: int = 1) -> Any:
        with self.app.store.read() as connection:
            return incidents.get(connection, number)


def null_days(*days: int) -> Stream:
    return Stream(faults={day: [nulls("c0", 0.01)] for day in days})


@pytest.fixture
def ward(tmp_path: Path) -> Callable[..., Ward]:
    made: list[Ward] = []

    def make(stream: Stream, **options: Any) -> Ward:
        made.append(Ward(tmp_path, stream, **options))
        return made[-1]

    return make


def test_a_fail_is_repeated_every_four_hours_five_times_and_then_in_a_daily_digest(ward: Callable[..., Ward]) -> None:
    here = ward(null_days(40, 41, 42, 43))
    here.day(40)
    assert here.said() == ["fired"]
    for _ in range(5):
        here.later(4 * HOUR)
    assert here.said() == ["fired", *["reminder"] * 5]
    assert "reminder 5 of 5; from now on only in the daily digest" in here.inboxes["chat"].messages[-1].text
    here.later(4 * HOUR)
    assert len(here.said()) == 6
    here.later(21 * HOUR)
    here.later(HOUR)
    assert here.said()[6:] == ["digest"]
    assert "INC-1 [fail] m: c0.required" in here.inboxes["chat"].messages[-1].text
    here.later(25 * HOUR)
    assert here.said()[6:] == ["digest", "digest"]


def test_an_ack_stops_reminders_and_escalation_and_nothing_else(ward: Callable[..., Ward]) -> None:
    here = ward(null_days(40), owners={"ops": {"channels": ["chat"], "escalate": {"after": "30m", "to": ["boss"]}}})
    here.day(40)
    text = hands.acknowledge(here.app.store, "INC-1", "ann", here.clock.now())
    assert "no rollback is pending" in text
    here.later(30 * HOUR)
    assert (here.said(), here.said("boss")) == (["fired"], [])
    here.day(41)
    assert here.said() == ["fired", "resolved"]
    with pytest.raises(ConfigError, match="nothing of it is left"):
        hands.acknowledge(here.app.store, "INC-1", "ann", here.clock.now())


def test_a_fail_that_nobody_acknowledges_is_escalated_once_and_those_hear_the_end(ward: Callable[..., Ward]) -> None:
    here = ward(null_days(40), owners={"ops": {"channels": ["chat"], "escalate": {"after": "30m", "to": ["boss"]}}})
    here.day(40)
    here.later(29 * timedelta(minutes=1))
    assert here.said("boss") == []
    here.later(timedelta(minutes=2))
    here.later(timedelta(minutes=30))
    assert here.said("boss") == ["reminder"]
    assert "not acknowledged for 31 minutes: escalated to boss" in here.inboxes["boss"].messages[0].text
    here.day(41)
    assert here.said("boss")[-1] == "resolved"


def test_a_silence_lets_messages_wait_and_its_end_says_what_matters(ward: Callable[..., Ward]) -> None:
    here = ward(null_days(40, 43), people=True)
    hands.silence(here.app.store, here.app.config, "m", timedelta(days=5), "a planned migration", "ann", here.clock.now())
    for day in (40, 41, 42, 43):
        here.day(day)
    assert here.said() == []
    here.later(timedelta(days=2))
    (told,) = here.inboxes["chat"].messages
    assert told.payload["data"]["covers"] == [1, 2, 3], "fired, resolved, open again: one message"
    assert "Delivered late, as one: fired" in told.text


def test_what_came_and_went_under_a_silence_is_a_line(ward: Callable[..., Ward]) -> None:
    here = ward(null_days(40))
    hands.silence(here.app.store, here.app.config, "m", timedelta(days=3), "a planned migration", "ann", here.clock.now())
    here.day(40)
    here.day(41)
    here.later(timedelta(days=2))
    assert here.said() == ["summary"]
    assert "CAME AND WENT while it was silenced (a planned migration): 1 incident" in here.inboxes["chat"].messages[0].text


def test_of_an_incident_that_was_known_and_goes_on_the_end_of_a_silence_says_nothing(ward: Callable[..., Ward]) -> None:
    here = ward(null_days(40, 41, 42, 43))
    here.day(40)
    hands.silence(here.app.store, here.app.config, "INC-1", timedelta(hours=30), "we know", "ann", here.clock.now())
    here.later(20 * HOUR)
    here.later(9 * HOUR)
    assert here.said() == ["fired"]
    here.later(2 * HOUR)
    assert here.said() == ["fired"], "it was known: its end says nothing"
    here.later(4 * HOUR)
    assert here.said() == ["fired", "reminder"], "reminders go on from the end of the silence"


def test_an_overlapping_silence_goes_on_and_one_can_be_ended(ward: Callable[..., Ward]) -> None:
    here = ward(null_days(40, 41))
    now = here.clock.now()
    hands.silence(here.app.store, here.app.config, "m", timedelta(days=3), "long", "ann", now)
    here.day(40)
    hands.silence(here.app.store, here.app.config, "all", timedelta(days=6), "longer", "bob", here.clock.now())
    here.later(timedelta(days=3))
    assert here.said() == [], "the other silence lasts"
    hands.unsilence(here.app.store, 2, "bob", here.clock.now())
    here.later(timedelta(minutes=1))
    assert here.said()[0] == "fired"
    for target, length, reason in (("m", 8, "x"), ("m", 1, " "), ("nobody", 1, "x"), ("INC-99", 1, "x")):
        with pytest.raises(ConfigError):
            hands.silence(here.app.store, here.app.config, target, timedelta(days=length), reason, "ann", here.clock.now())


def test_an_incident_closed_by_hand_opens_anew_with_the_next_breach(ward: Callable[..., Ward]) -> None:
    here = ward(null_days(40, 41))
    here.day(40)
    hands.resolve(here.app.watch.pipeline, "INC-1", "ann", "known")
    here.app.watch.deliver()
    assert here.said() == ["fired", "resolved"]
    assert here.incident().reason == "resolved by hand"
    here.app.watch.tick()
    assert here.said() == ["fired", "resolved"]
    here.day(41)
    assert here.said() == ["fired", "resolved", "fired"]
    assert here.incident(2).state == "open"


def test_an_incident_outside_the_fold_that_was_closed_by_hand_stays_closed_until_it_was_over_once(ward: Callable[..., Ward]) -> None:
    here = ward(Stream(), service={"silent_after": "3h"})
    here.day(40)
    here.clock.advance(10 * HOUR)
    here.app.watch.tick()
    assert here.incident().members == ["service.silence"]
    hands.resolve(here.app.watch.pipeline, "INC-1", "ann", "")
    here.clock.advance(2 * HOUR)
    here.app.watch.tick()
    here.day(41)
    assert here.said().count("fired") == 1
    here.clock.advance(10 * HOUR)
    here.app.watch.tick()
    assert here.said().count("fired") == 2


def test_what_is_open_of_a_monitor_that_was_removed_is_closed(ward: Callable[..., Ward]) -> None:
    here = ward(null_days(40), monitors={"m": {}, "other": {"upstream": "another"}})
    here.day(40)
    assert here.said().count("fired") == 2
    del here.config["monitors"]["m"]
    here.open()
    here.later(HOUR)
    assert (here.incident(1).reason, here.incident(2).state) == ("removed", "open")
    assert "the monitor was removed" in here.inboxes["chat"].messages[-1].text


def test_who_heard_the_beginning_hears_the_end_wherever_the_severity_went(ward: Callable[..., Ward]) -> None:
    here = ward(null_days(40, 41), owners={"ops": {"channels": {"warn": ["chat"], "fail": ["pager"]}}})
    here.day(40)
    assert (here.said(), here.said("pager")) == ([], ["fired"])
    with here.app.store.write() as connection:
        incidents.update(connection, 1, severity="warn")
        hands_row = incidents.get(connection, 1)
    assert hands_row.severity == "warn"
    here.day(41)
    here.day(42)
    assert here.said("pager")[-1] == "resolved"


def test_three_monitors_of_one_source_are_one_incident_and_a_late_joiner_is_told(ward: Callable[..., Ward]) -> None:
    owners = {"ops": {"channels": ["chat"]}, "third": {"channels": ["pager"]}, "platform": {"channels": ["boss"]}}
    here = ward(null_days(40, 41, 42), monitors={"a": {}, "b": {}, "c": {"owner": "third"}}, owners=owners)
    here.day(40)
    assert here.said() == [], "they wait for each other"
    here.later(timedelta(minutes=6))
    (told,) = here.inboxes["chat"].messages
    assert sorted(told.payload["data"]["monitors"]) == ["a", "b", "c"]
    assert "3 of the 3 monitors on" in told.text
    assert here.said("pager") == here.said("boss") == ["fired"]
    for day in (43, 44, 45, 46):
        here.day(day)
        here.later(timedelta(minutes=6))
    assert here.said()[-1] == "resolved"
    with here.app.store.read() as connection:
        source = connection.execute(tables.incident.select().where(tables.incident.c.scope == "source")).one()
    assert source.state == "closed"
    assert not [m for m in here.inboxes["chat"].messages if m.payload["data"].get("monitor") in ("a", "b", "c")]


def test_a_lone_failure_beside_an_open_source_incident_pages_by_itself(ward: Callable[..., Ward]) -> None:
    here = ward(null_days(40, 41, 42, 43), monitors={"a": {}, "b": {}, "c": {}, "d": {"contract": None, "columns": {"timestamp": "at", "id": "id", "score": "score", "ignore": ["c0"]}}})
    here.day(40)
    here.later(timedelta(minutes=6))
    assert here.said() == ["fired"]
    from checks.core.window import Window
    from monitor.announce import SILENCE, Announcer

    prepared = here.app.watch.pipeline.known("d")
    assert prepared is not None
    with here.app.store.write() as connection:
        window = Window(START + timedelta(days=40), START + timedelta(days=41))
        Announcer(here.app.config, prepared).beside(connection, SILENCE, window, here.clock.now(), "no event since noon")
    here.later(timedelta(minutes=6))
    assert here.inboxes["chat"].messages[-1].payload["data"]["monitor"] == "d"


def test_a_dead_letter_is_told_by_another_channel_at_most_once_an_hour_and_a_switched_off_channel_piles_nothing_up(ward: Callable[..., Ward]) -> None:
    from checks.core.errors import DeliveryError

    class Revoked:
        people = True

        def send(self, message: Message) -> str:
            raise DeliveryError("slack: token_revoked", retryable=False, disable=True)

    here = ward(null_days(40, 42, 44), owners={"ops": {"channels": ["chat", "pager"]}})
    here.app.watch._senders["chat"] = Revoked()
    for day in (40, 41, 42, 43, 44):
        here.day(day)
    told = [m for m in here.inboxes["pager"].messages if m.payload["data"].get("channel")]
    assert [m.payload["type"] for m in told] == ["incident.fired", *["incident.updated"] * (len(told) - 1)]
    assert 1 <= len(told) <= 5
    assert "channel chat is switched off: slack: token_revoked" in told[0].text
    assert len({m.payload["data"]["incident"] for m in told}) == 1, "one incident of the channel"
    with here.app.store.read() as connection:
        assert outbox.counts(connection).get("pending", 0) == 0
        assert outbox.counts(connection)["dead"] >= 3
    assert health(here.app.watch)[1]["channels_down"] == ["chat: slack: token_revoked"]
    number = told[0].payload["data"]["incident"]
    hands.acknowledge(here.app.store, number, "ann", here.clock.now())
    from monitor.store import destinations

    with here.app.store.write() as connection:
        destinations.works(connection, "chat")  # as driftd channel test does when its message arrives
    here.app.watch._senders["chat"] = here.inboxes["chat"]
    here.later(timedelta(minutes=1))
    last = here.inboxes["pager"].messages[-1]
    assert (last.payload["type"], last.payload["data"]["incident"]) == ("incident.resolved", number)
    assert "channel chat takes messages again" in last.text


def test_a_held_rollback_leaves_nothing_behind_that_spoils_the_health(tmp_path: Path) -> None:
    from tests.integration.test_pipeline import rollback_world

    world = rollback_world(tmp_path, "http://127.0.0.1:9", mode="approve", approve_within="1h")
    world.days(5)
    with world.app.store.read() as connection:
        (row,) = incidents.rollbacks(connection)
    hands.approve(world.app.watch.pipeline, f"INC-{row.incident_id}", row.payload_hash[:8], "ann")
    assert "is not sent" in hands.hold(world.app.store, f"INC-{row.incident_id}", "ann", world.clock.now())
    assert "hold is lifted" in hands.hold(world.app.store, f"INC-{row.incident_id}", "ann", world.clock.now(), release=True)
    world.clock.advance(timedelta(minutes=40))
    world.app.watch.keep_up()
    world.app.watch.deliver()
    with world.app.store.read() as connection:
        assert outbox.counts(connection).get("pending", 0) == 0
    assert not [r for r in health(world.app.watch)[1]["not_well"] if "messages wait" in r]
    hands.reject(world.app.watch.pipeline, f"INC-{row.incident_id}", "ann", "no")
    world.day(45)
    with world.app.store.read() as connection:
        assert incidents.rollbacks(connection)[0].state == "rejected"


def approvals(tmp_path: Path) -> tuple[World, Any]:
    """A world whose rollback waits for approval."""
    from tests.integration.test_pipeline import rollback_world

    world = rollback_world(tmp_path, "http://127.0.0.1:9", mode="approve", approve_within="1h")
    world.days(5)
    with world.app.store.read() as connection:
        (row,) = incidents.rollbacks(connection, None, ("awaiting_approval",))
    return world, row


def test_an_approval_while_rollbacks_are_stopped_keeps_the_proposal(tmp_path: Path) -> None:
    world, row = approvals(tmp_path)
    store, name, code = world.app.store, f"INC-{row.incident_id}", row.payload_hash[:8]
    hands.stop_rollbacks(store, "ann", world.clock.now())
    with pytest.raises(ConfigError, match=r"not approved now: .*kill switch is set; the proposal stays until"):
        hands.approve(world.app.watch.pipeline, name, code, "ann")
    assert health(world.app.watch)[1]["rollbacks_stopped"] == "set in the store by ann"
    hands.stop_rollbacks(store, "ann", world.clock.now(), world.app.config)
    assert "approved by ann" in hands.approve(world.app.watch.pipeline, name, code, "ann")


def test_a_hold_on_any_incident_of_a_model_stops_its_rollbacks_and_tells_who_was_told(tmp_path: Path) -> None:
    world, row = approvals(tmp_path)
    with world.app.store.write() as connection:  # the same bad version has another incident, too
        other = incidents.create(
            connection, monitor="m", family="service", severity="fail", state="open", headline="h", owner="log", opened_at=world.clock.now(), reason="",
            first_window=row.created_at, last_window=row.created_at, windows=1, members=["service.deployment[v2]"], facts={"members": []}, hold_by="",
        )
    said = hands.hold(world.app.store, f"INC-{other}", "ann", world.clock.now(), config=world.app.config)
    assert f"the rollback of INC-{row.incident_id} from v2 to v1 is not sent" in said
    world.app.watch.deliver()
    assert world.inbox.messages[-1].payload["data"]["why"] == "rollback cancelled: held by ann"
    world.app.watch.pipeline.prepare("m")
    from monitor.proposals import Proposals

    prepared = world.app.watch.pipeline.known("m")
    assert prepared is not None
    with world.app.store.read() as connection:
        proposal = Proposals(world.app.config, prepared).again(connection, row.incident_id, world.clock.now())
    assert [(g.name, g.detail) for g in proposal.guards if not g.passed] == [("timely", f"held by ann (on INC-{other})")]


def test_what_one_person_refused_is_not_proposed_by_another_incident_of_the_model(tmp_path: Path) -> None:
    world, row = approvals(tmp_path)
    hands.reject(world.app.watch.pipeline, f"INC-{row.incident_id}", "ann", "v2 stays")
    from monitor.proposals import Proposals

    prepared = world.app.watch.pipeline.known("m")
    assert prepared is not None
    with world.app.store.read() as connection:
        proposal = Proposals(world.app.config, prepared).again(connection, row.incident_id, world.clock.now())
    assert ("versions", "a person has refused to go from v2 to v1") in [(g.name, g.detail) for g in proposal.guards if not g.passed]


def test_dead_letters_of_a_channel_that_is_off_are_not_replayed_into_it(ward: Callable[..., Ward]) -> None:
    from monitor.store import destinations

    here = ward(null_days(40))
    here.day(40)
    with here.app.store.write() as connection:
        table = tables.outbox
        connection.execute(table.update().values(state="dead"))
        destinations.save(connection, "chat", disabled_at=here.clock.now())
        assert outbox.dead_of_switched_off(connection, None, None) == {"chat"}
        assert outbox.dead_of_switched_off(connection, None, "pager") == set()
