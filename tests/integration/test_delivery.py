"""Channels, the outbox worker and rollbacks against a real HTTP server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook

from checks.core.errors import DeliveryError
from monitor.clock import ManualClock
from monitor.delivery.channels.slack import SlackChannel, SlackConfig, blocks
from monitor.delivery.channels.webhook import WebhookChannel, WebhookConfig, signing_key
from monitor.delivery.http import public, request, shown
from monitor.delivery.retry import delay, retry_after
from monitor.delivery.worker import OutboxWorker
from monitor.ports import Message, Sender
from monitor.store import incidents, outbox
from monitor.store.store import Store
from tests.receiver import Receiver, Script

NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)
LOCAL = ["127.0.0.1"]


def message(text: str = "m broke & <!channel>", sequence: int = 1) -> Message:
    return Message(f"msg_{sequence}", {"type": "incident.fired", "timestamp": "x", "data": {"n": sequence, "headline": text}}, text, sequence, NOW)


def hook(url: str, **options: Any) -> WebhookChannel:
    return WebhookChannel(WebhookConfig(url=SecretStr(url), allow_hosts=LOCAL, **options))


def test_a_webhook_is_signed_as_the_standard_says(receiver: Receiver) -> None:
    hook(receiver.url, secret=SecretStr("a secret")).send(message())
    (got,) = receiver.ledger
    now = datetime.now(UTC)
    assert got.headers["webhook-id"] == "msg_1"
    assert got.headers["webhook-timestamp"] == str(int(NOW.timestamp()))
    signed = f"msg_1.{got.headers['webhook-timestamp']}.".encode() + got.body
    independent = base64.b64encode(hmac.new(b"a secret", signed, hashlib.sha256).digest()).decode()
    assert got.headers["webhook-signature"] == f"v1,{independent}"
    library = Webhook(signing_key("a secret"))
    fresh = {"webhook-id": "i", "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": library.sign("i", now, got.body.decode())}
    assert library.verify(got.body, fresh) == got.json


def test_a_body_that_is_too_large_is_cut_and_not_refused(receiver: Receiver) -> None:
    long = message("x" * 10_000)
    long.payload["data"]["members"] = [{"reason": "y" * 10_000}] * 5
    hook(receiver.url).send(long)
    assert len(receiver.ledger[0].body) < 20_000
    sent = receiver.ledger[0].json["data"]
    assert sent["truncated"]
    assert [len(m["reason"]) for m in sent["members"]] == [299] * 5, "shortened, and still there"


@pytest.mark.parametrize(
    ("script", "retryable", "disable"),
    [
        (Script(500), True, False), (Script(503), True, False), (Script(429, headers={"retry-after": "30"}), True, False), (Script(408), True, False),
        (Script(drop=True), True, False), (Script(400), False, False), (Script(401), False, True), (Script(404), False, True),
        (Script(410), False, True), (Script(302, headers={"location": "/elsewhere"}), False, False),
    ],
)
def test_what_is_tried_again_and_what_is_not(receiver: Receiver, script: Script, retryable: bool, disable: bool) -> None:
    receiver.script.append(script)
    with pytest.raises(DeliveryError) as caught:
        hook(receiver.url).send(message())
    assert (caught.value.retryable, caught.value.disable) == (retryable, disable)
    assert len(receiver.ledger) == 1, "neither a redirect nor a retry behind the outbox's back"
    if script.status == 429:
        assert caught.value.retry_after == 30


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30), ("999999", 3600), ("0", 1), ("garbage", None), ("Fri, 01 Mar 2024 12:02:00 GMT", 120), ("nan", None)],
)
def test_retry_after_is_read_as_seconds_or_date_and_clamped(text: str, seconds: float | None) -> None:
    assert retry_after({"Retry-After": text}, NOW) == seconds


def test_waits_grow_and_carry_at_most_a_fifth_of_jitter() -> None:
    for attempt, base in enumerate((5, 30, 120, 300, 900, 1800, 3600, 3600), start=1):
        waits = [delay(f"key{k}", attempt).total_seconds() for k in range(50)]
        assert all(0.8 * base <= w <= 1.2 * base for w in waits)
        assert len(set(waits)) > 40


def test_only_public_addresses_and_allowed_hosts_are_connected_to(receiver: Receiver) -> None:
    for address in ("127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "224.0.0.1"):
        assert not public(address)
    assert public("93.184.216.34")
    for url, resolver in (
        (receiver.url, None), ("https://rebind.example/x", lambda host, port: ["127.0.0.1"]), ("https://m.example/", lambda h, p: ["93.184.216.34", "10.0.0.1"]),
        ("ftp://example.org/", None),
    ):
        with pytest.raises(DeliveryError) as caught:
            request("POST", url, **({"resolver": resolver} if resolver else {}))  # type: ignore[arg-type]
        assert not caught.value.retryable
        assert not caught.value.sent
    assert receiver.ledger == []
    assert "token" not in shown("https://hooks.example/secret-token")


def test_slack_webhooks_succeed_only_with_200_and_ok(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    channel = SlackChannel(SlackConfig(url=SecretStr(receiver.url + "/services/T0/secretpath"), allow_hosts=LOCAL))
    with caplog.at_level("DEBUG"):
        channel.send(message())
    sent = receiver.ledger[0].json
    assert "&lt;!channel&gt;" in sent["text"]
    assert "secretpath" not in caplog.text
    for script, retryable in ((Script(200, "<html>welcome</html>"), True), (Script(500, "no"), True), (Script(404, "no_service"), False), (Script(drop=True), True)):
        receiver.script.append(script)
        with pytest.raises(DeliveryError) as caught:
            channel.send(message())
        assert caught.value.retryable is retryable
        assert "secretpath" not in str(caught.value)
    assert len(receiver.ledger) == 5


def test_slack_bots_succeed_only_with_ok_true(receiver: Receiver) -> None:
    channel = SlackChannel(SlackConfig(token=SecretStr("xoxb-1"), channel="#ml", api_url=receiver.url + "/api/", allow_hosts=LOCAL))
    receiver.script.append(Script(200, json.dumps({"ok": True, "ts": "17.1"})))
    assert channel.send(message()) == "#ml:17.1"
    for reply, retryable, disable in (
        (Script(200, json.dumps({"ok": False, "error": "token_revoked"})), False, True),
        (Script(200, json.dumps({"ok": False, "error": "internal_error"})), True, False), (Script(429, "{}", {"retry-after": "7"}), True, False),
    ):
        receiver.script.append(reply)
        with pytest.raises(DeliveryError) as caught:
            channel.send(message())
        assert (caught.value.retryable, caught.value.disable) == (retryable, disable)
    assert caught.value.retry_after == 7


def test_slack_texts_stay_within_its_limits() -> None:
    made = blocks("<" * 200_000)
    assert len(made) <= 50
    assert all(len(b["text"]["text"]) <= 3000 for b in made)


class Flaky:
    """A channel that fails as told."""

    def __init__(self, *errors: DeliveryError | None) -> None:
        self.errors = list(errors)
        self.got: list[int] = []

    def send(self, message: Message) -> str:
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        self.got.append(message.sequence)
        return "ok"


@pytest.fixture
def deliver(store: Store, clock: ManualClock) -> Callable[..., OutboxWorker]:
    with store.write() as connection:
        incident = incidents.create(
            connection, monitor="m", family="data", severity="fail", state="open", headline="h", owner="o", opened_at=NOW, reason="",
            first_window=NOW, last_window=NOW, windows=1, members=[], facts={}, hold_by="",
        )
        for sequence in (1, 2, 3):
            for destination in ("good", "bad"):
                outbox.add(connection, incident=incident, sequence=sequence, destination=destination, kind="alert", payload={}, text="", now=clock.now())

    def make(**senders: Sender) -> OutboxWorker:
        return OutboxWorker(store, lambda: senders, clock, "me")

    return make


def test_messages_arrive_in_order_and_a_failing_channel_holds_no_other_up(deliver: Callable[..., OutboxWorker], store: Store, clock: ManualClock) -> None:
    good, bad = Flaky(), Flaky(DeliveryError("down", retryable=True), DeliveryError("down", retryable=True))
    worker = deliver(good=good, bad=bad)
    worker.deliver_due()
    assert (good.got, bad.got) == ([1, 2, 3], [])
    clock.advance(timedelta(seconds=7))
    worker.deliver_due()
    assert bad.got == []
    clock.advance(timedelta(seconds=40))
    worker.deliver_due()
    assert bad.got == [1, 2, 3]
    with store.read() as connection:
        assert outbox.counts(connection) == {"sent": 6}


def test_a_dead_letter_releases_the_next_and_stays_visible(deliver: Callable[..., OutboxWorker], store: Store) -> None:
    bad = Flaky(DeliveryError("refused", retryable=False))
    deliver(good=Flaky(), bad=bad).deliver_due()
    assert bad.got == [2, 3]
    with store.read() as connection:
        assert outbox.counts(connection) == {"sent": 5, "dead": 1}


def test_after_a_day_of_failure_a_message_is_a_dead_letter(deliver: Callable[..., OutboxWorker], store: Store, clock: ManualClock) -> None:
    class Down:
        def send(self, message: Message) -> str:
            raise DeliveryError("down", retryable=True)

    worker = deliver(good=Flaky(), bad=Down())
    for _ in range(60):
        worker.deliver_due()
        clock.advance(timedelta(hours=1, minutes=15))
    with store.read() as connection:
        assert outbox.counts(connection) == {"sent": 3, "dead": 3}


class Stuck:
    """A channel whose first message hangs until it is let go; ``while_stuck`` runs meanwhile."""

    def __init__(self, while_stuck: Callable[[], None], error: DeliveryError | None) -> None:
        self._while_stuck, self._error, self.got = while_stuck, error, list[int]()

    def send(self, message: Message) -> str:
        if not self.got:
            self.got.append(message.sequence)
            self._while_stuck()
            if self._error is not None:
                raise self._error
        return "ok"


@pytest.mark.parametrize("error", [None, DeliveryError("no reply", retryable=True, sent=True)])
def test_a_live_lease_is_left_alone_and_a_worker_that_lost_its_lease_changes_nothing(
    deliver: Callable[..., OutboxWorker], store: Store, clock: ManualClock, error: DeliveryError | None,
) -> None:
    other = Flaky()

    def another_daemon() -> None:
        worker = OutboxWorker(store, lambda: {"bad": other, "good": Flaky()}, clock, "another")
        clock.advance(timedelta(seconds=59))
        worker.deliver_due()
        assert other.got == [], "the lease still holds"
        clock.advance(timedelta(seconds=2))
        worker.deliver_due()
        assert other.got == [1, 2, 3]

    deliver(good=Flaky(), bad=Stuck(another_daemon, error)).deliver_due()
    with store.read() as connection:
        assert outbox.counts(connection) == {"sent": 6}, "what the other has recorded stands"


def test_of_two_that_claim_the_same_message_one_gets_it(store: Store, deliver: Callable[..., OutboxWorker], clock: ManualClock) -> None:
    with store.write() as connection:
        rows = connection.execute(outbox.t.outbox.select().where(outbox.t.outbox.c.destination == "bad").order_by(outbox.t.outbox.c.id)).all()
        first = outbox._lease(connection, rows[0], "one", clock.now() + timedelta(seconds=60))
        second = outbox._lease(connection, rows[0], "two", clock.now() + timedelta(seconds=60))
    assert (first is not None, second) == (True, None)


def test_what_waits_behind_a_lease_or_a_hold_is_not_told_before_it(store: Store, deliver: Callable[..., OutboxWorker], clock: ManualClock) -> None:
    """Messages 1 and 2 were claimed by a daemon that is gone, 3 came later; then 2 is held: nothing of what people read overtakes."""
    with store.write() as connection:
        (head,) = outbox.claim(connection, "gone", clock.now(), timedelta(seconds=60), ("alert",), 1, "bad")
        outbox.claim_rest(connection, head, "gone", clock.now(), clock.now() + timedelta(seconds=60))
    clock.advance(timedelta(seconds=61))
    people = Flaky()
    people.people = True  # type: ignore[attr-defined]
    deliver(good=Flaky(), bad=people).deliver_due()
    assert people.got == [3], "one message for all three"
    with store.read() as connection:
        assert outbox.counts(connection) == {"sent": 6}


def test_a_held_message_in_between_keeps_what_follows_waiting(store: Store, deliver: Callable[..., OutboxWorker], clock: ManualClock) -> None:
    table = outbox.t.outbox
    with store.write() as connection:
        connection.execute(table.update().where(table.c.destination == "bad", table.c.sequence == 2).values(state=outbox.HELD, held_by="catchup:m"))
    people = Flaky()
    people.people = True  # type: ignore[attr-defined]
    worker = deliver(good=Flaky(), bad=people)
    worker.deliver_due()
    assert people.got == [1]
    with store.write() as connection:
        outbox.let_go(connection, [r.id for r in outbox.held(connection, "catchup:m")], clock.now())
    worker.deliver_due()
    assert people.got == [1, 3]


def many(store: Store, clock: ManualClock, count: int, destination: str = "bad") -> None:
    with store.write() as connection:
        for _ in range(count):
            incident = incidents.create(
                connection, monitor="m", family="data", severity="fail", state="open", headline="h", owner="o", opened_at=NOW, reason="",
                first_window=NOW, last_window=NOW, windows=1, members=[], facts={}, hold_by="",
            )
            outbox.add(connection, incident=incident, sequence=1, destination=destination, kind="alert", payload={}, text="", now=clock.now())


class Counting(Flaky):
    def __init__(self, error: DeliveryError | None, then: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.error, self.tries, self.then = error, 0, then

    def send(self, message: Message) -> str:
        self.tries += 1
        self.then()
        if self.error is not None:
            raise self.error
        return "ok"


def test_a_destination_that_is_down_is_probed_by_one_message_and_not_by_all(store: Store, clock: ManualClock) -> None:
    many(store, clock, 10)
    down = Counting(DeliveryError("503", retryable=True))
    worker = OutboxWorker(store, lambda: {"bad": down}, clock, "me")
    for _ in range(20):
        worker.deliver_due()
    assert down.tries == 3, "three failures in a row shut it"
    clock.advance(timedelta(minutes=3))
    for _ in range(20):
        worker.deliver_due()
    assert down.tries == 4


def test_a_destination_that_says_when_to_come_again_gets_nothing_of_any_incident_before(store: Store, clock: ManualClock) -> None:
    many(store, clock, 5)
    busy = Counting(DeliveryError("429", retryable=True, retry_after=30.0))
    worker = OutboxWorker(store, lambda: {"bad": busy}, clock, "me")
    worker.deliver_due()
    clock.advance(timedelta(seconds=29))
    many(store, clock, 1)
    worker.deliver_due()
    assert busy.tries == 1
    clock.advance(timedelta(seconds=2))
    worker.deliver_due()
    assert busy.tries == 2


def test_what_is_not_begun_within_half_the_lease_is_given_back(store: Store, clock: ManualClock) -> None:
    many(store, clock, 3)
    slow = Counting(None, lambda: clock.advance(timedelta(seconds=31)))
    worker = OutboxWorker(store, lambda: {"bad": slow}, clock, "me")
    claimed = worker._claim("bad")
    assert len(claimed) == 3
    begun = clock.now()
    worker._one(claimed[0])
    assert clock.now() - begun > timedelta(seconds=30)
    worker._release(claimed[1:])
    with store.read() as connection:
        assert outbox.counts(connection) == {"sent": 1, "pending": 2}


def test_what_waited_long_in_a_silence_is_not_given_up_after_one_failure(store: Store, clock: ManualClock) -> None:
    many(store, clock, 5)
    clock.advance(timedelta(hours=25))
    flaky = Counting(DeliveryError("503", retryable=True))
    worker = OutboxWorker(store, lambda: {"bad": flaky}, clock, "me")
    worker.deliver_due()
    with store.read() as connection:
        assert outbox.counts(connection) == {"pending": 5}
    flaky.error = None
    clock.advance(timedelta(minutes=10))
    worker.deliver_due()
    with store.read() as connection:
        assert outbox.counts(connection) == {"sent": 5}


def test_a_message_that_a_working_channel_never_takes_is_no_lack_of_progress(store: Store, clock: ManualClock) -> None:
    """One incident's message is answered 500 for hours; what waits behind it is not stuck, as its head is tried again and again."""
    with store.write() as connection:
        incident = incidents.create(
            connection, monitor="m", family="data", severity="fail", state="open", headline="h", owner="o", opened_at=NOW, reason="",
            first_window=NOW, last_window=NOW, windows=1, members=[], facts={}, hold_by="",
        )
        for sequence in (1, 2, 3):
            outbox.add(connection, incident=incident, sequence=sequence, destination="bad", kind="alert", payload={}, text="", now=clock.now())
    down = Counting(DeliveryError("500", retryable=True))
    worker = OutboxWorker(store, lambda: {"bad": down}, clock, "me")
    worker.deliver_due()
    with store.write() as connection:
        from monitor.store import destinations

        destinations.works(connection, "bad")  # as if another incident's message had arrived
    with store.read() as connection:
        assert outbox.stuck(connection, clock.now() + timedelta(hours=1)) == 0
    many(store, clock, 1, "idle")
    with store.read() as connection:
        assert outbox.stuck(connection, clock.now() + timedelta(hours=1)) == 1


def test_a_dead_rollback_is_not_replayed_and_a_lost_action_is_not_sent_again(store: Store, clock: ManualClock) -> None:
    with store.write() as connection:
        incident = incidents.create(
            connection, monitor="m", family="quality", severity="fail", state="open", headline="h", owner="o", opened_at=NOW, reason="",
            first_window=NOW, last_window=NOW, windows=1, members=[], facts={}, hold_by="",
        )
        for kind, destination in (("rollback", "rollback:m"), ("action", "action:m:x:1")):
            outbox.add(connection, incident=incident, sequence=0, destination=destination, kind=kind, payload={}, text="", now=clock.now())
        (row,) = outbox.claim(connection, "gone", clock.now(), timedelta(seconds=60), ("rollback",))
        outbox.record(connection, row, clock.now(), state=outbox.DEAD, outcome="failed")
        assert outbox.replay(connection, None, None, clock.now()) == 0
        outbox.claim(connection, "gone", clock.now(), timedelta(seconds=60), ("action",))
    clock.advance(timedelta(seconds=61))
    told: list[str] = []
    train = Counting(None)
    OutboxWorker(store, lambda: {"action:m:x:1": train}, clock, "me", lambda row, why: told.append(why)).deliver_due()
    assert train.tries == 0
    assert len(told) == 1
    assert "whether it was done is not known" in told[0]
