"""containerd's events, as `ctr events` prints them."""

import json
import re
import select
import subprocess
import time

from containerd_driver import Containerd
from support import host

LINE = re.compile(r"(?P<time>\S+ \S+ \S+ \S+) (?P<namespace>\S+) (?P<topic>/\S+) (?P<body>\{.*\})")
TIMEOUT_S = 20


class Events:
    """Those that are published while it is open, as (topic, fields)."""

    def __init__(self, daemon: Containerd, namespace: str = "") -> None:
        self.namespace = namespace or daemon.token
        command = daemon.command("events", namespace=self.namespace)
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0)
        self.buffer = b""
        self.found: list[tuple[str, dict]] = []
        try:
            self.subscribe(daemon)
        except BaseException:
            self.close()
            raise

    def subscribe(self, daemon: Containerd) -> None:
        # Nothing tells when the subscription stands, so publish something until it shows.
        for _ in host.ticks(TIMEOUT_S):
            label = ("namespaces", "label", self.namespace, f"seen={time.monotonic_ns()}")
            daemon.ctr(*label, namespace=self.namespace)
            self.read(0.05)
            if self.found:
                break

    def read(self, timeout_s: float) -> None:
        if select.select([self.process.stdout], [], [], timeout_s)[0]:
            self.buffer += self.process.stdout.read(65536)
        *lines, self.buffer = self.buffer.split(b"\n")
        for line in lines:
            match = LINE.fullmatch(line.decode().strip())
            if match and match["namespace"] == self.namespace:
                self.found.append((match["topic"], json.loads(match["body"])))

    def of(self, id: str) -> list[tuple[str, dict]]:
        """Give the task events of a container so far."""
        return [
            (topic.removeprefix("/tasks/"), body)
            for topic, body in self.found
            if topic.startswith("/tasks/") and body.get("container_id") == id
        ]

    def until(self, id: str, topic: str) -> list[tuple[str, dict]]:
        """Wait until a container has had such an event."""
        deadline = time.monotonic() + TIMEOUT_S
        while topic not in [name for name, _ in self.of(id)]:
            assert time.monotonic() < deadline, f"no {topic} of {id}: {self.of(id)}"
            self.read(0.2)
        return self.of(id)

    def __enter__(self) -> "Events":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
