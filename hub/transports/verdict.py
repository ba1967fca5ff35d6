"""What the application says of a request that wants to be a session, asked once."""

from collections.abc import Sequence

from hub.core.hooks import Admission, Asker, Hooks
from hub.errors import HubError, UnauthorizedError, UnavailableError


class AskedVerdict:
    """Made where the request is judged first; known once `wait` has ended.

    Args:
        nobody: why the request is refused unless the application knows who sends it; None where
            that need not be.
    """

    __slots__ = ("_channels", "_hooks", "_nobody", "_said", "asker", "connection")

    def __init__(
        self,
        hooks: Hooks,
        asker: Asker,
        channels: Sequence[str],
        *,
        nobody: UnauthorizedError | None,
    ) -> None:
        self._hooks = hooks
        self._channels = channels
        self._nobody = nobody
        self._said: Admission | HubError | None = None
        self.asker = asker
        self.connection = asker.connection or ""

    async def wait(self) -> None:
        """Ask; raise nothing but a fault of the hub's own."""
        nobody = self._nobody is not None
        try:
            said = await self._hooks.admit(self.asker, self._channels, nobody=nobody)
        except HubError as error:
            self._said = error
        else:
            self._said = said

    def admission(self) -> Admission:
        """The identity that sends the request; raise `HubError` where the application refuses
        it."""
        said = self._said
        if said is None:
            raise UnavailableError("the application was not asked to the end")
        if isinstance(said, HubError):
            raise said
        who = said.identity
        if self._nobody is not None and not (who.subject or who.subscribe or who.publish):
            raise self._nobody
        return said
