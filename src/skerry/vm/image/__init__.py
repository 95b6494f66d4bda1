"""The guest's image: a kernel and an initramfs, made from this machine's own parts.

Runs in: skerry image, vmshim, the template builder.   Imports: errors; vm.image.* where they are used.
Source:  docs/vm.md "Boot"; docs/decisions/0007.
Never:   downloads anything, or changes an image that is there.

    <cache>/<key>/vmlinux initramfs facts.json

The key is a hash of the two files, so an image is never rewritten: equal parts give the same image again.
`stamp` in facts.json is a quick fingerprint of what it was made from; `ensure` looks for one with the present stamp.
"""

from skerry.vm.image.cache import Image, find, images

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Image", "build", "ensure", "list"]


def build(
    *, cache: str = "", kernel: str = "", progress: "Callable[[str], object] | None" = None
) -> Image:
    """Make the image for this kernel ("": the newest that is fit), whether or not there is one.

    Shape   `progress` is told what is being done, a few words each time.
    Errors  Error naming what is missing, with the package to install.
    """
    from skerry.vm.image.assemble import build as make

    return make(cache, kernel, progress or _nobody)


def ensure(
    *, cache: str = "", kernel: str = "", progress: "Callable[[str], object] | None" = None
) -> Image:
    """The image for the present parts; it is made if there is none.

    Errors  as `build`.
    """
    from skerry.vm.image.assemble import choose_kernel, stamp

    kernel = choose_kernel(kernel)
    return find(cache, stamp(kernel)) or build(cache=cache, kernel=kernel, progress=progress)


def list(*, cache: str = "") -> "tuple[Image, ...]":
    """All images of a cache, by key."""
    return images(cache)


def _nobody(words: str) -> None:
    """Progress that nobody watches."""
