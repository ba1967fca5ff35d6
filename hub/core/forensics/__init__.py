"""Notes on the way of each publication to each connection, kept for a while, and explanations.

Nothing here changes what is sent. Sessions are known only by the properties that are noted.
"""
