"""Rows in Postgres and the only ways they change."""
