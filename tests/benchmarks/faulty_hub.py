"""A hub of a few lines that loses, repeats and announces as told: what a benchmark must see.

Run as a program so that the benchmark can start it in the place of a hub:
`python -m tests.benchmarks.faulty_hub FAULT`, with HUB_PORT in its environment.
"""

import http
import json
import os
import sys
from urllib.parse import parse_qs, urlsplit

from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

FAULTY_OFFSET = 10
"""The offset of the publication with which the fault happens."""


class FaultyHub:
    """Channels and their subscribers; each connection has a thread."""

    def __init__(self, fault: str) -> None:
        self._fault = fault
        self._offsets: dict[str, int] = {}
        self._subscribers: dict[str, list[ServerConnection]] = {}

    def answer(self, _: ServerConnection, request: Request) -> Response | None:
        if request.path != "/readyz":
            return None
        return Response(http.HTTPStatus.OK, "OK", Headers({"Content-Length": "0"}), b"")

    def serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        for channel in parse_qs(urlsplit(connection.request.path).query).get("channel", []):
            self._subscribers.setdefault(channel, []).append(connection)
            connection.send(json.dumps({"op": "subscribed"}, separators=(",", ":")))
        for raw in connection:
            command = json.loads(raw)
            offset = self._publish(command["channel"], command["data"])
            ok = {"op": "reply", "id": command["id"], "ok": {"offset": offset, "epoch": "e"}}
            connection.send(json.dumps(ok, separators=(",", ":")))

    def _publish(self, channel: str, data: object) -> int:
        offset = self._offsets[channel] = self._offsets.get(channel, 0) + 1
        push = {"op": "message", "channel": channel, "offset": offset, "data": data}
        pushes = [json.dumps(push, separators=(",", ":"))]
        if offset == FAULTY_OFFSET:
            pushes = self._spoil(pushes[0])
        for subscriber in self._subscribers.get(channel, []):
            for each in pushes:
                subscriber.send(each)
        return offset

    def _spoil(self, push: str) -> list[str]:
        gap = f'{{"op":"gap","epoch":"e","from":{FAULTY_OFFSET},"to":{FAULTY_OFFSET}}}'
        return {"none": [push], "lose": [], "repeat": [push, push], "announce": [gap]}[self._fault]


def main() -> None:
    hub = FaultyHub(sys.argv[1])
    port = int(os.environ["HUB_PORT"])
    with serve(
        hub.serve, "127.0.0.1", port, process_request=hub.answer, compression=None
    ) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
