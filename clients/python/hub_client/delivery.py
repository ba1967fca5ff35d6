"""Publications on their way: all attempts of a campaign, from one event loop.

The first attempt goes out in the call that begins it where a connection is open, and its outcome is
known in the call that reads the answer. Only a wait (for a connection, or before the next attempt)
needs a task. One publication after another takes half as many turns of the loop that way, and half
the CPU.
"""

import asyncio
import time
from collections.abc import Callable

from hub_client.answer import HttpResponse, PostFailedError
from hub_client.async_post import OnAnswer
from hub_client.campaign import Campaign, Send, Wait
from hub_client.collector import PendingPublication
from hub_client.posting import Attempts, PostsAsync


class PublishSender:
    """Carry out campaigns over the connections of one publisher."""

    def __init__(
        self,
        post: PostsAsync,
        attempts: Attempts,
        *,
        request_timeout_seconds: float,
        on_progress: Callable[[], None],
    ) -> None:
        """Args:
        post: sends requests.
        attempts: hears of each attempt.
        request_timeout_seconds: of one request, from connecting to its answer.
        on_progress: called when the hub, or something on the way, has answered."""
        self.post = post
        self._attempts = attempts
        self._seconds = request_timeout_seconds
        self._on_progress = on_progress

    def begin(self, sent: Send, on_answer: OnAnswer) -> bool:
        """Make an attempt now; return False, with nothing sent, where it would have to wait."""
        return self.post.begin(sent.body, seconds=self._seconds, on_answer=on_answer)

    def note(self, campaign: Campaign, sent: Send, answer: HttpResponse | PostFailedError) -> None:
        """Note the end of an attempt."""
        if isinstance(answer, PostFailedError):
            self._attempts.failed(campaign, sent, answer)
        else:
            self._attempts.answered(campaign, sent, answer)
            self._on_progress()

    def next_step(self, campaign: Campaign) -> Send | Wait | None:
        """Return the next step; None at the end, and once the connections were closed."""
        return None if self.post.is_closed else campaign.next_step(time.monotonic())

    async def carry_out(self, campaign: Campaign, step: Send | Wait | None) -> None:
        """Do `step` and all later ones."""
        while step is not None:
            if isinstance(step, Send):
                await self._attempt(campaign, step)
            else:
                self._attempts.retrying(step.notice)
                await asyncio.sleep(step.notice.pause_seconds)
            step = self.next_step(campaign)

    async def _attempt(self, campaign: Campaign, sent: Send) -> None:
        try:
            answer: HttpResponse | PostFailedError
            answer = await self.post.post(sent.body, seconds=self._seconds)
        except PostFailedError as error:
            answer = error
        except BaseException as error:
            campaign.interrupted(sent)
            # httpx2 says RuntimeError where `close` took the connections away.
            if not (self.post.is_closed and isinstance(error, RuntimeError)):
                raise
            return
        self.note(campaign, sent, answer)


class Delivery:
    """The publications of one request, until each of them has its outcome."""

    def __init__(
        self,
        tickets: list[PendingPublication],
        campaign: Campaign,
        carrier: PublishSender,
        on_end: "Callable[[Delivery], None]",
    ) -> None:
        """Args:
        tickets: settled at the end.
        campaign: of the same publications, in the same order.
        carrier: carries it out.
        on_end: told when all tickets are settled; never before `begin` returns.
        """
        self._tickets = tickets
        self._campaign = campaign
        self._carrier = carrier
        self._on_end = on_end
        self._sent: Send | None = None
        """The attempt that was sent without a task, while its answer is awaited."""
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Make the first attempt, at once if possible."""
        step = self._carrier.next_step(self._campaign)
        if isinstance(step, Send):
            self._sent = step
            if self._carrier.begin(step, self._answered):
                return
            self._sent = None
        self._go_on(step)

    def _answered(self, answer: HttpResponse | PostFailedError) -> None:
        sent, self._sent = self._sent, None
        if sent is None:
            return  # `cancel` was first
        step: Send | Wait | None = None
        try:
            self._carrier.note(self._campaign, sent, answer)
            step = self._carrier.next_step(self._campaign)
        finally:
            if step is None:
                self._settle()
        if step is not None:
            self._go_on(step)

    def _go_on(self, step: Send | Wait | None) -> None:
        self._task = asyncio.create_task(self._carrier.carry_out(self._campaign, step))
        # Not at the end of the task: one that is cancelled at once never begins.
        self._task.add_done_callback(self._settle)

    def cancel(self) -> None:
        """Stop waiting: a sent publication may have happened."""
        if self._task is not None:
            self._task.cancel()
        elif self._sent is not None:
            sent, self._sent = self._sent, None
            self._campaign.interrupted(sent)
            self._settle()

    def _settle(self, _: object = None) -> None:
        for ticket, outcome in zip(self._tickets, self._campaign.outcomes(), strict=True):
            ticket.settle(outcome)
        self._on_end(self)
