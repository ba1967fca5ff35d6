"""`/docs`: every page is there, every link leads somewhere, whatever stands before the path."""

import asyncio
import re
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import httpx2 as httpx
import pytest

from hub.docs import DIRECTORY
from hub.docs.site import INDEX, Site
from hub.transports.http.answer import Answer
from hub.transports.http.pages import DocumentRoutes
from hub.transports.http.routes import Access
from hub.transports.request import Request
from tests.support.foreign_server import ForeignServer
from tests.support.hub_process import HubProcess

SECONDS = 20.0
PAGES = sorted({path.stem for path in DIRECTORY.glob("*.md")} - {INDEX})


class Seen(HTMLParser):
    """Collects a page's links and anchors, and whatever could run or change
    its look beside its files."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.inline: list[str] = []
        self._in_script = False
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.links += [link for name in ("href", "src") if (link := given.get(name))]
        if anchor := given.get("id"):
            self.anchors.add(anchor)
        self.inline += [name for name in given if name == "style" or name.startswith("on")]
        if tag == "style" or (tag == "script" and not given.get("src")):
            self.inline.append(tag)


@pytest.fixture(scope="module", params=["", "/live"], ids=["at the root", "below a base path"])
def hub(request: pytest.FixtureRequest) -> Iterator[HubProcess]:
    with HubProcess(HUB_BASE_PATH=request.param, HUB_OPERATOR_KEYS="o" * 32) as running:
        yield running


def get(url: str) -> httpx.Response:
    return httpx.get(url, timeout=SECONDS)


def test_every_document_stands_in_the_sidebar_once() -> None:
    """The table of contents is the sidebar, and its order that of the pages."""
    order = [entry.name for entry in Site(DIRECTORY).order]
    assert order[0] == INDEX
    assert sorted(order[1:]) == PAGES


def test_every_page_leads_to_the_next() -> None:
    """From the contents to the last one."""
    site = Site(DIRECTORY)
    for entry, following in zip(site.order, site.order[1:], strict=False):
        assert f'rel="next" href="{following.name}"' in site.page(entry.name)
    assert 'rel="next"' not in site.page(site.order[-1].name)


def test_the_routes_say_that_everybody_may_read() -> None:
    """By the table of routes, as every other endpoint."""
    routes = DocumentRoutes().routes()
    assert {route.path: route.access for route in routes} == {
        "/docs": Access.ANYBODY,
        "/docs/{file:path}": Access.ANYBODY,
    }


def test_every_link_of_every_page_leads_somewhere(hub: HubProcess) -> None:
    """To an answer with 200, and to an anchor that is there. A crawl from `/docs` meets all."""
    start = f"{hub.url}/docs"
    pages: dict[str, Seen] = {}
    linked: dict[str, set[str]] = {}
    waiting, wrong = [start], []
    while waiting:
        url = waiting.pop()
        if url in pages:
            continue
        answer = get(url)
        if answer.status_code != 200:
            wrong.append(f"{url}: {answer.status_code}")
        is_page = answer.headers["content-type"].startswith("text/html") and "/docs" in url
        pages[url] = Seen(answer.text if is_page else "")
        for link in pages[url].links:
            to, _, anchor = urljoin(url, link).partition("#")
            if to.startswith(hub.url):
                waiting.append(to)
                linked.setdefault(to, set()).add(anchor)
    wrong += [
        f"{url}#{anchor}"
        for url, anchors in linked.items()
        for anchor in anchors - pages[url].anchors - {""}
    ]
    assert wrong == []
    assert {f"{start}/{name}" for name in PAGES} <= set(pages)


def test_no_page_needs_more_than_its_policy_allows(hub: HubProcess) -> None:
    """No script, style or handler in the page itself; nothing of the Markdown is left as it was."""
    for name in ("", *PAGES):
        answer = get(f"{hub.url}/docs/{name}")
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert Seen(answer.text).inline == [], name
        prose = re.sub(r"<(pre|code).*?</\1>", "", answer.text, flags=re.DOTALL)
        assert not re.search(r"&lt;!--|\*\*|\]\(|^\|", prose, re.MULTILINE), name


def test_a_page_is_there_as_markdown_too(hub: HubProcess) -> None:
    answer = get(f"{hub.url}/docs/react.md")
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    assert answer.text == (DIRECTORY / "react.md").read_text()


def test_the_search_knows_every_section(hub: HubProcess) -> None:
    """With the address of each."""
    sections = get(f"{hub.url}/docs/search.json").json()
    assert {each["page"] for each in sections} == {"", *PAGES}
    (resume,) = (each for each in sections if each["heading"] == "Reconnecting")
    assert (resume["page"], resume["anchor"]) == ("protocol", "reconnecting")
    assert "full jitter" in resume["text"]


@pytest.mark.parametrize("name", ["page.html", "site.py", "README", "../app.py", "%2e%2e/app.py"])
def test_a_file_that_is_no_document_is_not_there(hub: HubProcess, name: str) -> None:
    """Neither the template nor the program that fills it."""
    path = urlsplit(hub.url).path
    with httpx.Client(base_url=hub.url.removesuffix(path), timeout=SECONDS) as client:
        assert client.get(f"{path}/docs/{name}").status_code == 404


def test_a_page_that_a_browser_has_is_not_sent_again(hub: HubProcess) -> None:
    url = f"{hub.url}/docs/settings"
    known = {"If-None-Match": get(url).headers["etag"]}
    again = httpx.get(url, headers=known, timeout=SECONDS)
    assert (again.status_code, again.text) == (304, "")


async def test_a_page_is_made_once_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is made once however many ask for it at the same time, and a later
    request has its answer at once."""
    made: list[tuple[str, int]] = []
    make = Site.page

    def noted(site: Site, name: str, *, below: str = "") -> str:
        made.append((name, threading.get_ident()))
        return make(site, name, below=below)

    monkeypatch.setattr(Site, "page", noted)
    _, named = DocumentRoutes().routes()
    requests = [request_for("react") for _ in range(5)]
    first = [named.handler(request) for request in requests]
    answers = await asyncio.gather(*(each for each in first if not isinstance(each, Answer)))
    assert [answer.status for answer in answers] == [200] * 5
    assert [name for name, _ in made] == ["react"]
    assert made[0][1] != threading.get_ident()
    assert isinstance(named.handler(request_for("react")), Answer)


def request_for(name: str) -> Request:
    request = Request({"host": "127.0.0.1"})
    request.params = {"file": name}
    return request


MOUNTED = """
from contextlib import asynccontextmanager
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from hub import Hub, Settings

hub = Hub(Settings())

@asynccontextmanager
async def lifespan(_):
    async with hub:
        yield

ours = Route("/healthz", lambda request: PlainTextResponse("the application's"))
app = Starlette(routes=[ours, Mount("/live", hub.asgi())], lifespan=lifespan)
"""


def test_where_the_hub_is_mounted_its_documents_are_below() -> None:
    """Their links are relative, so no prefix has to be known."""
    with ForeignServer("uvicorn", application=MOUNTED) as server:
        pages = {f"{server.url}/live/docs"}
        for url in list(pages):
            answer = get(url)
            assert answer.status_code == 200
            pages |= {urljoin(url, link) for link in Seen(answer.text).links}
        assert f"{server.url}/live/docs/react" in pages
        ours = {url.partition("#")[0] for url in pages if url.startswith(server.url)}
        assert [url for url in ours if get(url).status_code != 200] == []


APPLICATION = """
import sys

import hub
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

docs = Route("/docs", lambda request: PlainTextResponse("the application's"))
settings = hub.Settings(port=0, base_path=sys.argv[1], log_format="json")
hub.serve(Starlette(routes=[docs]), settings)
"""


class Beside(HubProcess):
    """A hub with an application that answers every path."""

    program = ("-c", APPLICATION)


def test_the_documents_of_an_application_beside_the_hub_come_first() -> None:
    """FastAPI has its own there. With a base path before them the hub's are there as well."""
    with Beside("") as hub:
        assert get(f"{hub.url}/docs").text == "the application's"
    with Beside("/live") as hub:
        assert "Broadcast hub" in get(f"{hub.url}/docs").text
        assert get(f"{hub.url.removesuffix('/live')}/docs").text == "the application's"
