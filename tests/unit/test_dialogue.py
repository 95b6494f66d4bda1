"""What skerry-init says is answered in the order of its processes, whatever order it arrives in."""

import os
import struct

import pytest

from skerry.native.conversation import Record
from skerry.native.dialogue import Dialogue
from skerry.plan import ops
from skerry.plan.request import Request


def record(kind: int, process: int, *, value: int = 0, fd: int = -1) -> Record:
    return Record(struct.pack(ops.RECORD_FORMAT, kind, 0, 0, process, value), fd)


class Conversation:
    """Plays back what skerry-init says, and keeps what it is told."""

    def __init__(self, records: list[Record]) -> None:
        self.records, self.sent = records, []

    def receive(self) -> Record | None:
        return self.records.pop(0)

    def send(self, kind: int, payload: bytes = b"", *, value: int = -1) -> None:
        self.sent.append(kind)


class Launched:
    def __init__(self, records: list[Record]) -> None:
        self.conversation = Conversation(records)


def talk(records: list[Record]) -> tuple[Dialogue, list[int], list[int]]:
    """(the dialogue after READY, the pids in the order they were told, the kinds we sent)."""
    pids: list[int] = []
    launched = Launched(records)
    process = {"user": {"uid": 0}}
    dialogue = Dialogue(launched, Request("x86_64", "a", {}, process), None, on_process=pids.append)  # type: ignore[arg-type]
    dialogue.run()
    return dialogue, pids, launched.conversation.sent


@pytest.mark.parametrize(
    "order",
    [
        (0, 1, 2, 3),
        (1, 0, 2, 3),  # the join process is quicker than the outer one
        (2, 0, 1, 3),  # init is quicker than both
        (2, 1, 0, 3),
        (1, 2, 0, 3),
    ],
)
def test_pids_are_told_in_the_order_of_birth(order: tuple[int, ...]) -> None:
    """Outer forks join, join forks init; each goes on while its parent has yet to tell its pid."""
    records = [
        record(ops.PID, 0, value=101),
        record(ops.PID, 1, value=102),
        record(ops.HOOKS, 2),
        record(ops.READY, 2),
    ]
    dialogue, pids, sent = talk([records[n] for n in order])
    assert pids == [101, 102]
    assert dialogue.pid == 102
    assert sent == [ops.GO, ops.GO]


def test_two_records_before_the_pid() -> None:
    """exec with a terminal: its master does not wait for an answer, what follows does."""
    master = os.memfd_create("master")
    dialogue, pids, sent = talk(
        [
            record(ops.FD, 1, fd=master),
            record(ops.PASSWD, 1),
            record(ops.PID, 0, value=101),
            record(ops.READY, 1),
        ]
    )
    assert dialogue.console_fd == master
    assert pids == [101]
    assert sent == [ops.GO, ops.REPLY]
    os.close(master)
