"""The worker processes: claim points, run them, record their outcomes."""
