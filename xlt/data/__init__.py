"""Sources, rows, features and packed batches."""
