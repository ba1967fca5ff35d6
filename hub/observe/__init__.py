"""Observation of a running process: metrics, logs, traces, event-loop lag, background work.

This package reads the core and is never asked by it. What operators do to a node does not belong
here.
"""
