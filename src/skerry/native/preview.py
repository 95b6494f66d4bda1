"""The plan of a bundle before anything happens, for `skerry plan`.

Runs in: plan.   Imports: paths, spec, native.create.
Source:  design.md "The plan and skerry-init".
Never:   changes anything, or needs root: what it cannot see it notes, and assumes.
"""

from skerry import paths
from skerry.engine import Options
from skerry.errors import Error, UsageError
from skerry.log import SILENT
from skerry.native.create import Creation
from skerry.spec import annotations
from skerry.spec.load import load_bundle
from skerry.spec.validate import check_spec
from skerry.state.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from skerry.plan.build import Plan

_ID = "plan"


class Preview(Creation):
    """A creation that is never run.

    doubts   what create would say now, one line each; the plan is that of a host where all of it is right
    """

    def __init__(self, spec: "dict[str, Any]", record: "dict[str, Any]", options: Options) -> None:
        self.doubts: list[str] = []
        super().__init__(Store(_root()), _ID, spec, record, options, SILENT)

    def _see(self, default: "Any", look: "Callable[..., Any]", *what: object) -> "Any":
        try:
            return look(*what)
        except Error as error:
            self.doubts.append(str(error))
        except OSError:
            pass  # the rootfs or a source, of which another look has told
        return default

    def _filter(self, seccomp: "dict[str, Any]") -> object:
        from skerry.native import seccomp as compiler

        return compiler.program(seccomp, "")  # past the cache, which would be written to


def plan_of(bundle: str) -> "tuple[Plan, list[str]]":
    """The plan that create would make of a bundle, and the doubts.

    Errors  SpecError and the like for what is wrong whatever the host is.
    """
    spec, _ = load_bundle(bundle)
    check_spec(spec)
    options = Options()
    options.console = bool((spec.get("process") or {}).get("terminal"))
    options.layers = annotations.layer_paths(spec.get("annotations") or {}, bundle)
    if options.layers:
        rootfs = f"{paths.state_dir(_root(), _ID)}/{paths.ROOTFS}"
    else:
        rootfs = paths.below(bundle, spec["root"]["path"])
    preview = Preview(spec, {"Bundle": bundle, "Rootfs": rootfs}, options)
    return preview.plan, preview.doubts


def _root() -> str:
    """Root's store, where an ordinary user has none."""
    try:
        return paths.run_root()
    except UsageError:
        return f"{paths.RUN}/{paths.DEFAULT_ROOT}"
