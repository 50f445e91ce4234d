"""One training loop for all phases and kinds, on DeepSpeed."""
