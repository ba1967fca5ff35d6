"""What a channel is in Redis: messages, positions, history, and what this node has of them.

Here belongs what is true of a channel on the one server that has it. Connections are those of
`hub.brokers.redis.link`, and which server has a channel is decided in
`hub.brokers.redis.topology`: nothing here makes or chooses either.
"""
