"""Taps that lead nowhere, for the interfaces of a template.

Runs in: template builder.   Imports: none yet.
Source:  docs/vm.md "Templates": a clone's interfaces must look to QEMU like the template's.
Never:   is in any namespace that somebody uses.
"""
from contextlib import contextmanager
@contextmanager
def taps(count):
    if count: raise NotImplementedError
    yield []
