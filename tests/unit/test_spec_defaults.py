"""default_spec against the real `runc spec`; features against runc's and the tables."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from skerry.linux import seccomp
from skerry.spec.defaults import default_spec
from skerry.spec.features import features
from skerry.spec.unsupported import PROPERTIES
from skerry.spec.validate import check_spec

needs_runc = pytest.mark.skipif(not shutil.which("runc"), reason="runc is not installed")


@needs_runc
@pytest.mark.parametrize("rootless", [False, True])
def test_equals_runc_s(tmp_path: Path, *, rootless: bool) -> None:
    """All but the version, the host name and the ambient capabilities (V10: a default has none)."""
    command = ["runc", "spec", *(["--rootless"] if rootless else [])]
    subprocess.run(command, cwd=tmp_path, check=True)
    theirs = json.loads((tmp_path / "config.json").read_text())
    ours = default_spec(rootless=rootless)
    assert ours["ociVersion"] == "1.3.0"
    assert ours["hostname"] == "skerry"
    theirs["process"]["capabilities"].pop("ambient", None)
    theirs["ociVersion"], theirs["hostname"] = ours["ociVersion"], ours["hostname"]
    assert ours == theirs
    assert list(ours) == list(theirs)
    assert list(ours["process"]) == list(theirs["process"])


def test_the_default_is_valid() -> None:
    assert check_spec(default_spec()) == []
    assert check_spec(default_spec(rootless=True), rootful=False) == []


def test_each_call_gives_its_own() -> None:
    default_spec()["process"]["args"].append("x")
    assert default_spec()["process"]["args"] == ["sh"]


@needs_runc
def test_features_hold_what_runc_has() -> None:
    """Each list holds runc's, or the table of what is refused says why not."""
    output = subprocess.run(["runc", "features"], capture_output=True, check=True).stdout
    theirs, ours = json.loads(output), features()
    assert set(theirs["mountOptions"]) <= set(ours["mountOptions"])
    assert theirs["hooks"] == ours["hooks"]
    assert set(theirs["linux"]["namespaces"]) <= set(ours["linux"]["namespaces"])
    assert theirs["linux"]["capabilities"] == ours["linux"]["capabilities"]
    for word in ("actions", "operators", "archs"):
        assert set(theirs["linux"]["seccomp"][word]) <= set(ours["linux"]["seccomp"][word]), word
    version = "io.github.seccomp.libseccomp.version"
    assert theirs["annotations"][version] == ours["annotations"][version]


def test_features_promise_nothing_that_is_refused() -> None:
    linux: Any = features()["linux"]
    for feature, name in (("intelRdt", "intelRdt"), ("selinux", "mountLabel"), ("netDevices", "netDevices")):
        assert linux[feature]["enabled"] == (name not in PROPERTIES["linux"])
    assert linux["mountExtensions"]["idmap"]["enabled"] is False


def test_memory_policies_are_those_of_the_schema() -> None:
    """features-linux.md "MemoryPolicy" wants what defs-linux.json lists as MemoryPolicyMode and MemoryPolicyFlag."""
    assert features()["linux"]["memoryPolicy"] == {
        "modes": ["MPOL_BIND", "MPOL_DEFAULT", "MPOL_INTERLEAVE", "MPOL_LOCAL", "MPOL_PREFERRED",
                  "MPOL_PREFERRED_MANY", "MPOL_WEIGHTED_INTERLEAVE"],
        "flags": ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"],
    }  # fmt: skip


def test_features_are_of_the_schema() -> None:
    """features-schema.json and features-linux.json of runtime-spec 1.3."""
    document = features()
    assert re.fullmatch(r"1\.\d+\.\d+", document["ociVersionMin"])
    assert re.fullmatch(r"1\.\d+\.\d+", document["ociVersionMax"])
    for word in ("hooks", "mountOptions", "potentiallyUnsafeConfigAnnotations"):
        assert all(isinstance(item, str) for item in document[word])
    section = document["linux"]["seccomp"]
    assert section["enabled"] is True
    assert set(section["archs"]) <= set(seccomp.ARCHITECTURES)
    assert set(section["supportedFlags"]) <= set(section["knownFlags"])
    assert all(re.fullmatch("CAP_[A-Z_]+", name) for name in document["linux"]["capabilities"])
    assert json.loads(json.dumps(document)) == document
