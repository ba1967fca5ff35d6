"""Where the hub is that a command talks to, and as whom one publishes there."""

from typing import Annotated

import typer

DEFAULT_URL = "http://127.0.0.1:8000"
Url = Annotated[str, typer.Option("--url", envvar="HUB_URL", help="The hub's address.")]
PublishKey = Annotated[
    str | None, typer.Option("--key", envvar="HUB_PUBLISH_KEY", help="Publisher key or token.")
]
