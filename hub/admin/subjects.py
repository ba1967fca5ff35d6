"""All connections of a subject: closed, or taken out of a channel, on whatever nodes they are."""

from hub.admin.requests import Admin, AdminRequest, Answers, Everywhere, Handlers
from hub.core.fanout.membership import Membership
from hub.core.registry import SessionRegistry
from hub.core.session.session import Session
from hub.errors import UnavailableError


class DisconnectSubject(AdminRequest[int], frozen=True, tag="disconnect_subject"):
    """Close this node's connections of a subject; the answer is how many."""

    subject: str
    code: int
    reason: str


class UnsubscribeSubject(AdminRequest[int], frozen=True, tag="unsubscribe_subject"):
    """Take them out of a channel; each is told by a push `unsubscribed`."""

    subject: str
    channel: str


class Subjects:
    """Carries these out at this node."""

    def __init__(self, registry: SessionRegistry, membership: Membership) -> None:
        self._registry = registry
        self._membership = membership

    def handlers(self) -> Handlers:
        return {DisconnectSubject: self._disconnect, UnsubscribeSubject: self._unsubscribe}

    async def _disconnect(self, asked: DisconnectSubject) -> int:
        found = self._of(asked.subject)
        for session in found:
            session.close(asked.code, asked.reason)
        return len(found)

    async def _unsubscribe(self, asked: UnsubscribeSubject) -> int:
        found = [each for each in self._of(asked.subject) if asked.channel in each.subscriptions]
        for session in found:
            self._membership.expel(session, asked.channel, "unsubscribed by operator")
        return len(found)

    def _of(self, subject: str) -> list[Session]:
        # 6 ms where a node holds 100,000; nobody does this often.
        sessions = self._registry.sessions.values()
        return [session for session in sessions if session.identity.subject == subject]


async def everywhere(admin: Admin, asked: AdminRequest[int]) -> int:
    """Have it done at all nodes; how many connections it concerned.

    Raises `UnavailableError` where a node did not answer: what it holds may be as it was.
    """
    answers: Answers[int] = await admin.call(asked, Everywhere())
    if not answers.complete:
        silent = ", ".join(answers.unanswered) or "nodes that are not known now"
        raise UnavailableError(f"not done everywhere: no answer from {silent}; do it again")
    return sum(answers.by_tag.values())
