"""What travels over HTTP: pydantic models by noun."""
