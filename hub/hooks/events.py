"""The events that the application may be told of."""

OCCUPIED, VACATED = "channel.occupied", "channel.vacated"
JOINED, LEFT = "member.joined", "member.left"
OPENED, CLOSED = "session.opened", "session.closed"
EVENT_NAMES = (OCCUPIED, VACATED, JOINED, LEFT, OPENED, CLOSED)
