"""Observation of a running process: metrics, logs, traces, event-loop lag, background work.

This package reads the core, and the core never asks it. Actions of operators on a node do not
belong here.
"""
