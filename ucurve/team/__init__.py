"""The team's database as it travels over HTTP: people, the explorer, comparisons, exports; records only, nothing heavy."""
