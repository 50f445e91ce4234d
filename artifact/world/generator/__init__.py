"""The generator of the constructed world: facts, languages, and the items of every task."""
