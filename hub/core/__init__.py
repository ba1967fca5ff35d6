"""What the hub is, without I/O: channels, sessions, outboxes, the exchange between them."""
