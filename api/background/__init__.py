"""Work beside the requests: the sweep and the hashing of registered files."""
