"""The opening handshake: RFC 6455 section 4.2, and which compression is agreed on."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
)
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from hub.core.publication import Publication
from hub.errors import BadRequestError, UpgradeRequiredError
from hub.wire import native_pushes
from hub.wire.websocket import WebSocketDialect, accept_handshake, offered_token

# RFC 6455 section 1.3.
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
HEADERS = {
    "upgrade": "websocket",
    "connection": "Upgrade",
    "sec-websocket-key": KEY,
    "sec-websocket-version": "13",
}


def headers(**changes: str | None) -> dict[str, str]:
    """The RFC's, with some changed or (None) left out."""
    changed = {name.replace("_", "-"): value for name, value in changes.items()}
    return {name: value for name, value in (HEADERS | changed).items() if value is not None}


def offer(text: str) -> tuple[str, int | None]:
    """The extension header of the answer to this offer ("" without), and the window."""
    response, bits = accept_handshake(headers(sec_websocket_extensions=text), deflate=True)
    lines = response.decode().split("\r\n")
    found = [line.partition(": ")[2] for line in lines if line.startswith("Sec-WebSocket-Ext")]
    return found[0] if found else "", bits


def test_the_example_of_the_rfc_is_answered_as_the_rfc_does() -> None:
    """The example is in RFC 6455 section 1.3."""
    response, bits = accept_handshake(HEADERS, deflate=True)
    assert response.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" in response
    assert f"\r\nSec-WebSocket-Accept: {ACCEPT}\r\n".encode() in response
    assert response.endswith(b"\r\n\r\n")
    assert bits is None


@pytest.mark.parametrize(
    "changes",
    [
        {"connection": "keep-alive, Upgrade"},
        {"connection": "upgrade,keep-alive"},
        {"upgrade": "WebSocket"},
        {"upgrade": "h2c, websocket"},
    ],
)
def test_lists_and_letter_case_of_the_headers_are_understood(changes: dict[str, str]) -> None:
    """Firefox sends `keep-alive, Upgrade`."""
    assert accept_handshake(headers(**changes), deflate=False)[0].startswith(b"HTTP/1.1 101")


@pytest.mark.parametrize(
    "changes",
    [
        {"upgrade": None},
        {"upgrade": "h2c"},
        {"upgrade": ","},
        {"connection": None},
        {"connection": "keep-alive"},
        {"connection": "\x00"},
        {"sec_websocket_version": None},
        {"sec_websocket_version": "8"},
        {"sec_websocket_version": "13, 8"},
    ],
)
def test_a_request_that_is_no_handshake_of_version_13_needs_an_upgrade(
    changes: dict[str, str],
) -> None:
    """The peer gets status 426."""
    with pytest.raises(UpgradeRequiredError):
        accept_handshake(headers(**changes), deflate=False)


@pytest.mark.parametrize(
    "key",
    [None, "", "short", "dGhlIHNhbXBsZSBub25jZQ", base64.b64encode(b"x" * 15).decode(),
     base64.b64encode(b"x" * 17).decode(), f"{KEY}, {KEY}", "ключ", "!" * 24],
)  # fmt: skip
def test_a_key_that_is_not_16_bytes_in_base64_is_a_bad_request(key: str | None) -> None:
    """The rule is in RFC 6455 section 4.2.1, item 5."""
    with pytest.raises(BadRequestError, match="16 bytes in base64"):
        accept_handshake(headers(sec_websocket_key=key), deflate=False)


@pytest.mark.parametrize(
    ("offered", "bits"),
    [
        # What Chromium and Firefox send, and websockets, aiohttp and websocket-client.
        ("permessage-deflate; client_max_window_bits", 15),
        ("permessage-deflate", 15),
        ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", 15),
        ("permessage-deflate; server_max_window_bits=12; client_max_window_bits=12", 12),
        ("permessage-deflate; server_max_window_bits=9", 9),
        ("x-webkit-deflate-frame, permessage-deflate", 15),
        # RFC 7692 section 7.1: the first offer that can be met.
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", 15),
        ("permessage-deflate; unknown=1, permessage-deflate; server_max_window_bits=10", 10),
    ],
)
def test_compression_is_agreed_on_without_context_either_way(offered: str, bits: int) -> None:
    """Shared frames need that; the window is what the peer can take."""
    agreed, found = offer(offered)
    assert found == bits
    assert agreed.startswith("permessage-deflate;")
    assert "server_no_context_takeover" in agreed
    assert "client_no_context_takeover" in agreed


@pytest.mark.parametrize(
    "offered",
    [
        "x-webkit-deflate-frame",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; unknown",
        "permessage-deflate; client_max_window_bits=99",
        ";;;",
        "",
        "\x00",
    ],
)
def test_an_offer_that_cannot_be_met_leaves_the_connection_uncompressed(offered: str) -> None:
    """An offer that cannot be met is no error, because extensions are optional."""
    assert offer(offered) == ("", None)


@pytest.mark.parametrize(
    ("offered", "answered", "token"),
    [
        (None, None, None),
        ("hub", "hub", None),
        ("hub, bearer.a.b.c", "hub", "a.b.c"),
        ("bearer.a.b.c,hub", "hub", "a.b.c"),
        ("graphql-ws, hub", "hub", None),
        # Nothing offered is spoken: the connection opens without one, and a browser ends it.
        ("graphql-ws", None, None),
        ("HUB", None, None),
        ("bearer.a.b.c", None, None),
        ("", None, None),
        (",,", None, None),
    ],
)
def test_hub_is_answered_where_it_is_among_the_subprotocols_offered(
    offered: str | None, answered: str | None, token: str | None
) -> None:
    """RFC 6455 section 4.2.2: one of those offered, or none. A token may come beside it."""
    given_headers = headers(sec_websocket_protocol=offered)
    response = accept_handshake(given_headers, deflate=True)[0].decode()
    lines = [line for line in response.split("\r\n") if line.startswith("Sec-WebSocket-Protocol")]
    assert lines == ([] if answered is None else [f"Sec-WebSocket-Protocol: {answered}"])
    assert offered_token(given_headers) == token


def test_two_tokens_among_the_subprotocols_are_refused() -> None:
    with pytest.raises(BadRequestError, match="2 tokens"):
        offered_token(headers(sec_websocket_protocol="hub, bearer.a, bearer.b"))


def test_compression_that_is_off_is_never_agreed_on() -> None:
    response, bits = accept_handshake(
        headers(sec_websocket_extensions="permessage-deflate"), deflate=False
    )
    assert bits is None
    assert b"Extensions" not in response


WINDOW = st.none() | st.integers(9, 15)
FACTORIES = st.builds(
    ClientPerMessageDeflateFactory,
    server_no_context_takeover=st.booleans(),
    client_no_context_takeover=st.booleans(),
    server_max_window_bits=WINDOW,
    client_max_window_bits=WINDOW | st.just(True),
)


@given(st.lists(FACTORIES, max_size=3))
def test_a_real_client_accepts_the_answer_and_reads_what_follows(
    factories: list[ClientPerMessageDeflateFactory],
) -> None:
    """Whatever it offers: it then decodes a frame made for the agreed window."""
    protocol = ClientProtocol(parse_uri("ws://hub/ws"), extensions=factories)
    request = protocol.connect()
    protocol.send_request(request)
    given_headers: dict[str, str] = {}
    for name, value in request.headers.raw_items():
        key = name.lower()
        given_headers[key] = f"{given_headers[key]}, {value}" if key in given_headers else value
    response, bits = accept_handshake(given_headers, deflate=True)
    push = Publication("a", 1, b'"%b"' % (b"compressible " * 3000), 5)
    protocol.receive_data(response + WebSocketDialect(window_bits=bits).encode(push, "e"))
    assert protocol.handshake_exc is None
    assert protocol.state is State.OPEN
    answer, message = protocol.events_received()
    assert isinstance(answer, Response)
    assert not isinstance(message, Response)
    assert bytes(getattr(message, "data", b"")) == native_pushes.encode(push)
    if bits is not None:
        (agreed,) = protocol.extensions
        assert isinstance(agreed, PerMessageDeflate)
        assert agreed.remote_no_context_takeover
        assert agreed.local_no_context_takeover


@given(st.text(st.characters(max_codepoint=255), max_size=80))
def test_whatever_is_offered_never_ends_in_a_fault(text: str) -> None:
    """An answer is always made; a malformed offer is none."""
    agreed, bits = offer(f"permessage-deflate{text}")
    assert (bits is None) == (agreed == "")
