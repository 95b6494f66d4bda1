"""The kernel's interface: constants, system calls Python can make itself, facts. No OCI words here."""
