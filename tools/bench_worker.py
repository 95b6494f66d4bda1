"""Starts commands for the benchmark and times them; one worker for each runtime.

Runs in: a child of bench_start.   Imports: the standard library only.
Never:   shares a namespace by accident: crun's worker lives in a mount namespace of its own.

A request is a line of JSON, `{"argv": [...], "cwd": ".."}`; the answer is `{"seconds": ..,
"code": .., "out": ".."}`. What is timed is posix_spawn to the exit of the command, from a process
small enough for a cheap spawn.
"""

import json
import os
import subprocess
import sys
import time

# crun refuses hosts where cgroup v2 is mounted beside v1, so its worker sees a new tmpfs with the
# v1 hierarchies alone. Nothing is ever removed from the host's own tree: a mount point removed
# there is gone for the whole host.
V1_ONLY = """
set -e
mkdir "$1/old" "$1/new"
mount --rbind /sys/fs/cgroup "$1/old"
mount -t tmpfs -o mode=755 cgroups "$1/new"
for entry in "$1"/old/*/; do
    name=$(basename "$entry")
    [ -e "$entry/cgroup.controllers" ] && continue
    mkdir "$1/new/$name"
    mount --bind "$entry" "$1/new/$name"
done
mount --rbind "$1/new" /sys/fs/cgroup
shift
exec "$@"
"""


def hybrid() -> bool:
    return os.path.exists("/sys/fs/cgroup/unified/cgroup.controllers")


class Worker:
    """The parent's end: `call(argv, cwd) -> {seconds, code, out}`."""

    def __init__(self, scratch: str, *, v1_only: bool) -> None:
        command = [sys.executable, "-I", "-S", "-B", os.path.abspath(__file__), scratch]
        if v1_only:
            private = ["unshare", "--mount", "--propagation", "private", "sh", "-c", V1_ONLY, "sh"]
            command = [*private, scratch, *command]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def call(self, argv: list[str], cwd: str = "/") -> dict:
        assert self.process.stdin and self.process.stdout
        print(json.dumps({"argv": argv, "cwd": cwd}), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def serve(scratch: str) -> None:
    path = os.path.join(scratch, "output")
    null = os.open("/dev/null", os.O_RDONLY)
    for line in sys.stdin:
        request = json.loads(line)
        os.chdir(request["cwd"])
        out = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        moves = [
            (os.POSIX_SPAWN_DUP2, null, 0),
            (os.POSIX_SPAWN_DUP2, out, 1),
            (os.POSIX_SPAWN_DUP2, out, 2),
        ]
        argv = request["argv"]
        begin = time.perf_counter()
        pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=moves)
        _, status = os.waitpid(pid, 0)
        seconds = time.perf_counter() - begin
        text = os.pread(out, 1 << 20, 0).decode(errors="replace")
        os.close(out)
        answer = {"seconds": seconds, "code": os.waitstatus_to_exitcode(status), "out": text}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
