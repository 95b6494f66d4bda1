"""One test's workbench: bundles, containers, and the promise that nothing of them is left."""

import json
import os
import shutil
import signal
from pathlib import Path

from . import host, leaks
from .rootfs import copy_template
from .runtime import Result, Running, Runtime, Stream


class Container:
    """A container that the test made. `.pid` is what the pid file says."""

    def __init__(self, box: "Box", id: str, bundle: Path, stream: Stream) -> None:
        self.box, self.id, self.bundle, self.stream = box, id, bundle, stream
        self.pid = int((bundle / "pid").read_text())

    def verb(self, verb: str, *args: object, **how: object) -> Result:
        """Run `<verb> <flags> <id>`: flags go before the id."""
        return self.box.runtime.call(verb, *args, self.id, **how)  # type: ignore[arg-type]

    def start(self) -> "Container":
        self.verb("start").ok()
        return self

    def kill(self, *words: object) -> Result:
        """Send a signal and insist that it worked."""
        return self.box.runtime.call("kill", self.id, *words).ok()

    def end(self) -> int:
        """Kill init, reap it, give its wait code (negative: the signal)."""
        os.kill(self.pid, signal.SIGKILL)
        return self.wait()

    def wait(self, timeout_s: float = 10) -> int:
        """Reap init as an engine's monitor does."""
        host.wait_exit(self.pid, timeout_s * (3 if self.box.runtime.isolation == "vm" else 1))
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        # A shim exits with 128 + signal (lifecycle 73); what it stands for was ended by the signal.
        return 128 - code if self.box.runtime.isolation == "vm" and code > 128 and code != 255 else code

    def delete(self, *flags: str) -> Result:
        return self.verb("delete", *flags)

    def state(self) -> dict:
        return self.verb("state").ok().json()  # type: ignore[return-value]

    @property
    def status(self) -> str:
        return self.state()["status"]

    def exec(self, *words: object, flags: tuple[object, ...] = (), **how: object) -> Result:
        return self.box.runtime.call("exec", *flags, self.id, *words, **how)  # type: ignore[arg-type]

    @property
    def rootfs(self) -> Path:
        return self.bundle / "rootfs"


class Box:
    """Made anew for each test. `.dir` is scratch space outside of every rootfs."""

    def __init__(self, runtime: Runtime, template: Path, work: Path, token: str, number: int) -> None:
        self.runtime, self.template, self.token, self._number = runtime, template, token, number
        self.dir = work / f"t{number}"
        self.dir.mkdir()
        self.ids: list[str] = []
        self._streams: list[Stream] = []
        self._bundles = 0

    def new_id(self) -> str:
        """Give an unused id, and remember it for the clean-up."""
        self.ids.append(f"{self.token}-{self._number}-{len(self.ids)}")
        return self.ids[-1]

    def cgroup_path(self) -> str:
        """Give an unused absolute cgroupsPath."""
        return f"/{self.token}/{self.token}-{self._number}-{os.urandom(3).hex()}"

    def bundle(self, spec: object, *, rootfs: bool = True) -> Path:
        """Write a bundle. A spec that is text or bytes is written as it is."""
        self._bundles += 1
        where = self.dir / f"b{self._bundles}"
        where.mkdir()
        if rootfs:
            copy_template(self.template, where / "rootfs")
        if isinstance(spec, str | bytes):
            (where / "config.json").write_bytes(spec if isinstance(spec, bytes) else spec.encode())
        else:
            (where / "config.json").write_text(json.dumps(spec))
        return where

    def run(self, spec: object, *flags: object, bundle: Path | None = None, id: str = "", **how: object) -> Result:
        """Run in the foreground."""
        return self.spawn_run(spec, *flags, bundle=bundle, id=id, **how).finish()

    def spawn_run(
        self, spec: object, *flags: object, bundle: Path | None = None, id: str = "", **how: object
    ) -> Running:
        """Begin a foreground run."""
        where = bundle or self.bundle(spec)
        return self.runtime.spawn("run", "--bundle", where, *flags, id or self.new_id(), **how)  # type: ignore[arg-type]

    def try_create(
        self, spec: object, *flags: object, verb: str = "create", bundle: Path | None = None, id: str = "", **how: object
    ) -> Result:
        """Create (or `run --detach`) without insisting on success."""
        where = bundle or self.bundle(spec)
        return self.runtime.call(
            verb, "--bundle", where, "--pid-file", where / "pid", *flags, id or self.new_id(), **how  # type: ignore[arg-type]
        )

    def create(self, spec: object, *flags: object, bundle: Path | None = None, id: str = "", **how: object) -> Container:
        """Create a container whose output can be read from `.stream`."""
        where = bundle or self.bundle(spec)
        id = id or self.new_id()
        if "stdout" in how:
            stream = Stream(-1)
            self.try_create(spec, *flags, bundle=where, id=id, **how).ok()
        else:
            end, out = os.pipe()
            stream = Stream(end)
            self._streams.append(stream)
            try:
                self.try_create(spec, *flags, bundle=where, id=id, stdout=out, **how).ok()
            finally:
                os.close(out)
        return Container(self, id, where, stream)

    def start(self, spec: object, *flags: object, **how: object) -> Container:
        """Create and start."""
        return self.create(spec, *flags, **how).start()  # type: ignore[arg-type]

    def parked(self, spec: dict, *flags: object, **how: object) -> Container:
        """Start `probe park` in a container and wait until it runs."""
        spec["process"]["args"] = ["probe", "park"]
        container = self.start(spec, *flags, **how)
        container.stream.until("ready")
        return container

    def refuses(self, spec: object, *texts: str, **how: object) -> Result:
        """Insist that create fails with 1, says these texts, and leaves nothing."""
        result = self.try_create(spec, **how).failed().says(*texts)  # type: ignore[arg-type]
        assert leaks.settle(self.leftovers) == [], result
        return result

    def leftovers(self) -> list[str]:
        """What of this test's containers exists at this moment."""
        return leaks.find(self.token, f"{self.token}-{self._number}-", self.runtime.root, str(self.dir))

    def clean(self) -> list[str]:
        """Delete every container, tell what stays behind all the same, and remove that by force."""
        self.runtime.abandon()
        for id in self.ids:
            result = self.runtime.spawn("delete", "--force", id).finish_reaping()
            if result.code != 0 and any(name.startswith(id) for name in os.listdir(self.runtime.root)):
                self.runtime.spawn("delete", "--force", id).finish_reaping()
        for stream in self._streams:
            stream.close()
        self.ids.clear()
        for pid in leaks.keepers(self.dir / "root"):
            os.kill(pid, signal.SIGKILL)
        leaks.reap()
        left = leaks.settle(self.leftovers)
        if left:
            leaks.remove(self.token, f"{self.token}-{self._number}-", self.runtime.root)
        leaks.unmount_below(str(self.dir))
        shutil.rmtree(self.dir, ignore_errors=True)
        return left
