"""`clients/examples/fastapi_app.py` as a process: a hub with an application beside it."""

from pathlib import Path

from tests.support.hub_process import HubProcess

EXAMPLES = Path(__file__).parents[2] / "clients" / "examples"


def _program(name: str) -> tuple[str, str]:
    """Returns the arguments that run the file as `python NAME` does, so that it can be forked."""
    path = str(EXAMPLES / name)
    return "-c", f"import runpy; runpy.run_path({path!r}, run_name='__main__')"


class ExampleApp(HubProcess):
    """Serves the ticker and the chat page, on a free port."""

    program = _program("fastapi_app.py")


class AnswerApp(HubProcess):
    """Serves the page that shows an answer word by word."""

    program = _program("answer_app.py")
