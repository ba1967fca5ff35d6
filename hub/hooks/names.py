"""The names of the questions to the application, and of the events for it."""

CONNECT, SUBSCRIBE, PUBLISH = "connect", "subscribe", "publish"
HOOK_NAMES = (CONNECT, SUBSCRIBE, PUBLISH)

OCCUPIED, VACATED = "channel.occupied", "channel.vacated"
JOINED, LEFT = "member.joined", "member.left"
OPENED, CLOSED = "session.opened", "session.closed"
EVENT_NAMES = (OCCUPIED, VACATED, JOINED, LEFT, OPENED, CLOSED)
