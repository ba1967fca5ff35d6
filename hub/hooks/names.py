"""What the application may be asked, and the events that it may be told of."""

CONNECT, SUBSCRIBE, PUBLISH = "connect", "subscribe", "publish"
HOOK_NAMES = (CONNECT, SUBSCRIBE, PUBLISH)

OCCUPIED, VACATED = "channel.occupied", "channel.vacated"
JOINED, LEFT = "member.joined", "member.left"
OPENED, CLOSED = "session.opened", "session.closed"
EVENT_NAMES = (OCCUPIED, VACATED, JOINED, LEFT, OPENED, CLOSED)
