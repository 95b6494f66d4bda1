"""Drive a runtime binary as an engine does: one process per verb, every call with a deadline."""

import json
import os
import re
import select
import signal
import subprocess
from pathlib import Path

from . import host, leaks

ISOLATION = os.environ.get("ISOLATION", "")
# A VM of the tests may be emulated.
VM_TIMEOUT_S = 60
TIMEOUT_S = VM_TIMEOUT_S if ISOLATION == "vm" else 20
ISOLATED_VERBS = ("create", "run")
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
_LOGRUS = re.compile(r'^time="[^"]*" level=(\w+) msg="((?:[^"\\]|\\.)*)"$')
_CRUN = re.compile(r"^\d{4}-\d\d-\d\dT\S+: ")


class Result:
    """What a finished process left: `.code` (negative: the signal), `.out`, `.err`, `.args`."""

    def __init__(self, args: list[str], code: int, out: str, err: str) -> None:
        self.args, self.code, self.out, self.err = args, code, out, err

    def __repr__(self) -> str:
        return f"\n{' '.join(self.args)}\nexit {self.code}\nstdout: {self.out[-3000:]}\nstderr: {self.err[-3000:]}"

    def ok(self) -> "Result":
        """Insist on exit code 0."""
        assert self.code == 0, self
        return self

    def failed(self, code: int = 1) -> "Result":
        """Insist on a failure with that code."""
        assert self.code == code, self
        return self

    def says(self, *texts: str) -> "Result":
        """Insist on texts in the error."""
        for text in texts:
            assert text in self.message or text in self.err, (text, self)
        return self

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def message(self) -> str:
        """The last line of stderr without what log formats put around it."""
        last = self.err.strip().splitlines()[-1] if self.err.strip() else ""
        found = _LOGRUS.match(last)
        if found:
            return found[2].replace('\\"', '"').replace("\\\\", "\\")
        return _CRUN.sub("", last)

    def json(self) -> object:
        return json.loads(self.out)

    def fields(self) -> dict[str, str]:
        """Read stdout as lines of `Key: value`."""
        return host.fields(self.out)


class Running:
    """A process of ours that still runs."""

    def __init__(self, args: list[str], process: subprocess.Popen, out: int, err: int, timeout_s: float = TIMEOUT_S) -> None:
        self.args, self.process, self._out, self._err, self.timeout_s = args, process, out, err, timeout_s

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def finish_reaping(self) -> Result:
        """Wait for the end and reap what dies meanwhile: a pid namespace ends when its last process is reaped."""
        pidfd = os.pidfd_open(self.process.pid)
        for _ in host.ticks(self.timeout_s):
            leaks.reap(self.process.pid)
            if select.select([pidfd], [], [], 0)[0]:
                break
        os.close(pidfd)
        return self.finish()

    def finish(self, timeout_s: float = 0) -> Result:
        """Wait for the end; a process that is late is killed and its test fails."""
        try:
            host.wait_exit(self.process.pid, timeout_s or self.timeout_s)
        except TimeoutError:
            for pid in [self.process.pid, *host.descendants(self.process.pid)]:
                os.kill(pid, signal.SIGKILL)
            self.process.wait()
            raise AssertionError(f"hangs: {self._result(-9)}") from None
        return self._result(self.process.wait())

    def abandon(self) -> None:
        """End it, if a failed test did not wait for it."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._result(self.process.returncode)

    def _result(self, code: int) -> Result:
        texts = []
        for fd in (self._out, self._err):
            texts.append(_slurp(fd) if fd >= 0 else "")
            if fd >= 0:
                os.close(fd)
        self._out = self._err = -1
        return Result(self.args, code, *texts)


class Stream:
    """The reading end of a container's output; `.text` is what came so far."""

    def __init__(self, fd: int) -> None:
        self.fd, self.text = fd, ""

    def until(self, wanted: str, timeout_s: float = TIMEOUT_S / 2) -> str:
        """Read until a text has come."""
        while wanted not in self.text:
            assert self._more(timeout_s), f"end of output, {wanted!r} never came: {self.text!r}"
        return self.text

    def rest(self, timeout_s: float = TIMEOUT_S / 2) -> str:
        """Read to the end of file."""
        while self._more(timeout_s):
            pass
        return self.text

    def _more(self, timeout_s: float) -> bool:
        assert select.select([self.fd], [], [], timeout_s)[0], f"no output in {timeout_s} s: {self.text!r}"
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # EIO: the last slave of a terminal was closed
            data = b""
        self.text += data.decode("utf-8", "replace")
        return bool(data)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


class Runtime:
    """The binary under test. `.kind` is `skerry`, `runc` or `crun`."""

    def __init__(self, binary: str, root: Path, probe: Path, *, isolation: str = "") -> None:
        self.binary, self.root, self.probe, self.isolation = binary, root, probe, isolation
        self.timeout_s = VM_TIMEOUT_S if isolation == "vm" else TIMEOUT_S
        self._spawned: list[Running] = []
        self.version = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=20).stdout
        self.kind = self.version.split(" ")[0] if self.version else "unknown"

    def spawn(
        self,
        *args: object,
        options: tuple[str, ...] = (),
        stdin: int | bytes = subprocess.DEVNULL,
        stdout: int = -1,
        stderr: int = -1,
        cwd: object = None,
        env: dict[str, str] | None = None,
        pass_fds: tuple[int, ...] = (),
        fds: tuple[int, ...] = (),
        umask: int = -1,
        groups: list[int] | None = None,
        root: object = None,
    ) -> Running:
        """Start a verb. Outputs that are not given go to unnamed files, so a container may keep them open.

        `pass_fds` are inherited under their own numbers, `fds` as 3, 4, ...
        """
        words = list(map(str, args))
        if self.isolation and words and words[0] in ISOLATED_VERBS and "--isolation" not in words:
            words[1:1] = ["--isolation", self.isolation]
        line = [self.binary, "--root", str(root or self.root), *options, *words]
        if fds:
            line = [str(self.probe), "pass", *map(str, fds), "--", *line]
            pass_fds = fds
        out = err = -1
        if stdout == -1:
            out = stdout = os.memfd_create("stdout", os.MFD_CLOEXEC)
        if stderr == -1:
            err = stderr = os.memfd_create("stderr", os.MFD_CLOEXEC)
        fed = -1
        if isinstance(stdin, bytes):
            fed, end = os.pipe()
            os.write(end, stdin)
            os.close(end)
            stdin = fed
        try:
            process = subprocess.Popen(
                line, stdin=stdin, stdout=stdout, stderr=stderr, cwd=cwd, env={**ENVIRONMENT, **(env or {})},
                pass_fds=pass_fds, umask=umask, extra_groups=groups,
            )  # fmt: skip
        finally:
            if fed >= 0:
                os.close(fed)
        self._spawned.append(Running(line, process, out, err, self.timeout_s))
        return self._spawned[-1]

    def abandon(self) -> None:
        """End what a test began and did not finish."""
        while self._spawned:
            self._spawned.pop().abandon()

    def call(self, *args: object, timeout_s: float = 0, **how: object) -> Result:
        """Run a verb to its end."""
        return self.spawn(*args, **how).finish(timeout_s or self.timeout_s)  # type: ignore[arg-type]


def _slurp(fd: int) -> str:
    return os.pread(fd, min(os.fstat(fd).st_size, 16 << 20), 0).decode("utf-8", "replace")
