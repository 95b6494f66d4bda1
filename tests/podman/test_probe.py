import json,glob
from conftest import *
def test_x(podman):
    podman.call("pod","create","--name","pair","--network","none","--hostname","h")
    try: podman.call("run","--detach","--pod","pair","--name","one","localhost/busybox")
    except AssertionError as e: print(e)
    for f in glob.glob(str(podman.top/"**/config.json"),recursive=True):
        s=json.load(open(f)); print(f); print(json.dumps(s["annotations"],indent=1)); print(s["linux"]["namespaces"], s["linux"].get("cgroupsPath"))
    assert 0
