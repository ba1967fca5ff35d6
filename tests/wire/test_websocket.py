"""Frames that a real client protocol reads, compressed or not, in every window size."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from hub.core.publication import Position, Publication
from hub.core.pushes import Heartbeat
from hub.wire import native_pushes
from hub.wire.websocket import (
    MAX_CLOSE_REASON_BYTES,
    WebSocketDialect,
    close_frame,
    frame,
    ping_frame,
)

WINDOWS = range(9, 16)


def client(window_bits: int | None = None) -> ClientProtocol:
    """An open connection's client side, that takes large messages."""
    protocol = ClientProtocol(parse_uri("ws://hub/ws"), state=State.OPEN, max_size=2**24)
    if window_bits is not None:
        protocol.extensions = [
            PerMessageDeflate(
                remote_no_context_takeover=True,
                local_no_context_takeover=True,
                remote_max_window_bits=window_bits,
                local_max_window_bits=15,
            )
        ]
    return protocol


def received(protocol: ClientProtocol, data: bytes) -> list[Frame]:
    protocol.receive_data(data)
    assert protocol.parser_exc is None
    return [event for event in protocol.events_received() if isinstance(event, Frame)]


def publication(size: int, offset: int = 1) -> Publication:
    text = json.dumps([{"n": n, "price": n * 1.25} for n in range(size // 20 + 1)])[:size]
    return Publication("prices", offset, json.dumps(text).encode(), 5)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 200_000])
def test_every_length_is_framed_so_that_a_client_reads_it(size: int) -> None:
    """RFC 6455 section 5.2: three forms of the length."""
    payload = b"x" * size
    (text,) = received(client(), frame(payload))
    assert (text.opcode, text.fin, bytes(text.data)) == (Opcode.TEXT, True, payload)
    head = 2 if size < 126 else 4 if size < 65_536 else 10
    assert len(frame(payload)) == head + size


@pytest.mark.parametrize("size", [0, 10, 100, 5_000, 70_000])
def test_a_push_arrives_as_its_native_object(size: int) -> None:
    push = publication(size)
    (text,) = received(client(), WebSocketDialect().encode(push, "e"))
    assert bytes(text.data) == native_pushes.encode(push)


@pytest.mark.parametrize("window_bits", WINDOWS)
def test_compressed_frames_are_read_in_every_window(window_bits: int) -> None:
    """Also payloads far larger than the window, and one after another without context."""
    dialect = WebSocketDialect(window_bits=window_bits)
    protocol = client(window_bits)
    for offset, size in enumerate((10, 300, 5_000, 70_000, 300), start=1):
        push = publication(size, offset)
        encoded = dialect.encode(push, "e")
        (text,) = received(protocol, encoded)
        assert bytes(text.data) == native_pushes.encode(push)
        assert size < 300 or len(encoded) < len(native_pushes.encode(push))


def test_a_compressed_frame_is_read_by_connections_of_different_pasts() -> None:
    """The compressed frame is shared, so no connection's context goes into it."""
    dialect = WebSocketDialect(window_bits=12)
    fresh, old = client(12), client(12)
    received(old, dialect.encode(publication(4_000), "e"))
    received(old, dialect.encode(Heartbeat(), ""))
    shared = dialect.encode(publication(900, 2), "e")
    assert received(fresh, shared)[0].data == received(old, shared)[0].data


@given(st.integers(9, 15), st.binary(max_size=3000))
def test_whatever_is_compressed_arrives_unchanged(window_bits: int, data: bytes) -> None:
    """Frames that compress badly go as they are, which RFC 7692 allows for each message."""
    push = Publication("a", 1, json.dumps(data.hex()).encode(), 5)
    encoded = WebSocketDialect(window_bits=window_bits).encode(push, "e")
    (text,) = received(client(window_bits), encoded)
    assert bytes(text.data) == native_pushes.encode(push)
    assert len(encoded) <= len(native_pushes.encode(push)) + 4


def test_short_payloads_are_not_compressed() -> None:
    """From the threshold on they are."""
    push = publication(500)
    size = len(native_pushes.encode(push))
    short = WebSocketDialect(window_bits=15, compress_from_bytes=size + 1)
    long = WebSocketDialect(window_bits=15, compress_from_bytes=size)
    assert short.encode(push, "e") == WebSocketDialect().encode(push, "e")
    assert long.encode(push, "e")[0] == 0xC1


def test_dialects_are_told_apart_by_name() -> None:
    """Positions are part of the messages, so none are written apart."""
    names = {WebSocketDialect(window_bits=bits).name for bits in (None, *WINDOWS)}
    assert len(names) == 8
    assert WebSocketDialect().encode_positions([("a", Position("e", 1))]) == b""


def test_a_ping_is_answered_with_its_own_payload() -> None:
    protocol = client()
    (ping,) = received(protocol, ping_frame((7).to_bytes(8)))
    assert (ping.opcode, bytes(ping.data)) == (Opcode.PING, (7).to_bytes(8))
    assert b"".join(protocol.data_to_send())


@pytest.mark.parametrize(
    "reason", ["", "draining", "x" * 500, "é" * 100, "€" * 41 + "é", "😀" * 50]
)
def test_a_close_frame_is_valid_however_long_its_reason(reason: str) -> None:
    """Cut at a whole character, at 123 bytes at most (RFC 6455 section 5.5)."""
    protocol = client()
    received(protocol, close_frame(4508, reason))
    assert protocol.close_rcvd is not None
    assert protocol.close_rcvd.code == 4508
    said = protocol.close_rcvd.reason
    assert reason.startswith(said)
    left = reason[len(said) : len(said) + 1].encode()
    assert len(said.encode()) <= MAX_CLOSE_REASON_BYTES
    assert not left or len(said.encode() + left) > MAX_CLOSE_REASON_BYTES
