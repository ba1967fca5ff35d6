"""`/healthz`, `/readyz` and `/metrics`: for orchestrators and Prometheus, without credentials."""

from collections.abc import Coroutine
from typing import Any

from hub.transports.http.answer import Answer, json_answer
from hub.transports.http.ports import HttpDeps, Scraped
from hub.transports.http.routes import Route, public
from hub.transports.http.schemas import STRING, content, ok, ref
from hub.transports.request import Request


class HealthRoutes:
    """A node is alive while its event loop answers, and ready while it should get traffic."""

    def __init__(self, deps: HttpDeps) -> None:
        self._ready = deps.ready
        self._metrics = deps.metrics

    def routes(self) -> tuple[Route, ...]:
        ready = {
            "200": content("Ready.", ref("Ready")),
            "503": content("Not ready, and why.", ref("Ready")),
        }
        exposition = ok("Prometheus exposition.", STRING, "text/plain")
        return (
            public("/healthz", self.healthz, "Is the process alive", ok("It is.", ref("Alive"))),
            public("/readyz", self.readyz, "Should it get traffic", ready),
            public("/metrics", self.metrics, "Metrics", exposition),
        )

    def healthz(self, _request: Request) -> Answer:
        return json_answer({"status": "ok"})

    def readyz(self, _request: Request) -> Answer:
        """Answer 503 with the reasons while the node drains or cannot reach its broker."""
        reasons = list(self._ready())
        status = 503 if reasons else 200
        return json_answer({"ready": not reasons, "reasons": reasons}, status=status)

    def metrics(self, request: Request) -> Answer | Coroutine[Any, Any, Answer]:
        """Answer in OpenMetrics where the scraper accepts it, else in Prometheus' plain text."""
        scraped = self._metrics(request.headers.get("accept", ""))
        return _page(scraped) if isinstance(scraped, tuple) else _page_later(scraped)


def _page(scraped: Scraped) -> Answer:
    body, content_type = scraped
    return Answer(body, content_type=content_type)


async def _page_later(scraping: Coroutine[Any, Any, Scraped]) -> Answer:
    return _page(await scraping)
