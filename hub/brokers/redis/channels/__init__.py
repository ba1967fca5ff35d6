"""A channel in Redis: its messages and history, and this node's position in them.

Here belongs code about a channel on the one server that has it. Connections are those of
`hub.brokers.redis.link`, and which server has a channel is decided in `hub.brokers.redis.topology`:
nothing here makes or chooses either.
"""
