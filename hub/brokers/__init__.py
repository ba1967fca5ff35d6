"""What numbers publications and keeps them: in memory, or in Redis between nodes.

Here belong implementations of `hub.core.ports.Broker` and what only they use. Sessions, dialects
and connections of peers do not: a broker delivers into `hub.core.ports.Downstream` and knows
nothing of what is behind it.
"""
