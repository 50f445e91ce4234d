"""The source of official release files: one reader per format, one module per family of formats."""
