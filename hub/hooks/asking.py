"""Asks the application whether a peer may connect, subscribe or publish: `hub.core.hooks.Hooks`.

The application's answer may narrow or replace what the hub allows, and never allows what the hub
forbids. The hub refuses a credential that is not valid, and a channel that is not granted, without
a question. It does not ask about keys and operators' tickets either, because trusted backends and
operators send them: a backend publishes and a dashboard opens while the application is down.

The answer to a question:

| the application                                     | the answer                          |
|-----------------------------------------------------|-------------------------------------|
| `{"allow":true}`                                    | yes                                 |
| `{"allow":false}`, status 401 or 403                | no: `forbidden`, with its reason    |
| does not answer in time, cannot be reached, 5xx, 429 | as `HUB_HOOK_WHEN_DOWN` says: no is |
|                                                     | `unavailable`, to be tried again    |
| answers something else, or too much                 | no: `unavailable`                   |

An answer that cannot be read never admits a peer, whatever `HUB_HOOK_WHEN_DOWN` is.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import structs
from structlog.typing import FilteringBoundLogger

from hub.core.counters import Counters
from hub.core.hooks import Admission, Asker
from hub.core.identity import Identity
from hub.core.ports import Monotonic
from hub.errors import ForbiddenError, HubError, UnavailableError
from hub.hooks.answers import HookAnswer, Remembered, read_answer
from hub.hooks.breaker import Breaker
from hub.hooks.calling import Caller, HookError
from hub.hooks.names import CONNECT, PUBLISH, SUBSCRIBE
from hub.hooks.signing import sign

# Of a peer's header fields. `Authorization` and `X-API-Key` are the hub's own to judge, and an
# application that logs what it is asked must not collect them.
TOLD_HEADERS = ("cookie", "origin", "user-agent", "x-request-id", "accept-language")
_MAX_HEADER_CHARACTERS = 4096
EVERYWHERE = ("*",)
# A log line for failures at most so often.
_LOG_SECONDS = 10.0
_DOWN = frozenset({"timeout", "unreachable", "busy", "error", "open"})
_REFUSALS = frozenset({401, 403})
_TOO_MANY_REQUESTS = 429


class _Presence(msgspec.Struct):
    """A member's data, as the peer's command has it."""

    data: msgspec.Raw


class _Question(msgspec.Struct, omit_defaults=True):
    hook: str
    connection: str | msgspec.UnsetType | None
    sub: str | None
    address: str
    headers: Mapping[str, str]
    channel: str | None = None
    data: msgspec.Raw | None = None
    presence: _Presence | None = None


@dataclass(frozen=True, slots=True)
class AskingRules:
    """The hooks that are asked, and the rules for their answers."""

    hooks: frozenset[str]
    cache_seconds: float
    allows_when_down: bool
    secret: bytes
    """The secret that signs questions; an empty one signs none."""


@dataclass(frozen=True, slots=True)
class Judges:
    """The hub's own judges of an answer, and of the need to ask."""

    read_grants: Callable[[Mapping[str, Any], str | None], tuple[tuple[str, ...], tuple[str, ...]]]
    """Return the patterns to subscribe and to publish; raise `HubError`."""
    check_data: Callable[[bytes], bytes]
    """Raise `HubError` unless the data may be published, and so be sent to peers."""
    check_standing: Callable[[Identity], None]
    """Raise `HubError` where operators have banned the identity."""
    is_trusted: Callable[[Identity], bool]
    """Return whether the identity needs no question: a key's holder, or an operator."""


class ApplicationHooks:
    """Asks the application about sessions; one per node, owned by the event loop."""

    def __init__(
        self,
        caller: Caller,
        rules: AskingRules,
        judges: Judges,
        *,
        clock: Monotonic,
        wall_clock: Callable[[], float],
        counters: Counters,
        log: FilteringBoundLogger,
    ) -> None:
        self._caller = caller
        self._rules = rules
        self._judges = judges
        self._clock = clock
        self._wall_clock = wall_clock
        self._counters = counters
        self._log = log
        self._breaker = Breaker(clock)
        self._remembered = Remembered(rules.cache_seconds, clock)
        self._quiet_until_seconds = float("-inf")

    # -- hub.core.hooks.Hooks -----------------------------------------------------------------

    def asks_connect(self, identity: Identity) -> bool:
        return CONNECT in self._rules.hooks and not self._judges.is_trusted(identity)

    def asks_subscribe(self, identity: Identity) -> bool:
        return SUBSCRIBE in self._rules.hooks and not self._judges.is_trusted(identity)

    def asks_publish(self, identity: Identity) -> bool:
        return PUBLISH in self._rules.hooks and not self._judges.is_trusted(identity)

    async def admit(
        self, asker: Asker, channels: Sequence[str] = (), *, nobody: bool = False
    ) -> Admission:
        identity, given, of_channels = asker.identity, None, {}
        if self.asks_connect(identity):
            answer = await self._ask(CONNECT, asker)
            identity = self._admitted(identity, answer, nobody=nobody)
            given = self._given(answer)
        if channels and self.asks_subscribe(identity):
            for channel in channels:
                identity.check_subscribe(channel)
            asker = structs.replace(asker, identity=identity)
            # Together: a URL may name as many channels as a session may hold.
            asked = [self.check_subscribe(asker, channel) for channel in channels]
            outcomes = await asyncio.gather(*asked, return_exceptions=True)
            for channel, outcome in zip(channels, outcomes, strict=True):
                if isinstance(outcome, BaseException):
                    raise outcome
                if outcome is not None:
                    of_channels[channel] = outcome
        return Admission(identity, given, of_channels)

    async def check_subscribe(
        self, asker: Asker, channel: str, presence: bytes | None = None
    ) -> bytes | None:
        return self._given(await self._ask(SUBSCRIBE, asker, channel, presence=presence))

    async def check_publish(self, asker: Asker, channel: str, data: bytes) -> bytes:
        instead = self._given(await self._ask(PUBLISH, asker, channel, data))
        return data if instead is None else instead

    def _given(self, answer: HookAnswer | None) -> bytes | None:
        """Return the answer's `data` for peers; None where it has none."""
        if answer is None or not (data := bytes(answer.data)):
            return None
        try:
            return self._judges.check_data(data)
        except HubError as error:
            self._failed("invalid", f"data: {error.message}")
            raise UnavailableError("the application's answer cannot be read") from None

    async def close(self) -> None:
        await self._caller.close()

    # -- who comes in by an answer -------------------------------------------------------------

    def _admitted(self, identity: Identity, answer: HookAnswer | None, *, nobody: bool) -> Identity:
        """Return the admitted peer; `answer` is None where the application is down and that means
        yes."""
        if answer is None:
            if nobody:
                raise UnavailableError("the application that says who this is does not answer")
            return identity
        changes: dict[str, Any] = {}
        subject = identity.subject
        if answer.sub is not None:
            subject = answer.sub
            changes |= {"subject": subject, "publisher": f"sub:{subject}"}
        if answer.grants is not None:
            try:
                subscribe, publish = self._judges.read_grants(answer.grants, subject)
            except HubError as error:
                self._failed("invalid", error.message)
                raise UnavailableError("the application's answer cannot be read") from None
            changes |= {"subscribe": subscribe, "publish": publish}
        elif nobody:
            # A question that is asked each time needs no grant besides.
            asked = self._rules.hooks
            changes["subscribe"] = EVERYWHERE if SUBSCRIBE in asked else ()
            changes["publish"] = EVERYWHERE if PUBLISH in asked else ()
        if changes:
            # Of a hub without any key everybody is an operator, but for whom the application names.
            changes |= {"operator": False, "awaits_token": False}
            if identity.awaits_token:
                changes["expires_at"] = None
        if answer.expires_in_seconds is not None:
            ends = self._wall_clock() + answer.expires_in_seconds
            before = changes.get("expires_at", identity.expires_at)
            changes["expires_at"] = ends if before is None else min(ends, before)
        identity = replace(identity, **changes) if changes else identity
        self._judges.check_standing(identity)
        return identity

    # -- a question --------------------------------------------------------------------------

    async def _ask(
        self,
        hook: str,
        asker: Asker,
        channel: str | None = None,
        data: bytes | None = None,
        *,
        presence: bytes | None = None,
    ) -> HookAnswer | None:
        """Return a positive answer, or None where the rules say yes without one; raise a
        refusal."""
        question = _Question(
            hook,
            asker.connection,
            asker.identity.subject,
            asker.address,
            _passed_headers(asker.headers),
            channel,
            None if data is None else msgspec.Raw(data),
            None if presence is None else _Presence(msgspec.Raw(presence)),
        )
        body = msgspec.json.encode(question)
        key = _key(question, body) if self._rules.cache_seconds else b""
        if key and (known := self._remembered.find(key)) is not None:
            self._counters.hook_calls["cached"] += 1
            return self._admit(known)
        # A task of its own: who asks may have none before it waits.
        task = asyncio.get_running_loop().create_task(self._call(key, body))
        try:
            answer = await task
        finally:
            if not task.done():
                task.cancel()
        if isinstance(answer, HookAnswer):
            return self._admit(answer)
        self._check_silence(answer)
        return None

    def _admit(self, answer: HookAnswer) -> HookAnswer:
        if answer.allow:
            return answer
        self._counters.refusals["application"] += 1
        raise ForbiddenError(answer.reason or "the application refuses", refusal="application")

    def _check_silence(self, outcome: str) -> None:
        if outcome not in _DOWN:
            raise UnavailableError("the application's answer cannot be read")
        if not self._rules.allows_when_down:
            raise UnavailableError("the application does not answer")

    async def _call(self, key: bytes, body: bytes) -> HookAnswer | str:
        """Return the answer, or the reason why there is none; only a cancellation is raised."""
        if not self._breaker.may_ask():
            self._counters.hook_calls["open"] += 1
            return "open"
        began = self._clock()
        try:
            answer = await self._answer(body)
        except HookError as error:
            self._down(error.outcome, str(error))
            return error.outcome
        except asyncio.CancelledError:
            self._breaker.given_up()
            raise
        except Exception as error:  # noqa: BLE001 - logged; whoever asks is told no
            self._down("invalid", repr(error))
            return "invalid"
        finally:
            self._counters.hook_seconds.observe(self._clock() - began)
        if self._breaker.is_open:
            self._log.info("hook_answers_again")
        self._breaker.answered()
        self._counters.hook_calls["allowed" if answer.allow else "refused"] += 1
        if key:
            self._remembered.take(key, answer)
        return answer

    async def _answer(self, body: bytes) -> HookAnswer:
        signed = {}
        if self._rules.secret:
            now = int(self._wall_clock())
            id_ = f"hook_{secrets.token_hex(12)}"
            signed = sign(self._rules.secret, id_=id_, timestamp=now, body=body)
        status, answer = await self._caller.post(body, signed)
        if status in _REFUSALS:
            try:
                read = read_answer(answer)
            except ValueError:
                return HookAnswer(allow=False)
            return HookAnswer(allow=False, reason=read.reason)
        if status >= 500 or status == _TOO_MANY_REQUESTS:
            raise HookError("error", f"the application answered {status}")
        if status != 200:
            raise HookError("invalid", f"the application answered {status}")
        try:
            return read_answer(answer)
        except ValueError as error:
            raise HookError("invalid", str(error)) from None

    def _down(self, outcome: str, why: str) -> None:
        self._failed(outcome, why)
        if outcome not in _DOWN:
            # The application lives, and its answer cannot be read.
            self._breaker.answered()
        elif outcome == "busy":
            # The application was not asked.
            self._breaker.given_up()
        elif self._breaker.failed():
            self._log.warning(
                "hook_down", reason=why[:200], allows=self._rules.allows_when_down,
                message="nobody is asked for a while; HUB_HOOK_WHEN_DOWN answers",
            )  # fmt: skip

    def _failed(self, outcome: str, why: str) -> None:
        self._counters.hook_calls[outcome] += 1
        if (now := self._clock()) >= self._quiet_until_seconds:
            self._quiet_until_seconds = now + _LOG_SECONDS
            self._log.warning("hook_failed", outcome=outcome, reason=why[:200])


def _passed_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {
        name: headers[name][:_MAX_HEADER_CHARACTERS] for name in TOLD_HEADERS if name in headers
    }


def _key(question: _Question, body: bytes) -> bytes:
    """Return a digest of what is asked.

    A subject is the same whatever connection it has, a connect is known by its headers, and a peer
    without a name is known by its connection alone.
    """
    if question.hook == CONNECT or question.sub is not None:
        body = msgspec.json.encode(msgspec.structs.replace(question, connection=msgspec.UNSET))
    return blake2b(body, digest_size=16).digest()
