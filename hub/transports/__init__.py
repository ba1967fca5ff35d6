"""How peers reach the hub: one port, four ways. Sockets exist only here."""
