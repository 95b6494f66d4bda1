"""Malformed configurations: every row of security.md section 8.

Each is refused with 1 and one line before anything is made, within two seconds, and nothing is left. skerry names the
place by a JSON pointer as well.
"""

import json
import os
import time

import pytest
from support import leaks
from support.box import Box
from support.spec import (
    add_mount,
    drop_mount,
    drop_namespace,
    fresh_spec,
    namespace,
    user_namespace,
)

from .bad_configs import ACCEPTED, DOCUMENTS, GOOD, ROWS, Change


def refused(box: Box, document: object) -> str:
    """Insist on the invariants of section 7 for one bad document; the one line of stderr."""
    begin = time.monotonic()
    result = box.try_create(document)
    took = time.monotonic() - begin
    assert result.code == 1, result
    assert took < 2, took
    assert result.out == "", result
    assert "Traceback" not in result.err and "panic" not in result.err, result
    assert leaks.settle(box.leftovers) == [], result
    return result.message


def refused_in_one_line(box: Box, document: object) -> str:
    """The form of an error: one printable line of at most 500 bytes."""
    result = box.try_create(document).failed(1)
    assert len(result.err.splitlines()) == 1, result
    assert len(result.message.encode()) <= 500 + 100, len(result.message)  # the prefix of the verb comes on top
    assert result.message.isprintable(), result
    return result.message


def spec_of(change: Change) -> dict:
    spec = fresh_spec()
    change(spec)
    return spec


NAMES = [row[0] for row in ROWS]


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_refused(box: Box, row: tuple[str, Change, str, str]) -> None:
    """security 8."""
    assert row[3] in refused(box, spec_of(row[1]))


@pytest.mark.skerry_only("security 7: the error names its place")
@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_pointer_is_named(box: Box, row: tuple[str, Change, str, str]) -> None:
    message = refused_in_one_line(box, spec_of(row[1]))
    assert row[2] in message


@pytest.mark.parametrize("name", DOCUMENTS)
def test_bad_document(box: Box, name: str) -> None:
    """security 8, document."""
    refused(box, DOCUMENTS[name])


@pytest.mark.skerry_only("security 7")
@pytest.mark.parametrize("name", DOCUMENTS)
def test_bad_document_is_one_line(box: Box, name: str) -> None:
    refused_in_one_line(box, DOCUMENTS[name])


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(box: Box, name: str) -> None:
    """security 8: what the spec says to ignore, or to warn about."""
    assert box.try_create(spec_of(ACCEPTED[name])).code == 0


@pytest.mark.parametrize("form", ['"\\ud800"', '"\\udc80x"'])
def test_lone_surrogate(box: Box, form: str) -> None:
    """security 8: refused or U+FFFD, never a crash, never a raw byte."""
    document = GOOD[:-1] + f', "annotations": {{"a": {form}}}}}'
    result = box.try_create(document)
    assert result.code in (0, 1), result
    assert "Traceback" not in result.err


@pytest.mark.parametrize("place", ["args", "env"])
def test_surrogate_reaches_no_program(box: Box, place: str) -> None:
    """P12."""
    document = json.dumps(fresh_spec("printf", "%s", "MARK")).replace("MARK", "\\udc80")
    if place == "env":
        document = json.dumps(fresh_spec("env")).replace("TERM=xterm", "A=\\udc80")
    out = os.memfd_create("out")
    result = box.run(document, stdout=out)
    assert result.code in (0, 1), result
    assert b"\x80" not in os.pread(out, 4096, 0).replace("\ufffd".encode(), b"")


@pytest.mark.slow
def test_huge_annotation(box: Box) -> None:
    """security 8: 64 MiB are taken, or refused by a cap; in either case without a trace."""
    spec = fresh_spec()
    spec["annotations"] = {"large": "x" * (64 << 20)}
    result = box.try_create(spec)
    assert result.code in (0, 1), result.code
    if result.code == 1:
        assert box.leftovers() == []


def test_no_linux_at_all(box: Box) -> None:
    """security 8: accepted or refused, no crash."""
    spec = fresh_spec()
    del spec["linux"]
    result = box.try_create(spec)
    assert result.code in (0, 1), result
    assert "Traceback" not in result.err and "panic" not in result.err


@pytest.mark.parametrize("kind", ["fifo", "directory", "zero", "link to zero", "unreadable"])
def test_config_that_is_no_regular_file(box: Box, kind: str) -> None:
    """security 8: refused, and a fifo must not hang."""
    where = box.bundle(fresh_spec())
    config = where / "config.json"
    config.unlink()
    if kind == "fifo":
        os.mkfifo(config)
    elif kind == "directory":
        config.mkdir()
    elif kind == "zero":
        os.mknod(config, 0o020600, os.makedev(1, 5))
    elif kind == "link to zero":
        config.symlink_to("/dev/zero")
    else:
        config.symlink_to("config.json")
    result = box.runtime.call("create", "--bundle", where, box.new_id(), timeout_s=4)
    assert result.code == 1, result
    assert box.leftovers() == []


@pytest.mark.slow
def test_config_of_64_mib(box: Box) -> None:
    """security 8: refused, within the time for any input."""
    where = box.bundle(" " * (64 << 20) + "[]")
    assert box.runtime.call("create", "--bundle", where, box.new_id(), timeout_s=4).code == 1


def test_root_that_is_a_link(box: Box) -> None:
    """security 8: refused."""
    spec = fresh_spec()
    spec["root"]["path"] = "link"
    where = box.bundle(spec)
    (where / "link").symlink_to("rootfs")
    box.try_create(None, bundle=where).failed(1)


def test_mappings_that_are_no_trouble_with_a_joined_user_namespace(box: Box) -> None:
    """decisions 22: CRI sends both, and they equal the namespace's own."""
    spec = fresh_spec()
    user_namespace(spec)
    first = box.parked(spec)
    spec = fresh_spec()
    user_namespace(spec)
    namespace(spec, "user", f"/proc/{first.pid}/ns/user")
    assert box.run(spec).code == 0


def test_mount_namespace_may_be_missing_without_masks(box: Box) -> None:
    """The rest of the row: accepted or refused, never with the host's mounts changed."""
    spec = fresh_spec("true")
    drop_namespace(spec, "mount")
    drop_mount(spec, *[m["destination"] for m in spec["mounts"]])
    spec["linux"]["maskedPaths"] = spec["linux"]["readonlyPaths"] = []
    assert box.run(spec).code in (0, 1)


def test_option_that_the_filesystem_takes(box: Box) -> None:
    """The positive control of `unknown option`: what is no flag is data."""
    spec = fresh_spec("true")
    add_mount(spec, "/vol", "tmpfs", "tmpfs", "nr_inodes=100")
    assert box.run(spec).code == 0
