"""Everything on tensors; the only room that imports torch."""
