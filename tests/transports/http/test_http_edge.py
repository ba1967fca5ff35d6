"""Rules that hold for every path: errors, methods, origins, the base path and the fallback."""

import base64
from pathlib import Path

import httpx2 as httpx
import pytest
from starlette.responses import PlainTextResponse

from hub.transports.http.routes import RouteTable
from hub.transports.http.wrong_paths import WrongPaths
from tests.transports.http.fakes import (
    BUILT_CLIENT,
    OPERATOR,
    OPERATOR_KEY,
    PUBLISHER,
    Hub,
    make_hub,
)

SHOP = "https://shop.example"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/api/publish/a", "POST, OPTIONS"),
        ("PUT", "/api/connections/c1", "GET, DELETE, HEAD, OPTIONS"),
        ("POST", "/ws", "GET, HEAD, OPTIONS"),
        ("POST", "/sse", "GET, HEAD, OPTIONS"),
        ("POST", "/poll", "GET, HEAD, OPTIONS"),
        ("DELETE", "/", "GET, HEAD, OPTIONS"),
        ("BREW", "/healthz", "GET, HEAD, OPTIONS"),
    ],
)
async def test_a_wrong_method_names_the_right_ones(
    hub: Hub, method: str, path: str, allow: str
) -> None:
    """405 with Allow, as a problem."""
    async with hub.client() as client:
        answer = await client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == allow


@pytest.mark.parametrize("path", ["/nothing", "/api", "/api/channels/", "/api/nodes/n1", "//"])
async def test_an_unknown_path_is_a_problem(hub: Hub, path: str) -> None:
    """404, for every method."""
    async with hub.client() as client:
        answer = await client.post(f"http://hub.test{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("base_path", ["", "/live"])
async def test_a_channel_with_a_slash_is_told_what_is_wrong(files: Path, base_path: str) -> None:
    """Other hubs have topics such as `news/today`."""
    hub = make_hub(files, base_path=base_path)
    async with hub.client(**PUBLISHER) as client:
        slash = await client.post(f"{base_path}/api/publish/news/today", content=b"1")
        other = await client.post(f"{base_path}/api/nothing/here", content=b"1")
    assert (slash.status_code, slash.json()["code"]) == (404, "not_found")
    assert slash.json()["detail"].endswith("/news/today': a channel's name has no slash")
    assert other.json()["detail"].endswith("/here'")


async def test_a_plain_request_of_ws_is_told_to_upgrade(hub: Hub) -> None:
    """426 names the protocol."""
    async with hub.client() as client:
        answer = await client.get("/ws")
    assert (answer.status_code, answer.json()["code"]) == (426, "upgrade_required")
    assert answer.headers["upgrade"] == "websocket"


async def test_an_unexpected_exception_is_logged_and_neutral(hub: Hub) -> None:
    """The peer learns nothing of it, the log everything but the channel's name."""
    hub.node.fails["a"] = RuntimeError("secret detail")
    async with hub.client(**PUBLISHER) as client:
        answer = await client.post("/api/publish/a", content=b"1")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret" not in answer.text
    assert hub.log.events == [
        ("http_request_failed", {"method": "POST", "path": "/api/publish/{channel}"})
    ]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/publish/a"),
        ("POST", "/api/publish"),
        ("POST", "/command?connection=c1"),
        ("GET", "/poll?channel=a"),
        ("GET", "/api/channels/a/history"),
        ("DELETE", "/api/connections/c1"),
        ("OPTIONS", "/api/publish/a"),
    ],
)
async def test_a_page_of_another_origin_is_refused(hub: Hub, method: str, path: str) -> None:
    """Good credentials do not help, because a browser may have attached them."""
    async with hub.client(Origin="https://evil.example", **OPERATOR) as client:
        answer = await client.request(method, path, content=b"1")
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    # Its developer may read why, and nothing else.
    assert answer.headers["access-control-allow-origin"] == "https://evil.example"
    assert (hub.node.published, hub.polls, hub.admin.asked) == ([], [], [])


@pytest.mark.parametrize("origin", [SHOP, "http://hub.test"])
async def test_a_page_of_an_allowed_origin_may_read_answers_and_errors(
    hub: Hub, origin: str
) -> None:
    """The allow list and the hub's own host."""
    async with hub.client(Origin=origin, **PUBLISHER) as client:
        answers = [
            await client.post("/api/publish/a", content=b"1"),
            await client.post("/api/publish/a", content=b"{"),
        ]
    assert [answer.status_code for answer in answers] == [200, 400]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == origin
        assert answer.headers["vary"] == "Origin"


async def test_a_preflight_names_methods_and_headers(hub: Hub) -> None:
    """Without credentials, which a browser never sends with one."""
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    async with hub.client(Origin=SHOP) as client:
        answer = await client.options("/api/publish/a", headers=asked)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == SHOP
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "X-API-Key" in answer.headers["access-control-allow-headers"]


async def test_the_base_path_goes_before_everything(files: Path) -> None:
    """No path answers without the base path."""
    hub = make_hub(files, base_path="/live")
    async with hub.client() as client:
        assert (await client.get("/live/healthz")).status_code == 200
        assert (await client.get("/live/")).text.startswith("<!doctype html>")
        assert (await client.get("/live")).headers["location"] == "/live/"
        outside = await client.get("/healthz")
        document = (await client.get("/live/api/openapi.json")).json()
    assert document["servers"] == [{"url": "/live"}]
    assert outside.status_code == 404
    assert outside.json()["detail"].endswith("'/healthz': every path of this hub begins with /live")


async def test_a_fallback_answers_what_the_hub_does_not(files: Path) -> None:
    """`/` and the demo page's files are the application's; the hub's own paths are not."""
    hub = make_hub(files, fallback=PlainTextResponse("from the application"))
    async with hub.client() as client:
        for path in ("/", "/demo.js", "/shop/cart"):
            assert (await client.get(path)).text == "from the application"
        assert (await client.get("/healthz")).json() == {"status": "ok"}


async def test_health_readiness_and_metrics_need_no_credentials(hub: Hub) -> None:
    """Probes and scrapers have none; not ready comes with its reasons."""
    async with hub.client() as client:
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        ready = await client.get("/readyz")
        hub.reasons.append("draining")
        draining = await client.get("/readyz")
        metrics = await client.get("/metrics")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "reasons": []})
    assert (draining.status_code, draining.json()["reasons"]) == (503, ["draining"])
    assert (metrics.text, metrics.headers["content-type"]) == (
        "hub_up 1\n", "text/plain; version=1.0.0",
    )  # fmt: skip


async def test_the_dashboards_files_hold_no_figures_and_need_no_key(hub: Hub) -> None:
    """The page asks for the key itself, and its figures come from the API."""
    basic = base64.b64encode(f"me:{OPERATOR_KEY}".encode()).decode()
    async with hub.client() as client:
        page = await client.get("/dashboard")
        script = await client.get("/dashboard/views/overview.js")
        assert (await client.get("/api/stats")).status_code == 401
        client.headers["Authorization"] = f"Basic {basic}"
        assert (await client.get("/api/stats")).status_code == 200
    assert "dashboard/main.js" in page.text
    assert script.headers["content-type"].startswith("text/javascript")


def is_safe(answer: httpx.Response) -> bool:
    policy = answer.headers["content-security-policy"]
    return (
        policy.startswith("default-src 'self'; connect-src 'self' ws://hub.test wss://hub.test; ")
        and "frame-ancestors 'none'" in policy
        and answer.headers["x-content-type-options"] == "nosniff"
        and answer.headers["cache-control"] == "no-cache"
    )


async def test_pages_are_served_safely_and_revalidated(hub: Hub) -> None:
    """Strict CSP, no sniffing, and 304 by ETag."""
    async with hub.client() as client:
        page = await client.get("/")
        script = await client.get("/demo.js")
        module = await client.get("/client/hub.js", headers={"Origin": "https://any.example"})
        again = await client.get("/", headers={"If-None-Match": page.headers["etag"]})
        head = await client.head("/")
    assert all(map(is_safe, (page, script, module, again)))
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert module.headers["access-control-allow-origin"] == "*"
    assert (again.status_code, again.content) == (304, b"")
    assert head.status_code == 200


@pytest.mark.parametrize(
    ("named", "status"),
    [
        ("*", 304),
        (" * ", 304),
        ("{}", 304),
        ("W/{}", 304),
        ('"other", {}', 304),
        ('"a,b",W/"c"\t,W/{} ,', 304),
        (',, "" , {}', 304),
        ('"other"', 200),
        ('"*"', 200),
        ('"x*", "y"', 200),
        ("w/{}", 200),
        ("X{}", 200),
        ("{}X", 200),
        ('"a, {}, b"', 200),
        ("", 200),
    ],
)
async def test_a_page_is_not_sent_again_to_who_names_its_tag(
    hub: Hub, named: str, status: int
) -> None:
    """RFC 9110 13.1.2: a list of tags, weak ones too, or `*` for whatever there is."""
    async with hub.client() as client:
        tag = (await client.get("/")).headers["etag"]
        again = await client.get("/", headers={"If-None-Match": named.replace("{}", tag)})
    assert again.status_code == status


async def test_the_client_is_one_compressed_file_with_an_address_that_browsers_may_keep(
    hub: Hub,
) -> None:
    """`/client.js` is asked for again and says where the same file is kept for a year."""
    async with hub.client(**{"Accept-Encoding": "gzip, br"}) as client:
        newest = await client.get("/client.js")
        kept = await client.get(f"/{newest.headers['content-location']}")
        again = await client.get("/client.js", headers={"If-None-Match": newest.headers["etag"]})
        page = await client.get("/demo.js")
    assert newest.headers["cache-control"] == "no-cache"
    assert "immutable" in kept.headers["cache-control"]
    assert newest.content == kept.content == BUILT_CLIENT
    assert newest.headers["content-encoding"] == kept.headers["content-encoding"] == "gzip"
    assert newest.headers["vary"] == "Accept-Encoding"
    assert newest.headers["access-control-allow-origin"] == "*"
    assert again.status_code == 304
    assert f'from "./{newest.headers["content-location"]}"' in page.text


@pytest.mark.parametrize("accepted", ["", "br", "gzip;q=0", "identity, gzip; q=0.000"])
async def test_a_client_that_takes_no_gzip_gets_none(hub: Hub, accepted: str) -> None:
    """RFC 9110 section 12.5.3; the two forms have different tags."""
    async with hub.client(**{"Accept-Encoding": accepted}) as client:
        plain = await client.get("/client.js")
        packed = await client.get("/client.js", headers={"Accept-Encoding": "x-gzip;q=0.5"})
    assert plain.content == BUILT_CLIENT
    assert "content-encoding" not in plain.headers
    assert plain.headers["etag"] != packed.headers["etag"]


@pytest.mark.parametrize(
    "path",
    [
        "/client/../outside.js",
        "/client/%2e%2e/outside.js",
        "/client/..%2foutside.js",
        "/client//etc/passwd",
        "/dashboard/__init__.py",
        "/dashboard/../__init__.py",
        "/.hidden.js",
        "/notes.txt",
        "/client/",
    ],
)
async def test_nothing_but_the_listed_files_can_be_had(hub: Hub, path: str) -> None:
    """Names are looked up, never opened."""
    async with hub.client(**OPERATOR) as client:
        url = httpx.URL("http://hub.test").copy_with(raw_path=path.encode())
        answer = await client.get(url)
    assert answer.status_code == 404
    assert "secret" not in answer.text


@pytest.mark.parametrize("host", ["a;b", "a b", "*", "x' 'unsafe-inline", "a,b", "a" * 300])
async def test_a_page_may_connect_to_its_own_hub_alone(hub: Hub, host: str) -> None:
    """The Host header of a request never gets into the policy."""
    async with hub.client() as client:
        answer = await client.get("/", headers={"Host": host})
    assert "connect-src 'self'; " in answer.headers.get(
        "content-security-policy", "connect-src 'self'; "
    )


@pytest.mark.parametrize("text", ["1e3", "-0", "+5", "1_0", "%D9%A3", "%C2%A05", "%0a5", "nan"])
async def test_a_number_of_a_query_is_plain_digits(hub: Hub, text: str) -> None:
    async with hub.client(**OPERATOR) as client:
        answer = await client.post(f"/api/rebalance?window_seconds={text}")
    assert answer.status_code == 400


async def test_an_error_is_short_however_much_it_is_about(hub: Hub) -> None:
    """A message may quote the peer, but does not grow with what the peer sent."""
    item = b'[{"channel":"a","data":1,"' + b"y" * 50_000 + b'":1}]'
    async with hub.client(**PUBLISHER) as client:
        answer = await client.post("/api/publish", content=item)
    assert answer.status_code == 400
    assert len(answer.content) < 2000


async def test_a_path_of_the_hub_in_its_address_is_named(hub: Hub) -> None:
    """An address copied from the browser's line, to which clients add their own paths."""
    asked = [
        ("POST", "/dashboard/api/publish", 405, "/dashboard"),
        ("GET", "/dashboard/poll?channel=a", 404, "/dashboard"),
        ("GET", "/docs/api/connections", 404, "/docs"),
        ("GET", "/docs/python/sse?channel=a", 404, "/docs/python"),
        ("GET", "/ws/ws", 404, "/ws"),
        ("POST", "/api/api/publish/a", 404, "/api"),
        ("POST", "/api/publish/a/api/publish/a", 404, "/api/publish/a"),
        ("GET", "/metrics/api/nodes", 404, "/metrics"),
        ("POST", "/client.js/command?connection=1", 404, "/client.js"),
    ]
    async with hub.client(**PUBLISHER) as client:
        for method, path, status, begun in asked:
            answer = await client.request(method, path)
            assert answer.status_code == status, path
            assert answer.json()["detail"].endswith(f": the hub's address ends before {begun}")


@pytest.mark.parametrize(
    ("method", "path", "hint"),
    [
        ("POST", "/publish/prices", "; did you mean /api/publish/prices?"),
        ("GET", "/nodes", "; did you mean /api/nodes?"),
        ("GET", "/sse/prices", ": the channel is a parameter, as in /sse?channel=<channel>"),
        ("GET", "/ws/prices", ": the channel is a parameter, as in /ws?channel=<channel>"),
        ("GET", "/poll/a.b", ": the channel is a parameter, as in /poll?channel=<channel>"),
        ("GET", "/health", "; did you mean /healthz?"),
        ("GET", "/dashbord", "; did you mean /dashboard?"),
        ("GET", "/api/connection", "; did you mean /api/connections?"),
        ("GET", "/api/channel/prices/history", "; did you mean /api/channels/prices/history?"),
        ("GET", "/favicon.ico", ""),
        ("GET", "/api", ""),
        ("GET", "/api/history/prices", ""),
        ("GET", "/", ""),
        ("GET", "//", ""),
    ],
)
async def test_a_path_that_is_almost_one_is_told_the_right_one(
    files: Path, method: str, path: str, hint: str
) -> None:
    """Below the base path too, which stands in the hint."""
    for base in ("", "/live"):
        hub = make_hub(files, base_path=base)
        async with hub.client(**PUBLISHER) as client:
            answer = await client.request(method, f"{base}{path}")
        if answer.status_code == 200:  # the demo page at `/`
            continue
        said = hint.replace(" /", f" {base}/")
        assert answer.json()["detail"] == f"nothing is at '{base}{path}'{said}"


@pytest.mark.parametrize(
    ("method", "path", "detail"),
    [
        ("GET", "/dashboard/none.js", "no file 'none.js' here"),
        ("GET", "/elsewhere/api/nodes", "nothing is at '/elsewhere/api/nodes'"),
        (
            "POST",
            "/api/publish/command/x",
            "nothing is at '/api/publish/command/x': a channel's name has no slash",
        ),
        ("GET", "/api/%FF/api/%FF", "the path is not UTF-8"),
        ("GET", "/docs/%FF/api/nodes/%FF", "the path is not UTF-8"),
    ],
)
async def test_other_paths_get_no_such_hint(hub: Hub, method: str, path: str, detail: str) -> None:
    """The hint would mislead readers of these paths."""
    async with hub.client(**PUBLISHER) as client:
        answer = await client.request(method, path)
    assert answer.json()["detail"] == detail


def test_the_hint_of_a_path_that_is_none_ends_in_words() -> None:
    """Without a base path there is nothing that paths begin with."""
    assert WrongPaths(RouteTable(())).nothing_at(b"*") == "nothing is at '*'"
    live = WrongPaths(RouteTable((), base_path="/live"))
    assert live.nothing_at(b"/x").endswith("every path of this hub begins with /live")
    assert live.hint(b"*") == live.hint(b"") == live.hint(b"/live") == ""
