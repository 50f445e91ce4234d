"""Predictions of a model, their scores, and what chance would give."""
