"""Measurements: this package beside what a user of the libraries would write, and verify beside known faults."""
