"""Runs the agent on this machine, as pid 1 of namespaces of its own, instead of a VM.

    unshare --pid --mount --net --uts --ipc --fork python agent_alone.py <source> <fd>

As a script it is that agent, and imports nothing of the tests; as a module it starts the script. The agent has /run for itself, so no container of the machine is seen. The machine's clock and randomness are left alone.
"""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

NAMESPACES = ("pid", "mount", "net", "uts", "ipc")
SOURCE = os.path.realpath(f"{__file__}/../../../src")


def main(source: str, fd: int) -> None:
    sys.path.insert(0, source)
    from skerry.agent import machine
    from skerry.agent import main as agent
    from skerry.linux import libc

    class Sandboxed(machine.Machine):
        def seed(self, entropy: bytes) -> None:
            if len(entropy) != 64:
                raise ValueError(len(entropy))

        def set_clock(self, time_ns: int) -> None:
            pass

        def end(self) -> None:
            pass

    libc.mount("proc", "/proc", "proc")
    libc.mount("tmpfs", "/run", "tmpfs")
    machine.bring_up("lo")
    agent.preload()
    agent.Agent(fd, Sandboxed()).run()
    agent.end(Sandboxed())


@contextlib.contextmanager
def started() -> Iterator[tuple]:
    """A client of a new agent, and the process whose child it is; killed at the end if it has not ended."""
    from support.agent_client import Client

    ours, theirs = socket.socketpair()
    flags = [f"--{name}" for name in NAMESPACES]
    command = ["unshare", *flags, "--fork", "--kill-child", os.path.realpath(sys.executable), "-ISB"]
    process = subprocess.Popen([*command, __file__, SOURCE, str(theirs.fileno())], pass_fds=[theirs.fileno()])
    theirs.close()
    try:
        yield Client(ours), process
    finally:
        ours.close()
        try:
            process.wait(10)
        finally:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
