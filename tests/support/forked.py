"""Run a test in a forked child, where it may change what belongs to a process: mounts, namespaces."""

import os
import sys
import traceback
from collections.abc import Callable
from functools import wraps

import pytest

from . import host


def in_child(prepare: Callable[[], None]) -> Callable:
    """Run a test in a child, after `prepare` there; its failure and its skip are the test's."""

    def decorate(test: Callable) -> Callable:
        @wraps(test)
        def run(*arguments, **keywords):
            reading, writing = os.pipe()
            pid = os.fork()
            if pid == 0:
                report = ""
                try:
                    prepare()
                    test(*arguments, **keywords)
                except BaseException:
                    report = traceback.format_exc()
                os.write(writing, report.encode()[:60000])
                sys.stdout.flush()
                os._exit(0)
            os.close(writing)
            with os.fdopen(reading) as pipe:
                report = pipe.read()
            os.waitpid(pid, 0)
            if "Skipped: " in report:
                pytest.skip(report.rpartition("Skipped: ")[2].strip())
            assert not report, report

        return run

    return decorate


def private_mounts() -> None:
    """Mounts of our own, and what is abandoned becomes our child."""
    host.prctl(host.PR_SET_CHILD_SUBREAPER, 1)
    host.unshare(host.CLONE_NEWNS)
    host.mount("none", "/", flags=host.MS_REC | host.MS_PRIVATE)


def pure_v2() -> None:
    """/sys/fs/cgroup is a cgroup2 mount and nothing else, as on a v2 host."""
    private_mounts()
    if not os.path.exists("/sys/fs/cgroup/cgroup.controllers"):  # else it is there already, and the kernel says EBUSY
        host.mount("cgroup2", "/sys/fs/cgroup", "cgroup2")
