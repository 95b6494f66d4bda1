"""What a VM is to be: defaults, the administrator, the spec, annotations; lifecycle 32, 89, 155."""

import json
import os
from pathlib import Path

import pytest
from support.spec import fresh_spec

from skerry.errors import Error, SpecError
from skerry.vm.settings import Settings, choose, load_config

CRI = {"io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-id": "s"}


def chosen(spec: dict | None = None, config: dict | None = None, warnings: list[str] | None = None) -> Settings:
    return choose(spec or fresh_spec(), config or {}, (warnings if warnings is not None else []).append)


def with_annotations(**annotations: str) -> dict:
    spec = fresh_spec()
    spec["annotations"] = {f"run.skerry.vm.{name}": value for name, value in annotations.items()}
    return spec


def test_defaults() -> None:
    """lifecycle 89."""
    found = chosen()
    assert (found.memory_mib, found.vcpus) == (1024, min(2, os.cpu_count() or 1))
    assert found.kernel == found.hypervisor == "" and found.template


def test_every_field_survives_json() -> None:
    """lifecycle 155 (B11): VM options -> JSON -> VM options are equal."""
    settings = Settings()
    for number, name in enumerate(Settings.__slots__):
        kind = type(getattr(settings, name))
        value = {int: number, bool: False, str: f"/x{number}", list: ["-a", f"{number}"]}[kind]
        setattr(settings, name, value)
    again = Settings.from_json(json.loads(json.dumps(settings.to_json())))
    assert {n: getattr(again, n) for n in Settings.__slots__} == {n: getattr(settings, n) for n in Settings.__slots__}


@pytest.mark.parametrize("document", [None, {}, {"vcpus": 1}, {**Settings().to_json(), "vcpus": "2"}])
def test_other_documents_are_refused(document: object) -> None:
    with pytest.raises(Error):
        Settings.from_json(document)


def test_the_section_overrides_defaults_and_annotations_the_section() -> None:
    """lifecycle 89."""
    spec = with_annotations(memory="512")
    spec["vm"] = {
        "kernel": {"path": "/k", "initrd": "/i", "parameters": ["quiet"]},
        "hypervisor": {"path": "/q", "parameters": ["-s"]},
        "hwConfig": {"vcpus": 1, "memory": 300 << 20},
    }
    found = chosen(spec)
    assert (found.kernel, found.initrd, found.kernel_parameters) == ("/k", "/i", ["quiet"])
    assert (found.hypervisor, found.hypervisor_parameters) == ("/q", ["-s"])
    assert (found.vcpus, found.memory_mib) == (1, 512)


def test_memory_is_even_and_told() -> None:
    """lifecycle 89."""
    warnings: list[str] = []
    assert chosen(with_annotations(memory="513"), warnings=warnings).memory_mib == 514
    assert "514" in warnings[0]
    assert chosen(with_annotations(memory="1"), warnings=warnings).memory_mib == 256


def test_more_cpus_than_there_are() -> None:
    """lifecycle 89: clamped, with a warning."""
    warnings: list[str] = []
    assert chosen(with_annotations(vcpus="4096"), warnings=warnings).vcpus == os.cpu_count()
    assert warnings


@pytest.mark.parametrize("name", ["memory", "vcpus", "kernel", "initrd", "hypervisor", "profile", "template"])
def test_a_pods_annotations_need_the_administrator(name: str) -> None:
    """lifecycle 32, security V46."""
    value = {"profile": "q35", "template": "false"}.get(name, "300")
    spec = with_annotations(**{name: value})
    spec["annotations"].update(CRI)
    full = f"run.skerry.vm.{name}"
    with pytest.raises(SpecError) as error:
        chosen(spec)
    assert full in error.value.pointer
    chosen(spec, {"vm": {"annotations": [full]}})


@pytest.mark.parametrize(("name", "value"), [("memory", "0"), ("memory", "1g"), ("memory", "\u0663"), ("template", "yes"), ("profile", "pc")])
def test_bad_values(name: str, value: str) -> None:
    with pytest.raises(SpecError):
        chosen(with_annotations(**{name: value}))


@pytest.mark.parametrize("name", ["deviceTree", "dtdevs", "iomems", "irqs"])
def test_hardware_that_qemu_has_not(name: str) -> None:
    spec = fresh_spec()
    spec["vm"] = {"hwConfig": {name: "/x" if name == "deviceTree" else [1]}}
    with pytest.raises(SpecError, match=f"/vm/hwConfig/{name}"):
        chosen(spec)


def test_config_of_the_administrator(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    assert load_config(str(path)) == {}
    path.write_text('{"vm": {"kernel": "/k"}}')
    path.chmod(0o644)
    assert chosen(config=load_config(str(path))).kernel == "/k"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("change", ["mode", "owner", "link", "text", "array"])
def test_config_that_others_could_have_written(tmp_path: Path, change: str) -> None:
    """security V46: root's, and nobody else's."""
    path = tmp_path / "config.json"
    path.write_text({"text": "{", "array": "[]"}.get(change, "{}"))
    path.chmod(0o666 if change == "mode" else 0o644)
    if change == "owner":
        os.chown(path, 1000, 0)
    if change == "link":
        path.rename(tmp_path / "other")
        path.symlink_to("other")
    with pytest.raises(Error, match="config.json"):
        load_config(str(path))
