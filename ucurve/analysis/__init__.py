"""From tables to numbers and answers: conditions, tests and intervals on curves, verdicts, comparisons. No chart is drawn here."""
