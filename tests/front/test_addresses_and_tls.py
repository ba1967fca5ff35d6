"""The client's address behind proxies, and TLS of the hub's own, over real sockets."""

import asyncio
import contextlib
import json
import shutil
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import websockets

from hub import Hub, Settings
from hub.errors import SettingsError
from hub.node import file_watch
from tests.support.certificates import Certificates, is_installed, make_certificates
from tests.support.waiting import eventually
from tests.transports.connection.test_proxy_protocol import block

CLIENT, FORGED = "203.0.113.9", "1.2.3.4"
LINE = f"PROXY TCP4 {CLIENT} 10.0.0.7 51234 8000\r\n".encode()
ASK = b"GET /sse?channel=a HTTP/1.1\r\nHost: localhost\r\n\r\n"


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Hub]:
    async with Hub(Settings(port=0, drain_seconds=0, **settings)) as hub:
        yield hub


async def addresses(hub: Hub) -> list[str]:
    return [session.link.address for session in hub.node.registry.sessions.values()]


async def ask(hub: Hub, data: bytes, context: ssl.SSLContext | None = None) -> bytes:
    """Sends `data` on a new connection and returns the first bytes that come; b"" if it ends."""
    port = int(hub.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        if context is not None:
            await writer.start_tls(context, server_hostname="127.0.0.1")
            writer.write(ASK)
        async with asyncio.timeout(30):
            return await reader.read(1000)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


# -- header fields ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": f"{FORGED}, {CLIENT}"},
        {"Forwarded": f'for={FORGED}, for="{CLIENT}:4711";proto=https'},
    ],
)
async def test_a_trusted_proxy_tells_the_address_of_a_session(headers: dict[str, str]) -> None:
    async with running(trusted_proxies=("127.0.0.0/8",)) as hub:
        for path in ("/ws?channel=a", "/sse?channel=a", "/poll?channel=a"):
            async with httpx.AsyncClient(base_url=hub.url) as http:
                if path.startswith("/ws"):
                    async with websockets.connect(
                        f"ws{hub.url[4:]}{path}", additional_headers=headers
                    ) as ws:
                        await ws.recv()
                        assert await addresses(hub) == [CLIENT]
                else:
                    asked = asyncio.create_task(http.get(path, headers=headers))
                    await eventually(lambda: bool(hub.node.registry.sessions))
                    assert await addresses(hub) == [CLIENT]
                    asked.cancel()
            await eventually(lambda: not hub.node.registry.sessions, seconds=20)


async def test_a_proxy_that_is_not_trusted_tells_no_address() -> None:
    async with (
        running(trusted_proxies=("10.0.0.0/8",)) as hub,
        websockets.connect(
            f"ws{hub.url[4:]}/ws", additional_headers={"X-Forwarded-For": FORGED}
        ) as ws,
    ):
        await ws.recv()
        assert await addresses(hub) == ["127.0.0.1"]


# -- the PROXY protocol -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "address"),
    [
        (LINE, CLIENT),
        (block(CLIENT, "10.0.0.7"), CLIENT),
        (block("2001:db8::1", "fd00::7"), "2001:db8::1"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (block(CLIENT, "10.0.0.7", command=0x20), "127.0.0.1"),
    ],
    ids=range(5),
)
async def test_a_header_in_front_of_a_connection_tells_it(header: bytes, address: str) -> None:
    async with running(proxy_protocol=True) as hub:
        port = int(hub.url.rpartition(":")[2])
        for pieces in (1, 7):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            whole = header + ASK
            size = -(-len(whole) // pieces)
            for at in range(0, len(whole), size):
                writer.write(whole[at : at + size])
                await asyncio.sleep(0.01)
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            assert await addresses(hub) == [address]
            writer.close()
            await eventually(lambda: not hub.node.registry.sessions)


async def test_without_its_header_a_connection_ends_and_counts() -> None:
    async with running(proxy_protocol=True) as hub:
        assert await ask(hub, ASK) == b""
        assert hub.node.counters.refused["bad_request"] == 1
        assert hub.node.counters.refusals["proxy_header"] == 1
        (row,) = hub.node.refusals.table.refusals()
        assert (row.reason, row.address) == ("proxy_header", "127.0.0.1")
        assert "does not begin with a PROXY protocol header" in row.detail


async def test_a_header_that_never_ends_is_given_up() -> None:
    async with running(proxy_protocol=True, handshake_timeout_seconds=0.3) as hub:
        for begin in (b"", LINE[:9], block(CLIENT, "10.0.0.7")[:15]):
            assert await ask(hub, begin) == b""


async def test_only_trusted_proxies_begin_with_it_where_some_are_named() -> None:
    async with running(proxy_protocol=True, trusted_proxies=("10.0.0.0/8",)) as hub:
        assert (await ask(hub, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"))[9:12] == b"200"
        assert (await ask(hub, LINE + ASK))[9:12] == b"400"


# -- TLS --------------------------------------------------------------------------------------

needs_openssl = pytest.mark.skipif(not is_installed(), reason="openssl is not installed")


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path)


def trusting(certificates: Certificates) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificates.authority)


async def until(ws: websockets.ClientConnection, op: str) -> dict[str, Any]:
    """The next push of this kind, after what else comes, such as a heartbeat."""
    while (push := json.loads(await ws.recv()))["op"] != op:
        pass
    return dict(push)


@needs_openssl
async def test_the_hub_speaks_tls_itself(certificates: Certificates) -> None:
    made, context = certificates, trusting(certificates)
    async with running(tls_cert=str(made.certificate), tls_key=str(made.key)) as hub:
        assert hub.url.startswith("https://")
        async with httpx.AsyncClient(base_url=hub.url, verify=context) as http:
            async with websockets.connect(f"wss{hub.url[5:]}/ws?channel=a", ssl=context) as ws:
                await until(ws, "subscribed")
                answer = await http.post("/api/publish/a", json={"n": 1})
                assert answer.status_code == 200
                assert (await until(ws, "message"))["data"] == {"n": 1}
            sent = await http.get("/api/channels/a/history")
            assert sent.json()["publications"][0]["data"] == {"n": 1}


@needs_openssl
async def test_an_address_has_so_many_connections_over_tls_too(
    certificates: Certificates, capfd: pytest.CaptureFixture[str]
) -> None:
    """The first ones send nothing."""
    made, context = certificates, trusting(certificates)
    tls = {"tls_cert": str(made.certificate), "tls_key": str(made.key)}
    async with running(**tls, address_connections=3) as hub:
        port = int(hub.url.rpartition(":")[2])
        silent = [await asyncio.open_connection("127.0.0.1", port, ssl=context) for _ in range(3)]
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(f"wss{hub.url[5:]}/ws", ssl=context)
        assert refused.value.response.status_code == 429
        for _, writer in silent:
            writer.close()
    assert "Traceback" not in "".join(capfd.readouterr())


@needs_openssl
async def test_of_tls_the_hub_speaks_what_is_modern_and_of_http_the_first_version(
    certificates: Certificates,
) -> None:
    """TLS 1.2 with forward secrecy and 1.3; of what a peer offers by ALPN, http/1.1 alone."""
    made = certificates
    async with running(tls_cert=str(made.certificate), tls_key=str(made.key)) as hub:

        async def agreed(**offered: Any) -> tuple[str | None, str, str | None]:
            context = trusting(made)
            context.set_ciphers(offered.pop("ciphers", "ALL:@SECLEVEL=0"))
            context.set_alpn_protocols(offered.pop("alpn", []))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                context.minimum_version = ssl.TLSVersion.TLSv1
                context.maximum_version = offered.pop("version", ssl.TLSVersion.TLSv1_3)
            port = int(hub.url.rpartition(":")[2])
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            tls = writer.get_extra_info("ssl_object")
            writer.close()
            return tls.version(), tls.cipher()[0], tls.selected_alpn_protocol()

        assert (await agreed())[0] == "TLSv1.3"
        version, cipher, _ = await agreed(version=ssl.TLSVersion.TLSv1_2)
        assert version == "TLSv1.2"
        assert cipher.startswith("ECDHE-")
        assert (await agreed(alpn=["h2", "http/1.1"]))[2] == "http/1.1"
        assert (await agreed(alpn=["h2"]))[2] is None
        for old in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await agreed(version=old)
        for weak in ("AES128-SHA", "AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-SHA"):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await agreed(version=ssl.TLSVersion.TLSv1_2, ciphers=f"{weak}:@SECLEVEL=0")


@needs_openssl
@pytest.mark.parametrize("header", [b"", LINE], ids=["plain", "headed"])
async def test_a_peer_without_tls_at_a_port_with_tls_is_counted_and_seen(
    certificates: Certificates, header: bytes
) -> None:
    made = certificates
    async with running(
        tls_cert=str(made.certificate), tls_key=str(made.key), proxy_protocol=bool(header)
    ) as hub:
        assert b"this port speaks TLS: use https:// or wss://" in await ask(hub, header + ASK)
        await eventually(lambda: bool(hub.node.refusals.table.refusals()))
        assert hub.node.counters.refusals["tls_handshake"] == 1
        (row,) = hub.node.refusals.table.refusals()
        assert (row.reason, row.address) == ("tls_handshake", CLIENT if header else "127.0.0.1")
        assert row.detail == "the TLS handshake failed: http request"


@needs_openssl
@pytest.mark.parametrize("header", [b"", LINE], ids=["plain", "headed"])
async def test_a_handshake_that_never_ends_is_counted_and_seen(
    certificates: Certificates, header: bytes
) -> None:
    """Also one of which the first bytes have come."""
    made = certificates
    async with running(
        tls_cert=str(made.certificate),
        tls_key=str(made.key),
        proxy_protocol=bool(header),
        handshake_timeout_seconds=1,
    ) as hub:
        assert await ask(hub, header + b"\x16\x03\x01\x02\x00\x01") == b""
        await eventually(lambda: bool(hub.node.refusals.table.refusals()))
        assert hub.node.counters.refusals["tls_handshake"] == 1
        (row,) = hub.node.refusals.table.refusals()
        assert (row.reason, row.address) == ("tls_handshake", CLIENT if header else "127.0.0.1")
        assert row.detail == "no whole TLS handshake within 1 seconds"


@needs_openssl
async def test_a_renewed_certificate_is_read_and_a_broken_one_is_not(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_watch, "LOOK_SECONDS", 0.05)
    (tmp_path / "next").mkdir()
    following = make_certificates(tmp_path / "next")
    made = certificates
    async with running(tls_cert=str(made.certificate), tls_key=str(made.key)) as hub:

        async def is_served(of: Certificates) -> bool:
            try:
                async with httpx.AsyncClient(base_url=hub.url, verify=trusting(of)) as http:
                    return (await http.get("/healthz")).status_code == 200
            except httpx.ConnectError:
                return False

        assert await is_served(made)
        made.certificate.write_text("rubbish")
        await asyncio.sleep(0.3)
        assert await is_served(made)
        shutil.copy(following.key, made.key)
        shutil.copy(following.certificate, made.certificate)
        for _ in range(100):
            if await is_served(following):
                break
            await asyncio.sleep(0.1)
        assert await is_served(following)
        assert not await is_served(made)


@needs_openssl
async def test_a_header_stands_before_the_handshake(certificates: Certificates) -> None:
    made = certificates
    async with running(
        tls_cert=str(made.certificate), tls_key=str(made.key), proxy_protocol=True
    ) as hub:
        answer = await ask(hub, LINE, trusting(made))
        assert answer.startswith(b"HTTP/1.1 200")
        assert CLIENT in await addresses(hub)


@needs_openssl
async def test_peers_that_do_not_shake_hands_are_bounded(certificates: Certificates) -> None:
    """Also with a whole header: the node counts a connection only when its handshake is."""
    made = certificates
    async with running(
        tls_cert=str(made.certificate),
        tls_key=str(made.key),
        proxy_protocol=True,
        max_connections=2,
    ) as hub:
        port = int(hub.url.rpartition(":")[2])
        writers, reads = [], []
        for _ in range(4):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(LINE)
            writers.append(writer)
            reads.append(asyncio.create_task(reader.read(1)))
        await eventually(lambda: sum(read.done() for read in reads) == 2)
        await asyncio.sleep(0.1)
        assert sum(read.done() for read in reads) == 2
        for writer in writers:
            writer.close()
        await asyncio.gather(*reads, return_exceptions=True)

        async def is_served() -> bool:
            with contextlib.suppress(OSError):
                return (await ask(hub, LINE, trusting(made))).startswith(b"HTTP/1.1 200")
            return False

        await eventually(is_served)


@needs_openssl
async def test_a_peer_that_begins_no_handshake_counts_for_its_address(
    certificates: Certificates,
) -> None:
    """Those above its bound end at once, and the others by the deadline of a handshake."""
    made = certificates
    async with running(
        tls_cert=str(made.certificate),
        tls_key=str(made.key),
        address_connections=3,
        handshake_timeout_seconds=30,
    ) as hub:
        port = int(hub.url.rpartition(":")[2])
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
        async with asyncio.timeout(30):
            assert [await reader.read() for reader, _ in silent[3:]] == [b""] * 5
        assert not any(reader.at_eof() for reader, _ in silent[:3])
        for _, writer in silent:
            writer.close()


@needs_openssl
@pytest.mark.parametrize("named", [(), ("127.0.0.0/8",)])
async def test_a_peer_that_begins_no_handshake_behind_a_proxy_counts_for_its_own_address(
    certificates: Certificates, named: tuple[str, ...]
) -> None:
    """One client that only waits keeps no other client of the proxy out."""
    made = certificates
    async with running(
        tls_cert=str(made.certificate),
        tls_key=str(made.key),
        proxy_protocol=True,
        trusted_proxies=named,
        address_connections=3,
        handshake_timeout_seconds=30,
    ) as hub:
        port = int(hub.url.rpartition(":")[2])
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
        for _, writer in silent:
            writer.write(LINE)
        async with asyncio.timeout(30):
            ended = {asyncio.create_task(reader.read()) for reader, _ in silent}
            while sum(task.done() for task in ended) < 5:
                await asyncio.wait(
                    [task for task in ended if not task.done()],
                    return_when=asyncio.FIRST_COMPLETED,
                )
        assert sum(task.done() for task in ended) == 5
        assert hub.node.counters.rate_limited["address_connections"] == 5
        other = LINE.replace(CLIENT.encode(), b"198.51.100.4")
        assert (await ask(hub, other, trusting(made))).startswith(b"HTTP/1.1 200")
        for _, writer in silent:
            writer.close()
        await asyncio.gather(*ended, return_exceptions=True)


def test_a_key_without_its_certificate_is_no_start_without_tls() -> None:
    with pytest.raises(SettingsError, match="HUB_TLS_CERT"):
        Settings(tls_key="/etc/key.pem")


@needs_openssl
@pytest.mark.parametrize("wrong", ["missing", "rubbish", "another's key"])
async def test_files_that_are_no_certificate_end_the_start(
    certificates: Certificates, tmp_path: Path, wrong: str
) -> None:
    cert, key = certificates.certificate, certificates.key
    if wrong == "missing":
        cert.unlink()
    elif wrong == "rubbish":
        cert.write_text("rubbish")
    else:
        (tmp_path / "other").mkdir()
        key = make_certificates(tmp_path / "other").key
    with pytest.raises(SettingsError, match=r"HUB_TLS_CERT is .*: .*; allowed: PEM files"):
        async with running(tls_cert=str(cert), tls_key=str(key)):
            pass
