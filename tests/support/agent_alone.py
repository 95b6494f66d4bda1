"""Runs the agent on this machine, as pid 1 of namespaces of its own, instead of a VM; a script.

    unshare --pid --mount --net --uts --ipc --fork python agent_alone.py <source> <fd>

It has /run for itself, so no container of the machine is seen. The machine's clock and randomness are left alone.
"""

import sys


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


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
