"""The catalogue of tasks. A task is one frozen record; adding one touches one place."""
