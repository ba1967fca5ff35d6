"""What became of each publication on its way to each connection: noted, kept a while, explained.

Nothing here changes what is sent, and nothing here knows a session but by what it notes of one.
"""
