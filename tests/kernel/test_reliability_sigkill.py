"""SIGKILL at any moment of any verb leaves nothing that `delete --force` does not remove (lifecycle 42, 118).

Moments are drawn from a fixed seed, so a run can be repeated; SKERRY_ROUNDS sets how many. A second form kills at the
entry of each system call that a create makes once its id is reserved, with strace; SKERRY_ROUNDS=all does them all.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from support import host, leaks
from support.box import Box
from support.runtime import ENVIRONMENT, TIMEOUT_S
from support.spec import fresh_spec, namespace

_ROUNDS = os.environ.get("SKERRY_ROUNDS", "25")
ROUNDS = 200 if _ROUNDS == "all" else int(_ROUNDS)

pytestmark = pytest.mark.slow


def plain() -> dict:
    return fresh_spec("probe", "park")


def sandbox_with_hooks() -> dict:
    """Everything that a create can acquire: cgroup, processes, a holder; and hooks on both sides."""
    spec = plain()
    spec["annotations"] = {"io.kubernetes.cri.container-type": "sandbox"}
    hook = {"path": "/bin/true"}
    spec["hooks"] = {name: [hook] for name in ("prestart", "createRuntime", "createContainer", "poststart", "poststop")}
    namespace(spec, "cgroup")
    namespace(spec, "time")
    return spec


SPECS = {"plain": plain, "sandbox with hooks": sandbox_with_hooks}


class Sweep:
    """Rounds of one verb: each makes a fresh container, kills the verb at a moment, deletes, and creates again."""

    def __init__(self, box: Box, spec: dict, verb: str) -> None:
        self.box, self.verb, self.id = box, verb, box.new_id()
        if "annotations" in spec:
            spec["annotations"]["io.kubernetes.cri.sandbox-id"] = self.id
        self.bundle = box.bundle(spec)
        self.random = random.Random(verb)
        self.length_s = max(self._unhurt() for _ in range(3))

    def _unhurt(self) -> float:
        self._prepare()
        begin = time.monotonic()
        self.box.runtime.spawn(*self._words()).finish_reaping().ok()
        length_s = time.monotonic() - begin
        self._delete()
        return length_s

    def moments(self) -> Iterator[float]:
        for _ in range(ROUNDS):
            yield self.random.uniform(0, 1.1 * self.length_s)

    def kill_at(self, moment_s: float) -> None:
        self._prepare()
        running = self.box.runtime.spawn(*self._words())
        try:
            host.wait_exit(running.pid, moment_s)
        except TimeoutError:
            os.kill(running.pid, signal.SIGKILL)  # Popen's own way would reap it, should it just have ended
        running.finish_reaping()

    def insist_on_nothing(self, where: object) -> None:
        """A delete removes all, a second one finds nothing, and the id can be created at once."""
        self._delete()
        assert leaks.settle(self.box.leftovers) == [], where
        self.box.runtime.spawn("delete", "--force", self.id).finish_reaping().ok()
        self.box.runtime.spawn("delete", self.id).finish_reaping().failed().says("does not exist")
        self._create()
        self._delete()
        assert leaks.settle(self.box.leftovers) == [], where

    def _words(self) -> tuple[object, ...]:
        return {
            "create": ("create", "--bundle", self.bundle, self.id),
            "start": ("start", self.id),
            "delete": ("delete", "--force", self.id),
            "run": ("run", "--detach", "--bundle", self.bundle, self.id),
            "exec": ("exec", "--detach", self.id, "probe", "park"),
            "kill": ("kill", self.id, "KILL"),
            "update": ("update", "--pids-limit", "50", self.id),
        }[self.verb]

    def _prepare(self) -> None:
        if self.verb in ("create", "run"):
            return
        self._create()
        if self.verb != "start":
            self.box.runtime.call("start", self.id).ok()

    def _create(self) -> None:
        self.box.runtime.spawn("create", "--bundle", self.bundle, self.id).finish_reaping().ok()

    def _delete(self) -> None:
        begin = time.monotonic()
        self.box.runtime.spawn("delete", "--force", self.id).finish_reaping().ok()
        assert time.monotonic() - begin < 2


@pytest.mark.parametrize("verb", ["create", "start", "delete", "run", "exec", "kill", "update"])
@pytest.mark.parametrize("kind", SPECS)
def test_killed_at_random_moments(box: Box, kind: str, verb: str) -> None:
    """lifecycle 8, 42, 53, 54, 118, 120; security 6, first two rows."""
    if kind != "plain" and verb not in ("create", "delete", "run"):
        pytest.skip("the same processes as with the plain spec")
    sweep = Sweep(box, SPECS[kind](), verb)
    for moment_s in sweep.moments():
        sweep.kill_at(moment_s)
        sweep.insist_on_nothing(f"killed after {moment_s:.4f} s")


def test_killed_at_system_calls(box: Box) -> None:
    """lifecycle 42: every moment between the reservation of the id and the end, as far as calls of ours tell them apart."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    sweep = Sweep(box, sandbox_with_hooks(), "create")
    calls = _calls(box, sweep)
    step = 1 if _ROUNDS == "all" else max(1, len(calls) // ROUNDS)
    for name, nth in calls[step // 2 :: step]:
        _strace(box, sweep, "-o", "/dev/null", "-e", f"inject={name}:signal=KILL:when={nth}")
        sweep.insist_on_nothing(f"killed at {name} number {nth}")


def _calls(box: Box, sweep: Sweep) -> list[tuple[str, int]]:
    """The calls of a create after its first key is there, each as (name, the how-manieth of its name)."""
    trace = box.dir / "trace"
    _strace(box, sweep, "-o", trace)
    sweep._delete()
    seen: Counter[str] = Counter()
    found: list[tuple[str, int]] = []
    reserved = False
    for line in trace.read_text().splitlines():
        name = re.match(r"\w*", line)[0]
        seen[name] += 1
        if reserved and name and name not in ("exit_group", "execve"):
            found.append((name, seen[name]))
        reserved = reserved or (name.startswith("rename") and f'{sweep.id}")' in line)
    assert len(found) > 100, trace.read_text()[-2000:]
    return found


def _strace(box: Box, sweep: Sweep, *flags: object) -> None:
    line = ["strace", "-qq", *flags, box.runtime.binary, "--root", box.runtime.root, *sweep._words()]
    process = subprocess.Popen(
        [str(word) for word in line], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=ENVIRONMENT,
    )  # fmt: skip
    host.wait_exit(process.pid, TIMEOUT_S)
    process.wait()
    leaks.reap()
