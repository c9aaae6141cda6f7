"""What names say: revisions and suites into steps, tokens, phases and seeds."""
