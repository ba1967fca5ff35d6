"""Reads the bytes a peer got, with parsers that share nothing with the hub's encoders."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from hub.core.ports import PublishRequest
from tests.support.stream import Place, Push, View

Read = Callable[[bytearray], list[Push]]
"""Takes whole frames off the front and returns what they say; leaves an unfinished one."""


def read_lines(received: bytearray) -> list[Push]:
    """Reads native pushes, one on each line."""
    whole = received.rfind(b"\n") + 1
    text, received[:] = bytes(received[:whole]), received[whole:]
    return [json.loads(line) for line in text.splitlines()]


def read_websocket(received: bytearray) -> list[Push]:
    """Reads native pushes out of unmasked, final text frames (RFC 6455 section 5.2)."""
    pushes: list[Push] = []
    at = 0
    while len(received) >= at + 2:
        size, start = received[at + 1], at + 2
        if size == 126:
            start = at + 4
            size = int.from_bytes(received[at + 2 : start])
        if len(received) < start + size:
            break
        assert received[at] == 0x81, f"frame begins with {received[at]:#x}"
        pushes.append(json.loads(received[start : start + size]))
        at = start + size
    del received[:at]
    return pushes


def read_sse(received: bytearray) -> list[Push]:
    """Native pushes in event blocks; one that only says where to resume is `{"op": "positions"}`
    with its id as `_id`."""
    whole = received.rfind(b"\n\n") + 1
    if not whole:
        return []
    text, received[:] = received[: whole + 1].decode(), received[whole + 1 :]
    return [push for block in text.split("\n\n") if block for push in _event(block)]


def _event(block: str) -> list[Push]:
    fields = [line.partition(": ") for line in block.split("\n")]
    values = {name: value for name, _, value in fields if name}
    assert len(values) == sum(bool(name) for name, _, _ in fields), block
    if "data" not in values:
        assert "id" not in values, f"parsers forget the id of a block without data: {block}"
        return []
    push: Push = json.loads(values["data"])
    assert values.get("event", "message") == push["op"], block
    return [push | ({"_id": values["id"]} if "id" in values else {})]


class Truth(Protocol):
    """The checker's knowledge beside the streams: what was published and
    what history still holds."""

    def at(self, channel: str, epoch: str, offset: int) -> PublishRequest: ...

    def later(self, channel: str, epoch: str, offset: int) -> Iterable[PublishRequest]: ...

    def lost(self, channel: str, epoch: str, offset: int) -> bool:
        """Whether it got lost between the broker and the node."""
        ...

    def oldest(self, channel: str, epoch: str) -> int | None:
        """The first offset that history holds; None for an epoch that is over."""
        ...

    def conflates(self, channel: str) -> bool: ...


@dataclass
class Followed(View):
    """One subscription, as far as its peer can tell."""

    missing: int = 0
    """Publications announced as `slow` or `conflated`."""
    was_reset: bool = False
    heard: dict[str, str] = field(default_factory=dict)
    """The last thing said of each member: `join` or `leave`."""

    def _reset(self, start: Place) -> None:
        if not self.delivered and not self.announced:
            # The peer made up the place to resume from, so it was never in that epoch.
            self.position = None
        super()._reset(start)

    @property
    def epoch(self) -> str:
        return "" if self.position is None else self.position[0]

    @property
    def cursor(self) -> int:
        """The last offset that arrived or was announced as missing."""
        return 0 if self.position is None else self.position[1]


class StreamChecker:
    """Follows one peer's stream and asserts at every push what the hub promises."""

    def __init__(self, truth: Truth, read: Read) -> None:
        self._truth = truth
        self._read = read
        self.connection = ""
        self.followed: dict[str, Followed] = {}
        self.wanted: dict[str, tuple[str, str]] = {}
        """By command id: `subscribe` or `unsubscribe`, and the channel."""
        self.asked: dict[str, str] = {}
        """By command id: where it asked to resume."""
        self.answers: dict[str, dict[str, object]] = {}
        self.goodbye: int | None = None
        self.mark: str | None = None
        self.outcomes: dict[tuple[str, str, int], set[str]] = {}
        """By channel, epoch and offset: `message`, or the reason of the gap it was in."""
        self._rest = bytearray()
        self._seen = 0

    def feed(self, received: bytearray, *, was_short: bool) -> None:
        """Check what came since the last call."""
        self._rest += received[self._seen :]
        self._seen = len(received)
        for push in self._read(self._rest):
            assert self.goodbye is None, f"after goodbye: {push}"
            self._check(push, was_short=was_short)

    @property
    def cut(self) -> bool:
        """Whether the stream ends in the middle of a frame."""
        return bool(self._rest)

    def _check(self, push: Push, *, was_short: bool) -> None:
        op = push["op"]
        if op == "welcome":
            self.connection = str(push["connection"])
        elif op == "goodbye":
            assert isinstance(push["code"], int)
            self.goodbye = push["code"]
        elif op == "reply":
            self._reply(push)
        elif op == "positions":
            self._mark(str(push["_id"]))
        elif op not in {"heartbeat", "expiring"}:
            name = str(push["channel"])
            assert name in self.followed, f"not subscribed: {push}"
            self._ordered(name, self.followed[name], push, was_short=was_short)

    def _ordered(self, name: str, place: Followed, push: Push, *, was_short: bool) -> None:
        op = push["op"]
        if op == "message":
            self._message(name, place, push)
        elif op == "gap":
            self._gap(name, place, push, was_short=was_short)
        elif op == "presence_reset":
            place.heard.clear()
        else:
            member = push["member"]
            assert isinstance(member, dict)
            assert place.heard.get(member["id"]) != op, f"twice: {push}"
            place.heard[member["id"]] = str(op)

    def _reply(self, push: Push) -> None:
        op, name = self.wanted.pop(str(push["id"]), ("", ""))
        ok = push.get("ok")
        if not isinstance(ok, dict):
            return
        if op == "subscribe":
            assert name not in self.followed, f"subscribed twice: {push}"
            self.followed[name] = self._started(name, ok, self.asked.get(str(push["id"])))
            self.answers[str(push["id"])] = ok
        elif op == "unsubscribe":
            del self.followed[name]

    def follow(self, name: str, start: str) -> Followed:
        """Return a subscription that begins at `start`; its own publications do not come."""

        def own(at: Place) -> bool:
            return self._truth.at(name, *at).skip_connection == self.connection

        followed = Followed(name, may_skip=own)
        followed.feed({"op": "subscribed", "position": start})
        return followed

    def _started(self, name: str, said: Push, since: str | None) -> Followed:
        """A subscription as the hub says that it starts."""
        start = str(said["position"])
        followed = self.follow(name, start if since is None else since)
        if since is not None and since != start:
            assert not said["recovered"], f"it was to resume at {since}: {said}"
            followed.feed({"op": "subscribed", "position": start})
        return followed

    def _own(self, place: Followed, offset: int) -> bool:
        return place.may_skip((place.epoch, offset))

    def _message(self, name: str, place: Followed, push: Push) -> None:
        offset = push["offset"]
        assert isinstance(offset, int)
        place.feed(push)
        place.check()
        published = self._truth.at(name, place.epoch, offset)
        assert json.loads(published.data) == push["data"]
        assert published.key == push.get("key")
        assert published.skip_connection != self.connection, f"echoed: {push}"
        assert push.get("_id", f"{place.epoch}:{offset}") == f"{place.epoch}:{offset}"
        self._came(name, place, (offset,), "message")

    def _came(self, name: str, place: Followed, offsets: Iterable[int], what: str) -> None:
        for offset in offsets:
            self.outcomes.setdefault((name, place.epoch, offset), set()).add(what)

    def _gap(self, name: str, place: Followed, push: Push, *, was_short: bool) -> None:
        before = place.epoch
        place.feed(push)
        place.check()
        if push["reason"] == "reset":
            place.was_reset = True
            if place.epoch != before:
                self._came(name, place, range(1, place.cursor + 1), "reset")
            return
        first, last = push["from"], push["to"]
        assert isinstance(first, int)
        assert isinstance(last, int)
        self._justify(name, place, push, range(first, last + 1), was_short=was_short)
        self._came(name, place, range(first, last + 1), str(push["reason"]))

    def _justify(
        self, name: str, place: Followed, push: Push, offsets: range, *, was_short: bool
    ) -> None:
        """A gap names only what is really missing, for the reason it gives."""
        reason, truth, epoch = push["reason"], self._truth, place.epoch
        others = [offset for offset in offsets if not self._own(place, offset)]
        if reason == "broker":
            assert all(truth.lost(name, epoch, offset) for offset in offsets), push
        elif reason == "expired":
            oldest = truth.oldest(name, epoch)
            kept = [o for o in offsets if truth.at(name, epoch, o).keep_ms != 0] if oldest else []
            assert oldest is None or all(o < oldest for o in kept), f"history holds it: {push}"
        else:
            assert reason in {"slow", "conflated"}, push
            assert was_short, f"the peer took everything: {push}"
            assert others, f"nothing is missing: {push}"
            place.missing += len(others)
        if reason == "conflated":
            assert truth.conflates(name), push
            for offset in others:
                key = truth.at(name, epoch, offset).key
                newer = truth.later(name, epoch, offset)
                assert key is not None, push
                assert any(later.key == key for later in newer), f"nothing replaced {offset}"

    def _mark(self, text: str) -> None:
        """A position to resume from is never ahead of what the peer has got."""
        self.mark = text
        for pair in text.split(","):
            name, _, position = pair.partition("=")
            if (place := self.followed.get(name)) is None:
                continue
            why = self._why_ahead(place, position)
            if why and ("unsubscribe", name) in self.wanted.values():
                # It may have left, although it was not answered yet: the place is that of what it
                # asked for since then.
                why = self._why_beyond_since(name, position)
            assert not why, why

    def _why_beyond_since(self, name: str, position: str) -> str:
        """Returns the fault of a subscription that skips publications behind the
        position that it asked for."""
        ids = [id_ for id_, wanted in self.wanted.items() if wanted == ("subscribe", name)]
        if not ids or (asked := self.asked.get(ids[-1])) is None:
            return ""
        (epoch, _, offset), (since, _, last) = position.rpartition(":"), asked.rpartition(":")
        if epoch != since:
            return f"{position}: the reset of {asked} was not told"
        return f"{position}: beyond {asked}, not answered" if int(offset) > int(last) else ""

    def _why_ahead(self, place: Followed, position: str) -> str:
        at = f"{place.epoch}:{place.cursor}"
        if place.reset_due is not None:
            return "" if position == at else f"{position}: the reset was not told"
        epoch, _, offset = position.rpartition(":")
        if epoch != place.epoch:
            return f"{position}: at {place.epoch}"
        return f"{position}: at {at}" if place.silent(int(offset) + 1) else ""

    def finished(self, name: str, head: int) -> None:
        """Checks that all up to `head` has arrived or was announced,
        once everything was drained."""
        silent = self.followed[name].silent(head + 1)
        assert not silent, f"{name}: {silent} neither arrived nor were announced"


class ResumingChecker(StreamChecker):
    """Follows a peer through all its connections; the peer resumes from what it was told last.

    What it has got is known here and not to the peer: it comes back from a place that names too
    little (and gets something twice), or never from one that names too much.
    """

    def __init__(self, truth: Truth, read: Read) -> None:
        super().__init__(truth, read)
        self.places: dict[str, str] = {}
        """Where the peer resumes, by channel: all it keeps."""
        self._known: dict[str, Followed] = {}
        """Of channels whose `subscribed` has not come on this connection."""

    def connects(self, channels: Iterable[str]) -> None:
        """A new connection begins, and a frame that had come in part over
        the one before is dropped."""
        self._known |= self.followed
        self.followed.clear()
        self._rest.clear()
        self._seen = 0
        self.goodbye = None
        self._channels = frozenset(channels)

    def _check(self, push: Push, *, was_short: bool) -> None:
        if push["op"] == "subscribed":
            self._subscribed(push)
        else:
            super()._check(push, was_short=was_short)
        if push["op"] != "positions" and "_id" in push:
            self._mark(str(push["_id"]))

    def _subscribed(self, push: Push) -> None:
        name = str(push["channel"])
        since = self.places.get(name)
        place = self._started(name, push, since)
        if (known := self._known.pop(name, None)) is not None:
            # It has been here before: nothing of it may be passed over without a word.
            assert since is not None, f"it was told of no place to resume from: {push}"
            place.missing, place.was_reset = known.missing, known.was_reset
        self.followed[name] = place

    def _mark(self, text: str) -> None:
        if "=" not in text:
            [name] = self._channels
            text = f"{name}={text}"
        super()._mark(text)
        self.remember(dict(pair.split("=") for pair in text.split(",")))

    def remember(self, places: dict[str, str]) -> None:
        """Keep what the hub told, which names every channel and none ahead of what has come."""
        assert places.keys() == self._channels, f"{places} of {self._channels}"
        for name, text in places.items():
            # What it asked for itself may be behind what it got, also by an epoch.
            asked = self.places.get(name) == text
            if not asked and (place := self._known.get(name)) is not None:
                why = self._why_ahead(place, text)
                assert not why, why
        self.places = places
