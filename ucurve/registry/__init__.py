"""Suites, checkpoints and datasets: revision names, manifests, hashing, the hub."""
