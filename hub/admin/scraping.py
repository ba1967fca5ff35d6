"""One page of metrics for all workers of a machine, at any of them.

Every worker renders its own page (`hub.observe.metrics`). Workers of other machines are scraped
there.
"""

import asyncio
from collections.abc import Callable

from hub.admin.requests import Admin, AdminRequest, AtTag, Handlers
from hub.core.node_records import NodeRecord
from hub.errors import HubError
from hub.observe.metrics import merged

Page = tuple[bytes, str]
"""The exposition and its content type."""


class Scrape(AdminRequest[bytes], frozen=True, tag="scrape"):
    """Asks for a worker's metrics, for a scraper that accepts these types."""

    accept: str


class Scraping:
    """One per worker.

    Args:
        render: returns the page of this worker alone.
        record: returns this worker's record.
    """

    def __init__(
        self, admin: Admin, render: Callable[[str], Page], record: Callable[[], NodeRecord]
    ) -> None:
        self._admin = admin
        self._render = render
        self._record = record

    async def everywhere(self, accept: str) -> Page:
        """Return this worker's page with those of its siblings that answer."""
        body, content_type = self._render(accept)
        try:
            nodes = await self._admin.nodes()
        except HubError:
            return body, content_type
        own = self._record()
        tags = [tag for tag, record in nodes.items() if _is_sibling(record, own)]
        answers = await asyncio.gather(
            *(self._admin.call(Scrape(accept), AtTag(tag)) for tag in tags), return_exceptions=True
        )
        pages = [body]
        for answer in answers:
            if isinstance(answer, bytes):
                pages.append(answer)
            elif not isinstance(answer, HubError):
                raise answer
        return merged(pages), content_type


def scraping(render: Callable[[str], Page]) -> Handlers:
    """Return the handler of `Scrape` at this worker."""

    async def scrape(asked: Scrape) -> bytes:
        return render(asked.accept)[0]

    return {Scrape: scrape}


def _is_sibling(record: NodeRecord, own: NodeRecord) -> bool:
    """Return whether it is another worker of the same supervisor, by the names of both."""
    if not record.worker or (record.node, record.started_ms) == (own.node, own.started_ms):
        return False
    base = own.node.removesuffix(f"-{own.worker}")
    return record.node == f"{base}-{record.worker}"
