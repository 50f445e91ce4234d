"""Sentence embeddings, exact nearest neighbours, and the retrieval tasks."""
