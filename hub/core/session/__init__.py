"""One subscriber: its state, its subscriptions, what it is owed, and its commands that wait.

What many sessions have in common does not belong here: channels and broadcasts are
`hub.core.fanout`, timers are `hub.core.time`.
"""
