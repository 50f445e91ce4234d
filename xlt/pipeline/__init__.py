"""From a tier to a grid of runs, and from the grid to a results folder that resumes."""
