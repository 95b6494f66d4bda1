"""The command line: one face of skerry. It parses, makes one call on the core, and prints.

Runs in: the skerry command.   Imports: nothing.
Source:  runc's verbs, flags, outputs and exit codes; lifecycle.md H to P.
Never:   decides what a container is; imported by another face.
"""
