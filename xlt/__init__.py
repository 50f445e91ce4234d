"""xlt reproduces "English Intermediate-Task Training Improves Zero-Shot Cross-Lingual Transfer Too" (X-STILTs)."""

__version__ = "0.1.0"
