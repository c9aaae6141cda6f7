"""Texts and examples: reading, counting and checking what people bring."""
