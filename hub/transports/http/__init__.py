"""HTTP: the table of routes, and handlers by what they serve. All but the streams of `/ws`, `/sse`.

A handler reads what is asked and shows the answer; what is done does not belong here, but in
`hub.core` and `hub.admin`.
"""
