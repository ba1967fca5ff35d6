"""Routes for operators about subjects and their tokens: connections, bans, revocations.

They take operator keys only. Times in answers are milliseconds since 1970 UTC. `issued_before` is
compared with `iat`, which counts seconds; a number that can only be milliseconds is taken as such.
"""

from typing import Any

import msgspec

from hub.admin.bans import GetStanding, LiftStanding, ListStandings, SetStanding
from hub.admin.connections import (
    CONNECTIONS,
    DisconnectSubject,
    UnsubscribeSubject,
    everywhere,
    list_connections,
)
from hub.auth.bans import MAX_REASON_CHARACTERS, Standing, StandingKind
from hub.auth.tokens import LAST_SECOND
from hub.core.identity import MAX_SUBJECT_LENGTH
from hub.core.publication import check_channel
from hub.errors import BadRequestError
from hub.transports.http.answer import Answer, json_answer
from hub.transports.http.operator_schemas import BAN, REVOCATION
from hub.transports.http.parameters import AFTER, LIMIT
from hub.transports.http.ports import HttpDeps
from hub.transports.http.routes import Route, read, route
from hub.transports.http.schemas import array, ok, record, ref
from hub.transports.request import Request
from hub.wire.codes import CloseCode

_DAY_SECONDS = 24 * 3600
# A ban for longer is one for ever, which is the application's to keep.
MAX_SECONDS = 3650 * _DAY_SECONDS
# A revoked token must not hold again before it ends by itself, and few hold for a year.
_REVOKED_SECONDS = 365 * _DAY_SECONDS
# Seconds since 1970 reach it in the year 5138, milliseconds did in 1973.
_MILLISECONDS_FROM = 1e11
_CLOSED = "closed by operator"


class _Ban(msgspec.Struct, forbid_unknown_fields=True):
    seconds: float
    reason: str = ""


class _Revocation(msgspec.Struct, forbid_unknown_fields=True):
    jti: str | None = None
    sub: str | None = None
    issued_before: float | None = None
    seconds: float = _REVOKED_SECONDS


class SubjectRoutes:
    """Reads a request, and has it carried out at every node."""

    def __init__(self, deps: HttpDeps) -> None:
        self._admin = deps.admin

    def routes(self) -> tuple[Route, ...]:
        one = "/api/subjects/{sub}"
        done = {"204": {"description": "Done at every node."}}
        banned, revoked = ok("Banned.", ref("Ban")), ok("Revoked.", ref("Ban"))
        listed = ok("Found.", record({"bans": array(ref("Ban"))}))
        return (
            read(GetStanding, one, self.subject,
                 "A subject's connections, and whether it is banned", "Subject", LIMIT, AFTER),
            route(DisconnectSubject, "DELETE", f"{one}/connections", self.disconnect,
                  "Close all connections of a subject", done),
            route(UnsubscribeSubject, "DELETE", one + "/subscriptions/{channel}", self.unsubscribe,
                  "Take all connections of a subject out of a channel", done),
            route(SetStanding, "PUT", f"{one}/ban", self.ban,
                  "Ban a subject, and close its connections", banned, body=BAN),
            route(LiftStanding, "DELETE", f"{one}/ban", self.unban, "Let a subject in again",
                  {"204": {"description": "It may come in."}}),
            route(ListStandings, "GET", "/api/bans", self.bans, "Bans and revocations in force",
                  listed, LIMIT),
            route(SetStanding, "POST", "/api/tokens/revoke", self.revoke,
                  "Revoke a token, or a subject's older tokens", revoked, body=REVOCATION),
        )  # fmt: skip

    async def subject(self, request: Request) -> Answer:
        """Answer with a page of the subject's connections on all nodes."""
        name, given = _subject(request), request.given
        query = CONNECTIONS.read({"sort": "connection", **given}, subject=name)
        page = await list_connections(self._admin, query)
        ban = await self._admin.call(GetStanding(StandingKind.BAN, name))
        fields = CONNECTIONS.told(query, page)
        return json_answer({"sub": name, "ban": None if ban is None else _shown(ban), **fields})

    async def disconnect(self, request: Request) -> Answer:
        """Close all connections with 4403, after which clients do not come back by themselves."""
        wanted = DisconnectSubject(_subject(request), CloseCode.FORBIDDEN, _CLOSED)
        await everywhere(self._admin, wanted)
        return Answer(status=204)

    async def unsubscribe(self, request: Request) -> Answer:
        """Take all connections out of a channel; each gets a push `unsubscribed`."""
        channel = check_channel(request.params["channel"])
        await everywhere(self._admin, UnsubscribeSubject(_subject(request), channel))
        return Answer(status=204)

    async def ban(self, request: Request) -> Answer:
        """Refuse the subject's tokens until the ban ends; another ban takes its place."""
        wanted = _read(request.body, _Ban)
        return await self._say(
            SetStanding(
                StandingKind.BAN,
                _subject(request),
                _seconds(wanted.seconds),
                _reason(wanted.reason),
            )
        )

    async def unban(self, request: Request) -> Answer:
        await self._admin.call(LiftStanding(StandingKind.BAN, _subject(request)))
        return Answer(status=204)

    async def bans(self, request: Request) -> Answer:
        """Answer with the bans and revocations in force; those that end last come first."""
        found = await self._admin.call(ListStandings(request.given["limit"]))
        return json_answer({"bans": [_shown(each) for each in found]})

    async def revoke(self, request: Request) -> Answer:
        """Revoke one token by its `jti`, or the tokens of `sub` that were made before a time."""
        wanted = _read(request.body, _Revocation)
        seconds = _seconds(wanted.seconds)
        if wanted.jti is not None and wanted.sub is None and wanted.issued_before is None:
            return await self._say(
                SetStanding(StandingKind.TOKEN, _named(wanted.jti, "jti"), seconds)
            )
        if wanted.jti is None and wanted.sub is not None and wanted.issued_before is not None:
            before = _before(wanted.issued_before)
            name = _named(wanted.sub, "sub")
            return await self._say(SetStanding(StandingKind.SUBJECT, name, seconds, before=before))
        raise BadRequestError("give either jti, or sub and issued_before")

    async def _say(self, wanted: SetStanding) -> Answer:
        return json_answer(_shown(await self._admin.call(wanted)))


def _subject(request: Request) -> str:
    return _named(request.params["sub"], "sub")


def _named(text: str, what: str) -> str:
    if not 0 < len(text) <= MAX_SUBJECT_LENGTH:
        allowed = f"allowed are 1 to {MAX_SUBJECT_LENGTH}"
        raise BadRequestError(f"{what} is {len(text)} characters, {allowed}")
    return text


def _read(body: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"the body is not as it should be: {error}") from None


def _seconds(value: float) -> float:
    if not 0 < value <= MAX_SECONDS:
        raise BadRequestError(f"seconds is {value}, allowed is more than 0 to {MAX_SECONDS:,}")
    return value


def _before(value: float) -> float:
    seconds = value / 1000 if value >= _MILLISECONDS_FROM else value
    # Behind it a mistyped time would refuse every token there will be.
    if not 0 <= seconds <= LAST_SECOND:
        raise BadRequestError("issued_before is no time from 1970 to 9999")
    return seconds


def _reason(text: str) -> str:
    reason = " ".join(text.split())
    if len(reason) > MAX_REASON_CHARACTERS or not reason.isprintable():
        allowed = f"allowed are {MAX_REASON_CHARACTERS} printable ones"
        raise BadRequestError(f"reason is {len(reason)} characters, {allowed}")
    return reason


def _shown(standing: Standing) -> dict[str, object]:
    fields: dict[str, object] = {
        "kind": standing.kind,
        "jti" if standing.kind is StandingKind.TOKEN else "sub": standing.name,
        "at_ms": standing.at_ms,
        "until_ms": standing.until_ms,
    }
    if standing.kind is StandingKind.BAN:
        fields["reason"] = standing.reason
    if standing.kind is StandingKind.SUBJECT:
        fields["issued_before"] = standing.before
    return fields
