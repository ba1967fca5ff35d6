"""What carries publications between nodes and keeps history. One adapter per module."""
