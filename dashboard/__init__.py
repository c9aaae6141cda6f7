"""The pages; they read nothing but the REST API."""
