"""Containers in VMs, driven from outside as an engine does."""

from collections.abc import Iterator

import pytest
from support.runtime import Runtime
from support.session import Session, pytest_pyfunc_call  # noqa: F401  a hook of this suite
from support.vm_box import VmBox


@pytest.fixture
def box(session: Session) -> Iterator[VmBox]:
    runtime = Runtime(session.runtime.binary, session.runtime.root, session.runtime.probe, isolation="vm")
    session.tests += 1
    box = VmBox(runtime, session.template, session.work, session.token, session.tests)
    yield box
    if box.dir.exists():
        box.clean()
