"""`clients/examples/fastapi_app.py` as a process: a hub with an application beside it."""

from pathlib import Path

from tests.support.hub_process import HubProcess

EXAMPLES = Path(__file__).parents[2] / "clients" / "examples"


class ExampleApp(HubProcess):
    """Serves the ticker and the chat page, on a free port."""

    program = (str(EXAMPLES / "fastapi_app.py"),)


class AnswerApp(HubProcess):
    """Serves the page that shows an answer word by word."""

    program = (str(EXAMPLES / "answer_app.py"),)
