"""The command line: it parses and prints. Nothing heavy is imported before a command runs."""
