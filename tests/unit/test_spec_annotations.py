"""Pods, isolation and our own annotations: lifecycle 18-21, 32."""

from typing import Any

import pytest

from skerry.errors import SpecError, UsageError
from skerry.spec.annotations import check_ours, isolation, sandbox

CRI = ("io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id")
CRIO = ("io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID")
DOCKER = ("io.kubernetes.docker.type", "io.kubernetes.sandbox.id")


@pytest.mark.parametrize("family", [CRI, CRIO, DOCKER])
def test_each_family(family: tuple[str, str]) -> None:
    """lifecycle 19, 21."""
    kind, name = family
    assert sandbox({kind: "sandbox", name: "p"}) == ("sandbox", "p")
    assert sandbox({kind: "container", name: "p"}) == ("container", "p")
    assert sandbox({kind: "container"}) == ("", "")
    assert sandbox({kind: "container", name: ""}) == ("", "")
    assert sandbox({kind: "other", name: "p"}) == ("", "")
    assert sandbox({name: "p"}) == ("", "")
    assert sandbox({kind: "sandbox"}) == ("sandbox", "")


def test_podsandbox_is_dockershim_s_word_only() -> None:
    """lifecycle 19, 21."""
    assert sandbox({DOCKER[0]: "podsandbox", DOCKER[1]: "p"}) == ("sandbox", "p")
    for kind, name in (CRI, CRIO):
        assert sandbox({kind: "podsandbox", name: "p"}) == ("", "")


def test_the_first_family_with_a_type_decides() -> None:
    """lifecycle 20."""
    crio = {CRIO[0]: "sandbox", CRIO[1]: "o"}
    assert sandbox({CRI[0]: "container", CRI[1]: "c", **crio}) == ("container", "c")
    assert sandbox({CRI[0]: "unknown", **crio}) == ("", "")
    assert sandbox({CRI[0]: "", CRI[1]: "c", **crio}) == ("sandbox", "o")


@pytest.mark.parametrize(
    ("annotation", "spec", "flag", "expected"),
    [
        (None, {}, "", "process"),
        ("vm", {}, "", "vm"),
        (None, {"vm": {}}, "", "vm"),
        (None, {}, "vm", "vm"),
        ("process", {"vm": {}}, "", "vm"),
        ("vm", {"vm": {}}, "process", "process"),
        ("vm", {}, "process", "process"),
        ("process", {}, "vm", "vm"),
    ],
)
def test_isolation(annotation: str | None, spec: Any, flag: str, expected: str) -> None:
    """lifecycle 18."""
    annotations = {} if annotation is None else {"run.skerry.isolation": annotation}
    assert isolation(annotations, spec, flag) == expected


def test_other_isolations() -> None:
    """lifecycle 18."""
    with pytest.raises(UsageError) as usage:
        isolation({}, {}, "VM")
    assert str(usage.value) == 'invalid isolation "VM"'
    for value in ("", "kvm"):
        with pytest.raises(SpecError) as spec:
            isolation({"run.skerry.isolation": value}, {}, "")
        assert str(spec.value) == f'/annotations/run.skerry.isolation: invalid isolation "{value}"'


def test_annotations_of_ours() -> None:
    """lifecycle 32."""
    check_ours({"org.example": "x", "run.skerryx": "y"})
    check_ours({"run.skerry.isolation": "vm", "run.skerry.network-from": "a"})
    check_ours({"run.skerry.isolation": "vm", CRI[0]: "container"})
    for annotations, name in (
        ({"run.skerry.x/y": ""}, "run.skerry.x~1y"),
        ({"run.skerry.network-from": "a", CRI[0]: "container"}, "run.skerry.network-from"),
        ({"run.skerry.layers": "[]", DOCKER[0]: "anything"}, "run.skerry.layers"),
    ):
        with pytest.raises(SpecError) as caught:
            check_ours(annotations)
        assert caught.value.pointer == f"/annotations/{name}"
