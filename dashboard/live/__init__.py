"""How pages follow the lab: shared queries, polling, refreshing."""
