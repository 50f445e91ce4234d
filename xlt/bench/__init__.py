"""Measurements: this package's loops side by side with what a user of the libraries would write."""
