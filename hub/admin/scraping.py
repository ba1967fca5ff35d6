"""One page of metrics for all workers of a machine, at any of them.

Every worker renders its own page (`hub.observe.metrics`). Workers of other machines, and those of
another hub on this machine, are scraped there.

While a worker is replaced, its successor has the same number, so both pages hold the same series.
The page of the one that started later stands for both.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hub.admin.requests import Admin, AdminRequest, AtTag, Handlers
from hub.core.node_records import NodeRecord
from hub.errors import HubError
from hub.observe.metrics import merged

Page = tuple[bytes, str]
"""The exposition and its content type."""


class Scrape(AdminRequest[bytes], frozen=True, tag="scrape"):
    """Asks for a worker's metrics, for a scraper that accepts these types.

    The answer of a worker of another `supervisor` is empty.
    """

    accept: str
    supervisor: str = ""


@dataclass(frozen=True, slots=True)
class Scraped:
    """The worker that is scraped."""

    tag: str
    supervisor: str
    render: Callable[[str], Page]
    """Returns the page of this worker alone."""
    record: Callable[[], NodeRecord]


class Scraping:
    """Collects the pages of metrics of all workers; one per worker."""

    def __init__(self, admin: Admin, worker: Scraped) -> None:
        self._admin = admin
        self._worker = worker

    async def everywhere(self, accept: str) -> Page:
        """Return this worker's page with those of its siblings that answer."""
        worker = self._worker
        body, content_type = worker.render(accept)
        try:
            nodes = {**await self._admin.nodes(), worker.tag: worker.record()}
        except HubError:
            return body, content_type
        asked = Scrape(accept, worker.supervisor)
        tags = [tag for tag in _siblings(nodes, nodes[worker.tag]) if tag != worker.tag]
        answers = await asyncio.gather(
            *(self._admin.call(asked, AtTag(tag)) for tag in tags), return_exceptions=True
        )
        pages = {worker.tag: body}
        for tag, answer in zip(tags, answers, strict=True):
            if not isinstance(answer, bytes):
                if not isinstance(answer, HubError):
                    raise answer
            elif answer:
                pages[tag] = answer
        # Of each number the last one stays.
        by_number = {
            nodes[tag].worker: pages[tag]
            for tag in sorted(pages, key=lambda tag: nodes[tag].started_ms)
        }
        return merged(list(by_number.values())), content_type


def scraping(worker: Scraped) -> Handlers:
    """Return the handler of `Scrape` at this worker."""

    async def scrape(asked: Scrape) -> bytes:
        is_sibling = asked.supervisor in {"", worker.supervisor}
        return worker.render(asked.accept)[0] if is_sibling else b""

    return {Scrape: scrape}


def _siblings(nodes: Mapping[str, NodeRecord], own: NodeRecord) -> list[str]:
    """Return the tags of nodes whose names are those of this node's siblings, such as `web-2`."""
    base = own.node.removesuffix(f"-{own.worker}")
    return [
        tag
        for tag, record in nodes.items()
        if own.worker and record.worker and record.node == f"{base}-{record.worker}"
    ]
