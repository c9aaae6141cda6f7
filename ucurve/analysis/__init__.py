"""Numbers and verdicts from tables: conditions, tests, intervals, comparisons. No charts."""
