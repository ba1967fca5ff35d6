"""One subscriber: its state, its subscriptions, its owed frames, and its waiting commands.

Things that many sessions share do not belong here: channels and broadcasts are in
`hub.core.fanout`, timers in `hub.core.time`.
"""
