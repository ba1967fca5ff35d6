# /// script
# requires-python = ">=3.11"
# dependencies = ["broadcast-hub", "fastapi>=0.120", "pyjwt>=2.10"]
#
# [tool.uv.sources]
# broadcast-hub = { path = "../..", editable = true }
# broadcast-hub-client = { path = "../python", editable = true }
# ///
"""A FastAPI application and the hub: one process, one port.

    uv run --script clients/examples/fastapi_app.py

Then open http://127.0.0.1:8000/ticker, and http://127.0.0.1:8000/chat in two windows. The hub
answers its own paths first (/ws, /sse, /api, /client.js, ...), the application every other one.
"""

import os
import secrets
import time
from pathlib import Path
from typing import Annotated, Any

import jwt
from fastapi import FastAPI, Query, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel

import hub

HERE = Path(__file__).parent
TOKEN_SECONDS = 600
# A real application keeps this key outside of its code, and the same one at every node.
TOKEN_KEY = os.environ.setdefault("HUB_TOKEN_KEYS", secrets.token_hex(32))

app = FastAPI()


@app.get("/ticker")
async def ticker() -> FileResponse:
    return FileResponse(HERE / "ticker.html")


@app.get("/chat")
async def chat() -> FileResponse:
    return FileResponse(HERE / "chat.html")


@app.get("/token")
async def token(name: Annotated[str, Query(pattern="^[a-z]{1,20}$")] = "guest") -> str:
    """Signs a token with the grants of a user; this example believes any name
    and asks for no password."""
    grants = {"subscribe": ["prices", "chat:*"], "publish": ["chat:*"]}
    claims = {"sub": name, "exp": int(time.time()) + TOKEN_SECONDS, "hub": grants}
    return jwt.encode(claims, TOKEN_KEY, "HS256")


class Price(BaseModel):
    symbol: str
    price: float


@app.post("/prices")
async def set_price(price: Price, request: Request) -> dict[str, Any]:
    """Publishes in this process: no HTTP, no key. Slow readers get the newest of each symbol."""
    published = await request.state.hub.publish("prices", price.model_dump(), key=price.symbol)
    return {"position": str(published.position)}


def settings() -> hub.Settings:
    """From the environment; what the two pages need besides is set here."""
    needed = {
        "namespaces": {
            "chat": {"presence": True, "history_size": 1000},
            "prices": {"overflow": "latest_per_key"},
        }
    }
    return hub.load_settings(environ=os.environ, config_file=None, flags=needed)


if __name__ == "__main__":
    raise SystemExit(hub.serve(app, settings()))
