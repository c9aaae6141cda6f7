"""The measuring processes: claim a point, run it, finish it."""
