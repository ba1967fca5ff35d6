"""`hub nodes`: the nodes that live, how much each does, and what is wrong with it."""

import typer

from hub.cli.address import DEFAULT_URL, Url
from hub.cli.columns import NODES
from hub.cli.operator import AsJson, Key, Operator, operate, print_json
from hub.cli.tables import print_rows


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("nodes")(nodes)


def nodes(as_json: AsJson = False, url: Url = DEFAULT_URL, key: Key = None) -> None:
    """List the nodes, with their rates and what each is doing."""

    async def act(operator: Operator) -> None:
        answer = await operator.ask("nodes")
        if as_json:
            print_json(answer)
        else:
            print_rows(NODES, answer["nodes"])

    operate(url, key, act)
