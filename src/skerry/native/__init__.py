"""The native engine: containers are processes of this kernel."""
