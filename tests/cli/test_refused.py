"""`hub refused` lists the refused peers and those that limits hold back."""

import json

import httpx2 as httpx

from tests.cli.operating import KEY, OperatedHub, environment, run

PAGE = "https://elsewhere.example"


async def test_refusals_and_limits_are_two_tables() -> None:
    """Newest first, with address and origin; `--json` has both lists."""
    with OperatedHub(HUB_RATE_PUBLISHES="1/60", HUB_TRUSTED_PROXIES="127.0.0.1") as hub:
        variables = environment(hub.url)
        nothing = await run("refused", **variables)
        assert nothing.code == 0
        async with httpx.AsyncClient(base_url=hub.url) as http:
            page = {"Origin": PAGE, "X-Forwarded-For": "203.0.113.9"}
            assert (await http.post("/api/publish/a", json=1, headers=page)).status_code == 403
            operator = {"Authorization": f"Bearer {KEY}"}
            statuses = [
                (await http.post("/api/publish/a", json=1, headers=operator)).status_code
                for _ in range(2)
            ]
            assert statuses == [200, 429]
        told = await run("refused", **variables)
        asked = await run("refused", "--json", "--address", "203.0.113.9", **variables)
    refusals, limited = told.out.split("\n\n")
    (row,) = [line for line in refusals.splitlines() if "203.0.113.9" in line]
    assert "origin" in row
    assert PAGE in row
    (row,) = [line for line in limited.splitlines() if "publishes" in line]
    assert "key:" in row
    answer = json.loads(asked.out)
    assert [row["count"] for row in answer["refusals"]] == [1]
    assert answer["limited"] == []
