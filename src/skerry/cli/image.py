"""skerry image: make the guest image of vm isolation, or show those that are there.

Runs in: image.   Imports: errors, jsonio, cli.call, cli.options, cli.output; rich, if it is installed.
Source:  docs/vm.md "Boot".
Never:   downloads anything.
"""

from skerry.cli.call import from_here
from skerry.cli.options import Option, Verb
from skerry.cli.output import write_err, write_out
from skerry.errors import Error, UsageError
from skerry.jsonio import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from skerry.cli.call import Call
    from skerry.vm.image import Image

VERB = Verb(
    "make or list the guest images of vm isolation",
    words="build|list",
    least=1,
    most=1,
    options=(
        Option(
            "kernel",
            "kernel to take, a vmlinuz or vmlinux; default: the newest in /boot",
            value="file",
        ),
        Option(
            "image-cache",
            "directory of the images; default: /var/cache/skerry/images for root",
            value="dir",
        ),
        Option(
            "format", "form of the list: table or json", letter="f", default="table", value="format"
        ),
        Option("quiet", "print keys only", letter="q", kind="flag"),
    ),
    about="A guest image is a kernel and an initramfs with an interpreter, skerry and skerry-init, all taken from this "
    "machine; equal parts give the same image again, under the same key. The first container that needs one makes it; "
    "`build` does so beforehand, or anew after an update.",
    example="skerry image build && skerry image list",
)


def main(call: "Call") -> int:
    action = call.words[0]
    if action not in _ACTIONS:
        raise UsageError(f'unknown action "{action}": build or list', usage=True)
    if call.options["format"] not in ("table", "json"):
        raise UsageError("invalid format option")
    images = _ACTIONS[action](call)
    if call.options["quiet"]:
        write_out("".join(f"{image.key}\n" for image in images))
    elif call.options["format"] == "json":
        write_out(dumps([_facts(image) for image in images]) + b"\n")
    else:
        write_out(_table(images))
    return 0


def _build(call: "Call") -> "tuple[Image, ...]":
    from skerry.vm import image

    kernel = from_here(call.options["kernel"])
    with _Progress(quiet=call.options["quiet"]) as progress:
        return (image.build(cache=_cache(call), kernel=kernel, progress=progress.say),)


def _list(call: "Call") -> "tuple[Image, ...]":
    from skerry.vm import image

    return image.list(cache=_cache(call))


_ACTIONS: "dict[str, Callable[[Call], tuple[Image, ...]]]" = {"build": _build, "list": _list}


def _cache(call: "Call") -> str:
    return from_here(call.options["image-cache"])


def _facts(image: "Image") -> "dict[str, object]":
    return {
        "key": image.key,
        "kernel": image.kernel,
        "initramfs": image.initramfs,
        "facts": image.facts,
    }


def _table(images: "tuple[Image, ...]") -> str:
    rows: list[tuple[str, ...]] = [("KEY", "KERNEL", "PYTHON", "SKERRY", "MB")]
    for image in images:
        facts = image.facts
        named = (str(facts.get(name, "")) for name in ("release", "python", "skerry"))
        rows.append((image.key, *named, str(image.size_bytes() // 1_000_000)))
    widths = [max(map(len, column)) + 3 for column in zip(*rows, strict=True)]
    return "".join("".join(map(str.ljust, row, widths)).rstrip() + "\n" for row in rows)


class _Progress:
    """What is being done, on standard error: a spinner where there is rich and a terminal, else lines."""

    __slots__ = ("_quiet", "_status")

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._status: Any = None

    def __enter__(self) -> "_Progress":
        import posix

        if not self._quiet and posix.isatty(2):
            from skerry import optional

            try:
                console = optional.load("rich.console").Console(stderr=True)
            except Error:
                return self
            self._status = console.status("")
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def say(self, words: str) -> None:
        if self._status is not None:
            self._status.update(words)
        elif not self._quiet:
            write_err(f"{words}\n")
