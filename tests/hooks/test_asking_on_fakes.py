"""The question to the application is tested on a fake clock and a fake application:
breaker, cache and waiting."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
import structlog

from hub.core.counters import Counters
from hub.core.hooks import Asker
from hub.core.identity import Identity
from hub.errors import ForbiddenError, UnavailableError
from hub.hooks.asking import ApplicationHooks, AskingRules, Judges
from hub.hooks.breaker import FIRST_SECONDS
from hub.hooks.calling import HookError

YES = b'{"allow":true}'


class FakeCaller:
    """An application that answers with what `answers` has for it, or fails."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.answer: bytes | HookError = YES
        self.held: asyncio.Event | None = None

    async def post(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        del headers
        self.asked.append(body)
        if self.held is not None:
            await self.held.wait()
        if isinstance(self.answer, HookError):
            raise self.answer
        return 200, self.answer

    async def close(self) -> None:
        """Nothing to close."""


class Rig:
    def __init__(self, *, cache_seconds: float = 0, allows: bool = False) -> None:
        self.now = 1000.0
        self.caller = FakeCaller()
        self.counters = Counters()
        self.logged = structlog.testing.CapturingLogger()
        caller: Any = self.caller
        rules = AskingRules(frozenset({"subscribe"}), cache_seconds, allows, b"")
        judges = Judges(
            lambda _grants, _subject: ((), ()),
            lambda data: data,
            lambda _identity: None,
            lambda _identity: False,
        )
        self.hooks = ApplicationHooks(
            caller,
            rules,
            judges,
            clock=lambda: self.now,
            wall_clock=lambda: self.now,
            counters=self.counters,
            log=structlog.wrap_logger(self.logged, processors=[]),
        )

    async def ask(self, channel: str = "a", subject: str = "ann") -> bytes | None:
        asker = Asker(Identity(subject=subject, subscribe=("*",)), "c1", "203.0.113.9", {})
        return await self.hooks.check_subscribe(asker, channel)

    async def come_to_the_try(self) -> None:
        """Have the application fail until nobody is asked, and wait until one may try."""
        self.caller.answer = HookError("timeout", "no whole answer")
        for _ in range(5):
            with pytest.raises(UnavailableError):
                await self.ask()
        self.now += FIRST_SECONDS

    @property
    def events(self) -> list[str]:
        return [call.kwargs["event"] for call in self.logged.calls]


async def test_a_question_tries_an_application_that_was_down_and_the_others_do_not_wait() -> None:
    """Half open: what the one finds out decides for all."""
    rig = Rig()
    rig.caller.answer = HookError("timeout", "no whole answer")
    for _ in range(5 + 3):
        with pytest.raises(UnavailableError):
            await rig.ask()
    assert len(rig.caller.asked) == 5
    assert rig.counters.hook_calls == {"timeout": 5, "open": 3}
    rig.now += FIRST_SECONDS
    rig.caller.answer, rig.caller.held = YES, asyncio.Event()
    tries = asyncio.create_task(rig.ask())
    while len(rig.caller.asked) == 5:
        await asyncio.sleep(0)
    with pytest.raises(UnavailableError):
        await rig.ask("b")
    rig.caller.held.set()
    assert await tries is None
    rig.caller.held = None
    assert await rig.ask("b") is None
    assert rig.counters.hook_calls == {"timeout": 5, "open": 4, "allowed": 2}
    assert rig.events == ["hook_failed", "hook_down", "hook_answers_again"]


async def test_a_try_that_fails_keeps_the_application_from_being_asked_for_longer() -> None:
    rig = Rig(allows=True)
    rig.caller.answer = HookError("unreachable", "refused")
    for _ in range(5):
        assert await rig.ask() is None
    rig.now += FIRST_SECONDS
    assert await rig.ask() is None
    assert len(rig.caller.asked) == 5 + 1
    rig.now += FIRST_SECONDS
    assert await rig.ask() is None
    assert len(rig.caller.asked) == 5 + 1
    rig.now += FIRST_SECONDS
    assert await rig.ask() is None
    assert len(rig.caller.asked) == 5 + 2


async def test_a_try_that_finds_too_many_waiting_leaves_the_try_to_the_next() -> None:
    """The application was not asked, so the failure says nothing about it."""
    rig = Rig()
    await rig.come_to_the_try()
    rig.caller.answer = HookError("busy", "2,000 calls wait already")
    with pytest.raises(UnavailableError):
        await rig.ask()
    rig.caller.answer = YES
    assert await rig.ask() is None


async def test_a_session_that_goes_away_while_trying_leaves_the_try_to_the_next() -> None:
    """A session that ends while its question tries must not close the door for ever."""
    rig = Rig()
    await rig.come_to_the_try()
    rig.caller.answer, rig.caller.held = YES, asyncio.Event()
    tries = asyncio.create_task(rig.ask())
    while len(rig.caller.asked) == 5:
        await asyncio.sleep(0)
    tries.cancel()
    await asyncio.gather(tries, return_exceptions=True)
    await asyncio.sleep(0)
    rig.caller.held.set()
    assert await rig.ask() is None


async def test_a_remembered_answer_ends_after_its_time() -> None:
    """A yes and a no alike; of the same subject and channel only."""
    rig = Rig(cache_seconds=60)
    await rig.ask()
    rig.now += 59.9
    await rig.ask()
    assert len(rig.caller.asked) == 1
    await rig.ask("b")
    await rig.ask(subject="bob")
    assert len(rig.caller.asked) == 3
    rig.now += 0.1
    rig.caller.answer = b'{"allow":false,"reason":"not any more"}'
    with pytest.raises(ForbiddenError, match="not any more"):
        await rig.ask()
    rig.caller.answer = YES
    with pytest.raises(ForbiddenError):
        await rig.ask()
    assert len(rig.caller.asked) == 4
    rig.now += 60
    assert await rig.ask() is None


async def test_the_application_may_have_its_answer_forgotten_earlier() -> None:
    rig = Rig(cache_seconds=60)
    rig.caller.answer = b'{"allow":true,"expires_in_seconds":5}'
    await rig.ask()
    rig.now += 4.9
    await rig.ask()
    assert len(rig.caller.asked) == 1
    rig.now += 0.1
    await rig.ask()
    assert len(rig.caller.asked) == 2


async def test_that_it_does_not_answer_is_not_remembered() -> None:
    rig = Rig(cache_seconds=60)
    rig.caller.answer = HookError("timeout", "no whole answer")
    with pytest.raises(UnavailableError):
        await rig.ask()
    rig.caller.answer = YES
    assert await rig.ask() is None
