"""The outcome of a batch over several attempts. Decisions only: no I/O, no clock.

A batch knows of each publication whether it happened, surely did not happen, or may have happened.
"""

import os
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypedDict, Unpack

import msgspec

from hub_client.errors import (
    NotPublishedError,
    OutcomeUnknownError,
    ProtocolError,
    PublishError,
    PublishRefusedError,
)
from hub_client.frames import Problem, check_json, encode, published, read_problem, split_array
from hub_client.messages import ManyChannels, Published, Tags

Outcome = Published | PublishError

# Error codes by which the hub vouches that the broker did not take the publication, and the
# statuses that say so whoever sends them (RFC 8470 section 5.2, RFC 6585 section 4).
_SURELY_NOT = frozenset({"not_published", "unavailable", "rate_limited"})
_SURELY_NOT_STATUS = frozenset({425, 429})
# RFC 9110 section 15.5.9, RFC 8470 section 5.2, RFC 6585 section 4: try again.
_TRANSIENT_STATUS = frozenset({408, 425, 429})
# Refusals of a request that one of its items may have earned for all: asked again in halves.
_PERHAPS_ONE_ITEM = frozenset({400, 413, 422})
_OK = range(200, 300)
# Guess at what the JSON around an item's data and channel takes, in bytes.
_ITEM_OVERHEAD_BYTES = 120
MAX_CHANNELS = 100
"""The most channels of one payload in one request, as the hub allows."""


class PublishOptions(TypedDict, total=False):
    """The options of a publication beside its channel and data, as the fields of `Outgoing`."""

    key: str | None
    idempotency_key: str | None
    tags: Tags | None
    remove: bool
    end: bool
    ttl_seconds: float | None
    history: bool


def new_idempotency_key() -> str:
    """Return a random key of 128 bits, in hexadecimal digits."""
    return os.urandom(16).hex()


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One publication to make; raise `ValueError` when `data` is no JSON."""

    channel: str
    data: bytes
    """The JSON, sent byte for byte."""
    key: str | None = None
    """Newer publications with the same key may replace this one for slow readers."""
    idempotency_key: str = field(default_factory=new_idempotency_key)
    """The key is the same for every attempt, so that a retry never publishes twice."""
    tags: Tags | None = None
    """Tags for filters, at most 16."""
    remove: bool = False
    """Whether the publication removes the row of its key."""
    end: bool = False
    """Whether the publication is the last one of its channel."""
    ttl_seconds: float | None = None
    """History holds the publication for this time; None stands for the channel's own time."""
    history: bool = True
    """Whether history holds the publication at all."""

    def __post_init__(self) -> None:
        # Bytes that are more or less than one document would become items of their own.
        check_json(self.data)

    @classmethod
    def of(  # noqa: PLR0913 - the fields of a publication
        cls,
        channel: str,
        data: object,
        *,
        key: str | None = None,
        idempotency_key: str | None = None,
        tags: Tags | None = None,
        remove: bool = False,
        end: bool = False,
        ttl_seconds: float | None = None,
        history: bool = True,
    ) -> "Outgoing":
        """Make one from any JSON value; raise `TypeError` for a value that JSON cannot hold.

        The encoding is msgspec's: dates become ISO 8601 strings, bytes base64, `Decimal` and `UUID`
        strings, dataclasses objects, and NaN null; a `msgspec.Raw` is sent byte for byte.
        """
        again = idempotency_key or new_idempotency_key()
        return cls(channel, encode(data), key, again, tags, remove, end, ttl_seconds, history)

    @classmethod
    def to_each(
        cls, channels: ManyChannels, data: object, **options: Unpack[PublishOptions]
    ) -> "tuple[Outgoing, ...]":
        """Make one for each of several channels, with one payload and one idempotency key.

        They travel as one where they are published together. Raises `ValueError` for a channel that
        is named twice, `TypeError` where the names are no list or tuple, and otherwise as `of`
        does.
        """
        if not isinstance(channels, list | tuple):
            kind = type(channels).__name__
            raise TypeError(f"channel is of type {kind}, expected a name or a list of names")
        if twice := next((name for name in channels if channels.count(name) > 1), None):
            raise ValueError(f"channel {twice!r} is named twice")
        if not channels:
            return ()
        first = cls.of(channels[0], data, **options)
        return tuple(replace(first, channel=channel) for channel in channels)

    def goes_with(self, other: "Outgoing") -> bool:
        """Return whether the two differ in their channels alone."""
        return (
            self.idempotency_key == other.idempotency_key
            and self.channel != other.channel
            and self._same_fields() == other._same_fields()
        )

    def fields(self) -> dict[str, object]:
        """Return the fields under their names on the wire, without the idempotency key."""
        fields: dict[str, object] = {"channel": self.channel, "data": msgspec.Raw(self.data)}
        if self.key is not None:
            fields["key"] = self.key
        if self.tags is not None:
            fields["tags"] = self.tags
        if self.remove:
            fields["remove"] = True
        if self.end:
            fields["end"] = True
        if self.ttl_seconds is not None:
            fields["ttl_seconds"] = self.ttl_seconds
        if not self.history:
            fields["history"] = False
        return fields

    def _same_fields(self) -> tuple[object, ...]:
        """All fields but the channel and the idempotency key."""
        return (
            self.data, self.key, self.tags, self.remove, self.end, self.ttl_seconds, self.history,
        )  # fmt: skip

    @property
    def size_bytes(self) -> int:
        """About the number of bytes in a request."""
        return len(self.data) + len(self.channel) + _ITEM_OVERHEAD_BYTES


class PublishBatch:
    """Publications that travel together, and the outcome of each."""

    def __init__(self, items: tuple[Outgoing, ...], *, max_items: int, max_bytes: int) -> None:
        self._items = items
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._pending = dict.fromkeys(range(len(items)))
        self._outcomes: dict[int, Outcome] = {}
        self._may_have_happened: dict[int, float] = {}
        """The time of the first attempt that may have reached the broker."""

    @property
    def pending(self) -> int:
        """The number of publications without an outcome."""
        return len(self._pending)

    @property
    def may_have_happened_already(self) -> bool:
        """Return whether an attempt may have reached the broker."""
        return bool(self._may_have_happened)

    def next_request(self) -> tuple[int, ...]:
        """Return the first pending publications that fit into one request, at least one.

        One payload for several channels is a request of its own.
        """
        pending = islice(self._pending, self._max_items)
        first = self._items[index := next(pending)]
        chosen = [index]
        room = self._max_bytes - first.size_bytes
        before, alike = first, False
        for index in pending:
            item = self._items[index]
            goes_with = item.goes_with(before)
            if len(chosen) == 1:
                alike = goes_with
            elif alike != goes_with:
                # What began to go together before this one travels by itself.
                return tuple(chosen if alike else chosen[:-1])
            room -= len(item.channel) if alike else item.size_bytes
            if room < 0 or (alike and len(chosen) == MAX_CHANNELS):
                break
            chosen.append(index)
            before = item
        return tuple(chosen)

    def body(self, indices: tuple[int, ...]) -> bytes:
        """Return the request's body; the hub answers it with an array."""
        items = [self._items[index] for index in indices]
        if len(items) > 1 and items[1].goes_with(items[0]):
            fields = _repeatable(items[0])
            del fields["channel"]
            return encode({"channels": [item.channel for item in items], **fields})
        return encode([_repeatable(item) for item in items])

    def answered(self, indices: tuple[int, ...], status: int, body: bytes, *, at: float) -> str:
        """Take the response to the attempt at `at`; return why a part of it is to be tried
        again."""
        answers = split_array(body)
        if answers is not None and len(answers) == len(indices):
            reasons = [
                self._answer(index, answer, at)
                for index, answer in zip(indices, answers, strict=True)
            ]
            return next((why for why in reasons if why), "")
        if status in _PERHAPS_ONE_ITEM and len(indices) > 1:
            self._max_items = len(indices) // 2
            return ""
        problem = read_problem(body)
        reasons = [self._problem(index, status, problem, at) for index in indices]
        return reasons[0]

    def may_have_happened(self, indices: tuple[int, ...], *, at: float) -> None:
        """Note that the hub may have read the request sent at `at`, without an answer."""
        for index in indices:
            self._may_have_happened.setdefault(index, at)

    def give_up(self, why: str, *, code: str = "not_published", retryable: bool = True) -> None:
        """Fail all that is pending; `retryable` tells whether a later call may succeed."""
        for index in list(self._pending):
            self._settle(index, self._given_up(index, why, code, retryable=retryable))

    def give_up_sent_before(self, moment: float, why: str) -> None:
        """Fail publications that may have happened by an attempt before `moment`: they are not
        repeated."""
        for index, sent_at in self._may_have_happened.items():
            if sent_at < moment and index in self._pending:
                self._settle(index, self._unknown(index, "outcome_unknown", why))

    def outcomes(self) -> tuple[Outcome, ...]:
        """Return one outcome per publication, in their order; none may be pending."""
        return tuple(self._outcomes[index] for index in range(len(self._items)))

    def _settle(self, index: int, outcome: Outcome) -> None:
        self._outcomes[index] = outcome
        del self._pending[index]

    def _answer(self, index: int, answer: msgspec.Raw, at: float) -> str:
        problem = read_problem(bytes(answer))
        if problem.status:
            return self._problem(index, problem.status, problem, at)
        try:
            self._settle(index, published(answer))
        except ProtocolError as error:
            self.may_have_happened((index,), at=at)
            return str(error)
        return ""

    def _problem(self, index: int, status: int, problem: Problem, at: float) -> str:
        """Return why the publication is to be tried again; empty when it has its outcome."""
        text = f"HTTP {status}: {problem.detail}" if problem.detail else f"HTTP {status}"
        transient = problem.retryable or status in _TRANSIENT_STATUS or status >= 500
        # An answer of success that is not the hub's says nothing about the publication.
        if transient or status in _OK:
            if problem.code not in _SURELY_NOT and status not in _SURELY_NOT_STATUS:
                self.may_have_happened((index,), at=at)
            return f"{problem.code}: {text}" if problem.code else text
        code = problem.code or f"http_{status}"
        if not problem.code:
            text += " (no answer of a hub: is the URL right?)"
        if index in self._may_have_happened:
            self._settle(index, self._unknown(index, code, text))
        else:
            self._settle(index, PublishRefusedError(code, text))
        return ""

    def _given_up(self, index: int, why: str, code: str, *, retryable: bool) -> PublishError:
        if index in self._may_have_happened:
            return self._unknown(index, "outcome_unknown", why)
        return NotPublishedError(code, why, retryable=retryable)

    def _unknown(self, index: int, code: str, text: str) -> OutcomeUnknownError:
        return OutcomeUnknownError(code, text, idempotency_key=self._items[index].idempotency_key)


def _repeatable(item: Outgoing) -> dict[str, object]:
    return {**item.fields(), "idempotency_key": item.idempotency_key}
