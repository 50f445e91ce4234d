"""From stored predictions to recomputed metrics, to verdicts, to the report."""
