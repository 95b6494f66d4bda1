"""The spec (config.json): reading it, checking it, and what follows from it alone."""

# The runtime-spec whose rules are kept; every 1.x document is taken.
OCI_VERSION = "1.3.0"
OCI_VERSION_LOWEST = "1.0.0"
