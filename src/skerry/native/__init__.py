"""The native engine: containers as processes of this kernel."""
