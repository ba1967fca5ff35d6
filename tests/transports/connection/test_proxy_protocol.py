"""The header in front of a connection, read from its bytes."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import BadRequestError
from hub.transports.connection.proxy_protocol import MAX_BYTES, Header, read

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
BEHIND = b"GET / HTTP/1.1\r\n\r\n"


def block(source: str, destination: str, *, command: int = 0x21, more: bytes = b"") -> bytes:
    """A version 2 header; ports are 51234 and 8000."""
    addresses = [ipaddress.ip_address(text).packed for text in (source, destination)]
    family = 0x11 if len(addresses[0]) == 4 else 0x21
    body = b"".join(addresses) + (51234).to_bytes(2) + (8000).to_bytes(2) + more
    return SIGNATURE + bytes([command, family]) + len(body).to_bytes(2) + body


HEADERS = [
    (b"PROXY TCP4 203.0.113.9 10.0.0.7 51234 8000\r\n", "203.0.113.9"),
    (b"PROXY TCP6 2001:DB8::1 fd00::7 51234 8000\r\n", "2001:db8::1"),
    (b"PROXY TCP6 ::ffff:203.0.113.9 ::ffff:10.0.0.7 51234 8000\r\n", "203.0.113.9"),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
    (block("203.0.113.9", "10.0.0.7"), "203.0.113.9"),
    (block("2001:db8::1", "fd00::7"), "2001:db8::1"),
    (block("203.0.113.9", "10.0.0.7", more=b"\x03\x00\x04abcd" * 9), "203.0.113.9"),
    (block("203.0.113.9", "10.0.0.7", command=0x20), None),
    (SIGNATURE + b"\x20\x00\x00\x00", None),
    (SIGNATURE + b"\x21\x31\x00\x03abc", None),
]
headers = pytest.mark.parametrize(("header", "client"), HEADERS, ids=range(len(HEADERS)))


@headers
def test_a_header_tells_the_client_and_leaves_the_rest(header: bytes, client: str | None) -> None:
    assert read(header) == Header(client, b"")
    assert read(header + BEHIND) == Header(client, BEHIND)


@headers
def test_a_header_may_come_in_any_pieces(header: bytes, client: str | None) -> None:
    assert client is None or client
    for size in range(1, len(header)):
        assert read(header[:size]) is None


@pytest.mark.parametrize(
    "wrong",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00",
        b"PROXY TCP4 203.0.113.9 10.0.0.7 51234\r\n",
        b"PROXY TCP4 203.0.113.9 10.0.0.7 51234 70000\r\n",
        b"PROXY TCP4 203.0.113.9 10.0.0.7 51234 -1\r\n",
        b"PROXY TCP6 fe80::1%\x1b[2J fd00::7 51234 8000\r\n",
        b"PROXY TCP6 fe80::1%eth0 fd00::7 51234 8000\r\n",
        b"PROXY TCP4 2001:db8::1 fd00::7 51234 8000\r\n",
        b"PROXY TCP4 localhost 10.0.0.7 51234 8000\r\n",
        b"PROXY TCP4  203.0.113.9 10.0.0.7 51234 8000\r\n",
        b"PROXY UDP4 203.0.113.9 10.0.0.7 51234 8000\r\n",
        b"PROXY \r\n",
        b"PROXY " + b"x" * 102,
        SIGNATURE + b"\x31\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11),
        SIGNATURE + b"\x21\x11\xff\xff",
    ],
    ids=range(17),
)
def test_bytes_that_are_no_header_are_refused(wrong: bytes) -> None:
    with pytest.raises(BadRequestError):
        read(wrong)


@given(st.binary(max_size=300), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE]))
def test_no_bytes_raise_anything_else_or_wait_for_ever(data: bytes, begin: bytes) -> None:
    try:
        told = read(begin + data)
    except BadRequestError:
        return
    assert told is not None or len(begin + data) < MAX_BYTES


@pytest.mark.parametrize("end", ["\r\n", "\r\nGET"])
def test_a_line_has_up_to_107_bytes_with_its_end(end: str) -> None:
    """A line is refused as soon as it is longer."""
    line = b"PROXY UNKNOWN " + b"x" * (107 - 14 - 2)
    assert read(line + end.encode()) == Header(None, end[2:].encode())
    for beyond in (line + b"x", line + b"x\r", line + b"x" + end.encode()):
        if len(beyond) < 107:
            assert read(beyond) is None
            continue
        with pytest.raises(BadRequestError, match="line is too long"):
            read(beyond)


def test_a_block_has_up_to_2048_bytes_behind_its_head() -> None:
    for size in (2048, 2049):
        head = SIGNATURE + b"\x20\x00" + size.to_bytes(2)
        if size == 2048:
            assert read(head + bytes(2047)) is None
            assert read(head + bytes(2048)) == Header(None, b"")
            continue
        with pytest.raises(BadRequestError, match="block is over 2,048 bytes"):
            read(head)


@pytest.mark.parametrize(("port", "taken"), [("0", True), ("65535", True), ("65536", False)])
def test_a_port_of_a_line_is_at_most_65535(port: str, taken: bool) -> None:
    line = f"PROXY TCP4 203.0.113.9 10.0.0.7 {port} 8000\r\n".encode()
    if taken:
        assert read(line) == Header("203.0.113.9", b"")
        return
    with pytest.raises(BadRequestError):
        read(line)
