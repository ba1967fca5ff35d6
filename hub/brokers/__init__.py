"""What numbers and keeps publications and carries them between nodes: one adapter per room.

Who subscribes, and how peers are reached, does not belong here.
"""
