"""Encodes pushes as the native JSON objects of clients/PROTOCOL.md.

A publication's `data` is spliced in byte for byte, and never decoded and encoded again.
"""

from collections.abc import Mapping
from functools import lru_cache

import orjson

from hub.core.publication import ENDS, REMOVES, Position, Publication
from hub.core.pushes import (
    Change,
    Expiring,
    Gap,
    GapReason,
    Goodbye,
    Heartbeat,
    Join,
    JsonText,
    Leave,
    Member,
    PatternSubscribed,
    PatternUnsubscribed,
    PresenceReset,
    Push,
    Reply,
    State,
    Subscribed,
    Unsubscribed,
    Update,
    Welcome,
)

_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS


def encode(push: Push) -> bytes:
    """Encode a push as one JSON object on one line."""
    if isinstance(push, Publication):
        return _message(push)
    if isinstance(push, Reply):
        # Before the table, because each command has one.
        return orjson.dumps(_reply(push), default=_default, option=_OPTIONS)
    if isinstance(push, Welcome):
        # Before the table, because each connection has one.
        return _welcome(push)
    if isinstance(push, State):
        return _state(push)
    # orjson would encode dataclasses by itself, with their own field names.
    return orjson.dumps(_object(push), default=_default, option=_OPTIONS)


def _message(publication: Publication) -> bytes:
    # A channel name needs no JSON escape: its alphabet has no quote, backslash or control.
    channel, time_ms, data = publication.channel.encode(), publication.time_ms, publication.data
    optional = _optional(publication)
    if not publication.offset:
        return b'{"op":"message","channel":"%b","time":%d%b,"data":%b}' % (
            channel, time_ms, optional, data,
        )  # fmt: skip
    return b'{"op":"message","channel":"%b","offset":%d,"time":%d%b,"data":%b}' % (
        channel, publication.offset, time_ms, optional, data,
    )  # fmt: skip


def _state(state: State) -> bytes:
    rows = b",".join(map(row, state.rows))
    dropped = b',"dropped":%d' % state.dropped if state.dropped else b""
    more = b"true" if state.more else b"false"
    return b'{"op":"state","channel":"%b","position":"%b","rows":[%b],"more":%b%b}' % (
        state.channel.encode(), str(state.position).encode(), rows, more, dropped,
    )  # fmt: skip


def row(publication: Publication) -> bytes:
    """Encode a row of a channel's state, the newest publication of its key."""
    head = b'{"key":%b,"offset":%d,"time":%d' % (
        orjson.dumps(publication.key), publication.offset, publication.time_ms,
    )  # fmt: skip
    if publication.sender is not None:
        head += b',"from":' + orjson.dumps(publication.sender)
    if publication.tags is not None:
        head += b',"tags":' + publication.tags
    return head + b',"data":%b}' % publication.data


def _optional(publication: Publication) -> bytes:
    """Encode the members that few publications have."""
    text = b""
    if publication.key is not None:
        text += b',"key":' + orjson.dumps(publication.key)
    if publication.sender is not None:
        text += b',"from":' + orjson.dumps(publication.sender)
    if publication.tags is not None:
        text += b',"tags":' + publication.tags
    if publication.marks:
        text += _MARKS[publication.marks]
    return text


_MARKS = {
    REMOVES: b',"remove":true',
    ENDS: b',"end":true',
    REMOVES | ENDS: b',"remove":true,"end":true',
}


def _welcome(welcome: Welcome) -> bytes:
    # Ids and secrets, which the hub makes, need no JSON escape.
    node = _node(welcome.node, welcome.heartbeat_seconds, welcome.version)
    connection, secret = welcome.connection.encode(), welcome.secret.encode()
    given = b"" if welcome.given is None else b',"data":%b' % welcome.given
    return b'{"op":"welcome","connection":"%b",%b,"secret":"%b"%b}' % (
        connection, node, secret, given,
    )  # fmt: skip


@lru_cache(maxsize=8, typed=True)
def _node(name: str, heartbeat_seconds: float, version: str) -> bytes:
    """Encode the members of a welcome that all connections of a node share."""
    shared = {"node": name, "heartbeat_seconds": heartbeat_seconds, "version": version}
    return orjson.dumps(shared)[1:-1]


def _object(push: Push) -> Mapping[str, object]:  # noqa: C901, PLR0912 - one table, a case per push
    match push:
        case Subscribed():
            return {
                "op": "subscribed",
                "channel": push.channel,
                "position": str(push.position),
                "recovered": push.recovered,
                "replayed": push.replayed,
                **({"state": True} if push.state else {}),
                **({} if push.given is None else {"data": orjson.Fragment(push.given)}),
            }
        case PatternSubscribed():
            return {"op": "subscribed", "pattern": push.pattern, **_begun(push.positions)}
        case PatternUnsubscribed():
            return {"op": "unsubscribed", "pattern": push.pattern, "reason": push.reason}
        case Unsubscribed():
            return {"op": "unsubscribed", "channel": push.channel, "reason": push.reason}
        case Gap():
            return _gap(push)
        case Join():
            return _change("join", push)
        case Leave():
            return _change("leave", push)
        case Update():
            return _change("update", push)
        case PresenceReset():
            return {"op": "presence_reset", "channel": push.channel}
        case Heartbeat():
            return {"op": "heartbeat"}
        case Expiring():
            return {"op": "expiring", "in_seconds": push.in_seconds}
        case Goodbye():
            return _goodbye(push)
        case Reply():
            return _reply(push)
        case Publication() | Welcome() | State():
            raise AssertionError("spliced, see `encode`")


def _change(op: str, change: Change) -> Mapping[str, object]:
    return {"op": op, "channel": change.channel, "member": member_object(change.member)}


def _begun(positions: Mapping[str, Position]) -> Mapping[str, object]:
    return {
        "channels": list(positions),
        "positions": {name: str(position) for name, position in positions.items()},
    }


def _gap(gap: Gap) -> Mapping[str, object]:
    fields: dict[str, object] = {"op": "gap", "channel": gap.channel, "epoch": gap.epoch}
    if gap.reason is GapReason.RESET:
        fields["position"] = f"{gap.epoch}:{gap.last}"
    elif gap.unsequenced:
        fields["unsequenced"] = gap.unsequenced
    else:
        fields["from"], fields["to"] = gap.first, gap.last
    return fields | {"reason": gap.reason.value}


def _goodbye(goodbye: Goodbye) -> Mapping[str, object]:
    fields = {"op": "goodbye", "code": goodbye.code, "reason": goodbye.reason}
    if goodbye.reconnect_within_ms is None:
        return fields
    return fields | {"reconnect_within_ms": goodbye.reconnect_within_ms}


def _reply(reply: Reply) -> Mapping[str, object]:
    if (error := reply.error) is None:
        return {"op": "reply", "id": reply.id, "ok": reply.ok or {}}
    fields: dict[str, object] = {
        "code": error.code,
        "message": error.message,
        "retryable": error.retryable,
    }
    if error.retry_after_seconds is not None:
        fields["retry_after_seconds"] = error.retry_after_seconds
    return {"op": "reply", "id": reply.id, "error": fields}


def member_object(member: Member) -> Mapping[str, object]:
    fields: dict[str, object] = {"id": member.id, "connection": member.connection}
    if member.subject is not None:
        fields["sub"] = member.subject
    if member.data is not None:
        fields["data"] = orjson.Fragment(member.data)
    return fields


def _default(value: object) -> object:
    """Encode the values of a reply's `ok` that are not plain."""
    if isinstance(value, Publication):
        return publication_object(value)
    if isinstance(value, Member):
        return member_object(value)
    if isinstance(value, JsonText):
        return orjson.Fragment(value.text)
    raise TypeError(type(value).__name__)


def publication_object(publication: Publication) -> orjson.Fragment:
    """Encode a publication for an answer about one channel."""
    head = b'{"offset":%d' % publication.offset
    head += b',"time":%d' % publication.time_ms + _optional(publication)
    return orjson.Fragment(head + b',"data":%b}' % publication.data)
