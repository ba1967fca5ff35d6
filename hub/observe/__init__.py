"""What shows a running process from outside: metrics, logs, traces, event-loop lag, its streams.

This package reads the core and is never asked by it. What operators do to a node does not belong
here.
"""
