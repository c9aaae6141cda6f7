"""The REST service: validates, plans, writes rows, answers; never imports torch."""
