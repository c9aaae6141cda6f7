"""Forms made from JSON schemas: widgets, parsing, drafts."""
