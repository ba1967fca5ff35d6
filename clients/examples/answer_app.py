# /// script
# requires-python = ">=3.11"
# dependencies = ["broadcast-hub", "fastapi>=0.120"]
#
# [tool.uv.sources]
# broadcast-hub = { path = "../..", editable = true }
# broadcast-hub-client = { path = "../python", editable = true }
# ///
"""The answer of a language model, word by word: a stream with an end, in a channel of its own.

    uv run --script clients/examples/answer_app.py

Then open http://127.0.0.1:8000/ask, ask something, and reload the page in the middle: it shows what
was said so far, then the rest, and that the answer has ended. Each word is published as it comes,
the last one with `end`. `GET /answers/ID` joins what was said so far and names the position that
it is as of: the page's `getState`.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel

import hub

HERE = Path(__file__).parent
WORD_SECONDS = float(os.environ.get("ANSWER_WORD_SECONDS", "0.2"))
# The oldest go: a real application keeps its answers in a database.
MAX_ANSWERS = 1000

app = FastAPI()


@dataclass
class Answer:
    """The words said so far, and the position of the publication that brought the last one."""

    words: list[str] = field(default_factory=list)
    position: str = ""
    done: bool = False


answers: dict[str, Answer] = {}
writing: set[asyncio.Task[None]] = set()


class Question(BaseModel):
    text: str


async def model(question: str) -> AsyncIterator[str]:
    """In the place of a language model: says the question back, and counts."""
    for word in [*question.split(), *(f"{number}," for number in range(1, 40)), "40."]:
        await asyncio.sleep(WORD_SECONDS)
        yield word


@app.get("/ask")
async def ask() -> FileResponse:
    return FileResponse(HERE / "answer.html")


@app.post("/answers")
async def begin(question: Question, request: Request) -> dict[str, str]:
    """Begin an answer; it goes on whoever listens."""
    id_ = secrets.token_hex(8)
    answer = answers[id_] = Answer()
    while len(answers) > MAX_ANSWERS:
        del answers[next(iter(answers))]
    publish = request.state.hub.publish
    await say(publish, id_, answer, "Well:")
    task = asyncio.create_task(write(publish, id_, answer, question.text))
    writing.add(task)
    task.add_done_callback(writing.discard)
    return {"id": id_}


async def write(publish: Any, id_: str, answer: Answer, question: str) -> None:
    """Publish each word as it comes; the end is said also where the model fails."""
    try:
        async for word in model(question):
            await say(publish, id_, answer, word)
    finally:
        await say(publish, id_, answer, "", end=True)


async def say(publish: Any, id_: str, answer: Answer, word: str, *, end: bool = False) -> None:
    """Publish first, then remember it with the position that it was published at."""
    published = await publish(f"answers:{id_}", word, end=end)
    answer.words.append(word)
    answer.position, answer.done = str(published.position), end


@app.get("/answers/{id_}")
async def so_far(id_: str) -> dict[str, Any]:
    """Returns the words so far as one text, and the position from which a
    client subscribes to the rest."""
    answer = answers.get(id_)
    if answer is None or not answer.position:
        raise HTTPException(404, "no such answer")
    text = " ".join(answer.words).strip()
    return {"data": {"text": text, "done": answer.done}, "position": answer.position}


if __name__ == "__main__":
    settings = hub.load_settings(environ=os.environ, config_file=None, flags={})
    raise SystemExit(hub.serve(app, settings))
