"""The spec (config.json): reading it, checking it, and what follows from it alone."""
