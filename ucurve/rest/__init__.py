"""The client's calls by topic, and the wire below them; use them through `ucurve.Client`."""
