"""`/healthz`, `/readyz` and `/metrics`: for orchestrators and Prometheus, without credentials."""

from starlette.requests import Request
from starlette.responses import Response

from hub.transports.http.access import header
from hub.transports.http.answer import json_answer
from hub.transports.http.ports import HttpDeps


class Health:
    """Alive means that the event loop answers; ready means that it should get traffic."""

    def __init__(self, deps: HttpDeps) -> None:
        self._ready = deps.ready
        self._metrics = deps.metrics

    async def healthz(self, _request: Request) -> Response:
        return json_answer({"status": "ok"})

    async def readyz(self, _request: Request) -> Response:
        """503 with the reasons while the node drains or cannot reach what it needs."""
        reasons = list(self._ready())
        status = 503 if reasons else 200
        return json_answer({"ready": not reasons, "reasons": reasons}, status=status)

    async def metrics(self, request: Request) -> Response:
        """OpenMetrics where the scraper accepts it, else Prometheus' plain text."""
        body, content_type = self._metrics(header(request, b"accept") or "")
        return Response(body, headers={"Content-Type": content_type, "Cache-Control": "no-store"})
