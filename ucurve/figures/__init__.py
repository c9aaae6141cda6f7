"""From numbers to charts, and from charts to files that lead back to their numbers."""
