"""`/healthz`, `/readyz` and `/metrics`: for orchestrators and Prometheus, without credentials."""

from collections.abc import Coroutine
from typing import Any

from hub.transports.http.answer import Answer, json_answer
from hub.transports.http.ports import HttpDeps, Scraped
from hub.transports.http.routes import Access, Handler, Route
from hub.transports.http.schemas import STRING, Json, content, ok, ref
from hub.transports.request import Request


class Health:
    """Alive means that the event loop answers; ready means that it should get traffic."""

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
            _route("/healthz", self.healthz, "Is the process alive", ok("It is.", ref("Alive"))),
            _route("/readyz", self.readyz, "Should it get traffic", ready),
            _route("/metrics", self.metrics, "Metrics", exposition),
        )

    def healthz(self, _request: Request) -> Answer:
        return json_answer({"status": "ok"})

    def readyz(self, _request: Request) -> Answer:
        """503 with the reasons while the node drains or cannot reach what it needs."""
        reasons = list(self._ready())
        status = 503 if reasons else 200
        return json_answer({"ready": not reasons, "reasons": reasons}, status=status)

    def metrics(self, request: Request) -> Answer | Coroutine[Any, Any, Answer]:
        """OpenMetrics where the scraper accepts it, else Prometheus' plain text."""
        scraped = self._metrics(request.headers.get("accept", ""))
        return _page(scraped) if isinstance(scraped, tuple) else _page_later(scraped)


def _page(scraped: Scraped) -> Answer:
    body, content_type = scraped
    return Answer(body, content_type=content_type)


async def _page_later(scraping: Coroutine[Any, Any, Scraped]) -> Answer:
    return _page(await scraping)


def _route(path: str, handler: Handler, summary: str, answers: Json) -> Route:
    return Route(
        method="GET",
        path=path,
        access=Access.ANYBODY,
        handler=handler,
        summary=summary,
        answers=answers,
    )
