"""The source `hub`: parquet files of pinned revisions on the Hugging Face hub."""
