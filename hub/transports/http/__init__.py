"""HTTP: the table of routes, and the handlers of all routes but the streams of `/ws` and `/sse`.

A handler reads a request and shows the answer. The work itself does not belong here, but in
`hub.core` and `hub.admin`.
"""
