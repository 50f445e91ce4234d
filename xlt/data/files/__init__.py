"""The source of official release files: one short module per format, the source itself, and its check."""
