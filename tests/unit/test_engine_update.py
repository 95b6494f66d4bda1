"""What update may change of a container's devices (security V07; nothing is ignored in silence)."""

import pytest

from skerry.errors import SpecError
from skerry.log import SILENT
from skerry.native.cgroup.group import Cgroup
from skerry.native.engine import NativeEngine
from skerry.state.store import Store

RULE = {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}


@pytest.fixture
def engine(tmp_path):
    store = Store(str(tmp_path / "root"))
    spec = {"linux": {"resources": {"devices": [{"allow": False, "access": "rwm"}, RULE]}}}
    store.create_many("c1", {"state": {}, "spec": spec})
    return NativeEngine(store, "c1", SILENT)


def check(engine, kind, resources):
    cgroup = Cgroup(kind, {"": "/nowhere", "devices": "/nowhere"}, [], "/nowhere")
    engine._check_devices(cgroup, resources, "/linux/resources")


def test_same_rules_pass_on_v2(engine):
    check(engine, "v2", {"devices": [{"allow": False, "access": "rwm"}, RULE]})
    check(engine, "v2", {"memory": {"limit": 1}})


@pytest.mark.parametrize("devices", [[], [{"allow": True, "access": "rwm"}], [{**RULE, "access": "r"}]])
def test_other_rules_are_refused_on_v2(engine, devices):
    with pytest.raises(SpecError) as raised:
        check(engine, "v2", {"devices": devices})
    assert raised.value.pointer == "/linux/resources/devices"


def test_v1_writes_its_list_instead(engine):
    check(engine, "v1", {"devices": []})
