"""What the files of a model hold: tensors by name, shape and content, read without loading them."""
