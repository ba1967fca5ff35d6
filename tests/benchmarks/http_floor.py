"""The floor of a request: a bare httptools loop that reads a body, stores it and answers.

    python -m tests.benchmarks.http_floor PORT [CERTIFICATE KEY]

A `GET /N` is answered with N bytes, a `GET /ws` refused without a look and closed. It has no
routes, no limits, no deadlines and no checks. `hub bench --intake` puts it beside the hub, under
the same load in the same run.
"""

import asyncio
import ssl
import sys
from typing import cast

import httptools
import uvloop

_ANSWER = b'{"channel":"intake-0","offset":%d,"epoch":"0123456789ab"}'
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"

_REFUSAL = b"HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Floor(asyncio.Protocol):
    """One connection."""

    stored: list[bytes] = []  # noqa: RUF012 - all connections of this program share it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpRequestParser(self)
        self._headers: dict[bytes, bytes] = {}
        self._body = self._target = b""
        self._answers: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET /ws"):
            self._transport.write(_REFUSAL)
            self._transport.close()
            return
        self._parser.feed_data(data)
        self._transport.write(b"".join(self._answers))
        self._answers.clear()

    def on_url(self, url: bytes) -> None:
        self._target = url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self.stored[:-100] = []
        self.stored.append(self._body)
        self._body = b""
        self._headers.clear()
        size = self._target[1:]
        answer = b"x" * int(size) if size.isdigit() else _ANSWER % len(self.stored)
        self._answers.append(_HEAD % (len(answer), answer))


async def _serve(port: int, *files: str) -> None:
    loop, secured = asyncio.get_running_loop(), None
    if files:
        secured = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        secured.load_cert_chain(*files)
    server = await loop.create_server(Floor, "127.0.0.1", port, ssl=secured)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), *sys.argv[2:]))
