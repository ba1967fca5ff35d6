"""Everything that reads what comes from outside, as functions of bytes.

Each may refuse what it is given by its own error, and raises nothing else. What two of them say of
the same bytes must agree where both are asked. The first byte of an input picks the target.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress

from hub.admin import bans
from hub.auth.bans import Standings
from hub.auth.credentials import Credentials, read_cookie
from hub.auth.grants import read_grants
from hub.auth.hosts import HostList
from hub.auth.keys import read_publish_key
from hub.auth.origins import OriginList
from hub.auth.policy import Policy
from hub.auth.proxies import TrustedProxies
from hub.auth.public_keys import read_pem, read_set
from hub.auth.tokens import TokenVerifier
from hub.brokers.redis.bus import Proof
from hub.brokers.redis.channels import messages
from hub.core.identity import Identity
from hub.errors import HubError, SettingsError
from hub.hooks.answers import read_answer
from hub.settings.parsing import parse_size, rate_of
from hub.transports.connection import door, proxy_protocol
from hub.transports.connection.reader import RequestReader
from hub.transports.http import subjects
from hub.transports.http.bodies import plain
from hub.transports.http.known import KnownHead
from hub.transports.inbound import CloseFrame, FrameError, Inbound
from hub.transports.request import Request
from hub.wire import native_commands, salvage
from hub.wire.filters import check_tags, read_filter, read_tags
from hub.wire.payload import check_payload
from hub.wire.query import parse_query, split_form
from hub.wire.websocket import accept_handshake, offered_token
from tests.support.steps import inflated
from tests.wire.splitting import split_items

LIMIT = 4096
SECRET = "a-signing-key-of-more-than-32-bytes!"

_hosts = HostList(
    ("hub.example", "*.hub.example"), any_by_default=False, addresses_by_default=False
)
_origins = OriginList(("https://example.com", "https://*.example.com"))
_proxies = TrustedProxies(("10.0.0.0/8", "fd00::/8"))
_tokens = TokenVerifier([SECRET], clock=lambda: 1e9)
_policy = Policy(token_keys=[SECRET], publish_keys=["a-key"], token_cookie="session")
_proof = Proof(["a-key"], lambda: 1e9)


class _Peer:
    """Takes what a reader reads of requests."""

    def __init__(self) -> None:
        self.body_bytes = 0
        self.ended = False

    def head_read(self, request: Request) -> bool:
        headers = request.headers
        for check in (
            lambda: _hosts.check(headers.get("host")),
            lambda: _origins.check(headers.get("origin"), headers.get("host")),
            lambda: _proxies.client("10.0.0.1", headers),
            lambda: accept_handshake(headers, deflate=True),
            lambda: parse_query(request.query, max_channels=32),
        ):
            _refusing(check)
        return False

    def body_read(self, data: bytes) -> None:
        self.body_bytes += len(data)

    def request_read(self) -> None:
        pass

    def known_read(self, known: KnownHead, key: str | None, body: bytes) -> None:
        raise AssertionError("nothing is known")

    def broken(self, error: HubError) -> None:
        self.ended = True


def _refusing(read: Callable[[], object]) -> object:
    """Returns what was read, or None if it was refused."""
    try:
        return read()
    except HubError:
        return None


def _pieces(data: bytes) -> Iterator[bytes]:
    """The data in pieces, as its first byte says."""
    if not data:
        return
    step = data[0] or len(data)
    for at in range(1, len(data), step):
        yield data[at : at + step]


def requests(data: bytes) -> None:
    peer = _Peer()
    reader = RequestReader(peer, max_head_bytes=LIMIT, address="")
    for piece in _pieces(data):
        if peer.ended:
            break
        reader.feed(piece)
    assert peer.body_bytes <= len(data)


def first_bytes(data: bytes) -> None:
    """Checks the fields that are read before there is a parser, because an answer repeats them."""
    door._LINE.match(data)
    fields = door._fields(data) or {}
    assert all(text.isascii() and text.isprintable() for text in fields.values())


def frames(data: bytes) -> None:
    inbound = Inbound(deflate=bool(data[:1] > b"\x7f"), max_bytes=LIMIT)
    for piece in _pieces(data[1:]):
        inbound.feed(piece)
        try:
            while (event := inbound.read()) is not None:
                if isinstance(event, bytes):
                    assert len(event) <= LIMIT
                    command(event)
                if isinstance(event, CloseFrame):
                    return
        except (HubError, FrameError):
            return


def command(data: bytes) -> None:
    _refusing(lambda: native_commands.decode(data, max_message_bytes=LIMIT))


def publications(data: bytes) -> None:
    _refusing(lambda: split_items(data, max_items=20))
    salvage.find_member(data, b"id")
    salvage.split_array(data)
    assert len(salvage.shape(data)) == len(data)


def payload(data: bytes) -> None:
    """Checks that an accepted payload is JSON on one line, and is accepted again unchanged."""
    taken = _refusing(lambda: check_payload(data, limit=LIMIT))
    if isinstance(taken, bytes):
        json.loads(taken)
        assert b"\n" not in taken
        assert check_payload(taken, limit=LIMIT) == taken


def tags_and_filters(data: bytes) -> None:
    tags = _refusing(lambda: check_tags(data))
    if isinstance(tags, bytes):
        assert check_tags(tags) == tags
    _refusing(lambda: read_tags(data.decode("latin-1")))
    half = len(data) // 2
    if (wanted := _refusing(lambda: read_filter(data[:half]))) is not None:
        tags = _refusing(lambda: check_tags(data[half:]))
        wanted.matches(tags if isinstance(tags, bytes) else None)  # type: ignore[attr-defined]


def query(data: bytes) -> None:
    asked = _refusing(lambda: parse_query(data, max_channels=32))
    if asked is not None:
        _refusing(lambda: asked.resume_from(data.decode("latin-1")))  # type: ignore[attr-defined]
    _refusing(lambda: split_form(data))


def token(data: bytes) -> None:
    text = data.decode("latin-1")
    _refusing(lambda: _tokens.verify(text))
    _refusing(lambda: read_cookie(text, "session"))
    _refusing(lambda: offered_token({"sec-websocket-protocol": text}))
    for sent in (
        Credentials(authorization=text),
        Credentials(api_key=text),
        Credentials(token=text),
    ):
        _refusing(lambda sent=sent: _policy.identify(sent))  # type: ignore[misc]
    with suppress(ValueError):
        read_publish_key(text)


def grants(data: bytes) -> None:
    try:
        claims = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(claims, dict):
        _refusing(lambda: read_grants(claims, claim="hub", subject="anna", default={}))


def keys(data: bytes) -> None:
    for read in (read_set, lambda raw: read_pem(raw.decode("latin-1"))):
        try:
            read(data)
        except ValueError:
            continue


def answers_of_the_application(data: bytes) -> None:
    try:
        read_answer(data)
    except ValueError:
        return


def forwarded_headers(data: bytes) -> None:
    first, _, second = data.decode("latin-1").partition("\n")
    told = {"forwarded": first, "x-forwarded-for": second, "x-forwarded-proto": second}
    _proxies.client("10.0.0.1", told)
    _proxies.scheme("10.0.0.1", told)
    _refusing(lambda: _hosts.check(first))
    _refusing(lambda: _origins.check(first, second, second))


def proxy_headers(data: bytes) -> None:
    told = _refusing(lambda: proxy_protocol.read(data))
    if told is not None:
        assert len(told.rest) < len(data)  # type: ignore[attr-defined]


def redis_messages(data: bytes) -> None:
    messages.decode("channel", data, max_message_bytes=LIMIT)
    messages.decode_announcement("channel", data)


def words_between_nodes(data: bytes) -> None:
    """Any client of Redis may write them. Nobody without a key is heard."""
    assert _proof.open("tag", data) is None
    assert _proof.open("tag", _proof.seal("tag", data)) == data
    with suppress(ValueError, RecursionError):
        said = bans._READER.decode(data)
        standings = Standings()
        standings.merge(said, 0)
        _refusing(lambda: standings.check(Identity(subject=said.name, token_id=said.name), 0))


def bodies_of_operators(data: bytes) -> None:
    for kind in (subjects._Ban, subjects._Revocation):
        _refusing(lambda kind=kind: subjects._read(data, kind))  # type: ignore[misc]
    _refusing(lambda: subjects._reason(data.decode("latin-1")))


def packed_bodies(data: bytes) -> None:
    body = _refusing(lambda: inflated(plain(data, {"content-encoding": "gzip"}, LIMIT)))
    assert body is None or len(body) <= LIMIT  # type: ignore[arg-type]


def settings(data: bytes) -> None:
    text = data.decode("latin-1")
    for read in (parse_size, rate_of):
        try:
            read(text)
        except (ValueError, SettingsError):
            continue


TARGETS: tuple[Callable[[bytes], None], ...] = (
    requests, frames, command, publications, payload, tags_and_filters, query, token, grants, keys,
    answers_of_the_application, forwarded_headers, proxy_headers, redis_messages, packed_bodies,
    settings, first_bytes, words_between_nodes, bodies_of_operators,
)  # fmt: skip


def run(data: bytes) -> None:
    """Have the target that the first byte picks read the rest."""
    if data:
        TARGETS[data[0] % len(TARGETS)](data[1:])
