"""Assemble both images from what the building machine has: `make images`. No daemon, no registry, no root.

policyd-proxy   the static binary alone
policyd         the interpreter, its libraries, the locked packages, policyd; no shell
"""

from __future__ import annotations

import argparse
import importlib.util
import marshal
import os
import platform
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, PathDistribution
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from oci import Image, Link, write

PACKAGES = "usr/lib/policyd"
"""Where the locked packages and policyd are, in the image."""
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
USER = "65532:65532"
PROXY_USER = "2102:2102"
MOST_PROXY_BYTES = 12 * 1024 * 1024
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
UNCHECKED_HASH = (0b01).to_bytes(4, "little")
"""Flags of a .pyc: it has its source's hash, and nobody compares (PEP 552)."""
LEFT_OUT = frozenset(
    {
        "__pycache__",
        "ensurepip",
        "idlelib",
        "lib2to3",
        "site-packages",
        "test",
        "tests",
        "tkinter",
        "turtledemo",
    }
)
"""Folders of the standard library: what a service has no use for, pip's installer among it."""
PACKAGES_LEFT_OUT = ("kubernetes/",)
"""150 MB that only a kubeconfig needs; in a pod its own account is used."""
MODULES_LEFT_OUT = ("_tkinter.", "_curses", "_dbm.", "_gdbm.", "_test", "nis.", "readline.", "xx")
"""Modules that need a terminal, a display or another time, and bring libraries with them."""
FILES = {
    "etc/passwd": b"root:x:0:0:root:/:/none\npolicyd:x:65532:65532:policyd:/:/none\n",
    "etc/group": b"root:x:0:\npolicyd:x:65532:\n",
    "etc/nsswitch.conf": b"passwd: files\ngroup: files\nhosts: files dns\n",
}
SCRIPT = """\
#!/usr/bin/{python} -I
import sys
sys.path.insert(0, "/{packages}")
from {module} import {function}
sys.exit({function}())
"""


def proxy_image(binary: Path, tag: str) -> Image:
    """Return the proxy's image. Raises SystemExit for a binary that isn't static or is too big."""
    if _libraries_of(binary):
        raise SystemExit(f"{binary}: needs shared libraries; expected a static binary")
    size = binary.stat().st_size
    if size > MOST_PROXY_BYTES:
        raise SystemExit(f"{binary}: {size} bytes; expected at most {MOST_PROXY_BYTES}")
    name = f"localhost/policyd-proxy:{tag}"
    files = {"policyd-proxy": binary}
    return Image(name, architecture(), PROXY_USER, ("/policyd-proxy",), files)


def control_plane_image(packages: Path, tag: str) -> Image:
    """Return the image of identity, policyd and the injector. `packages`: what pip put there, policyd too."""
    files: dict[str, Path | bytes | Link] = dict(FILES)
    files |= standard_library()
    files |= {
        f"{PACKAGES}/{name}": path
        for name, path in _under(packages)
        if not name.startswith(PACKAGES_LEFT_OUT)
    }
    files |= compiled(files)
    files[f"usr/bin/{PYTHON}"] = Path(sys.executable).resolve()
    scripts = {f"usr/bin/{name}": text for name, text in _scripts(packages).items()}
    files |= scripts
    loaded = [path for path in files.values() if isinstance(path, Path) and is_elf(path)]
    files |= shared_libraries(loaded, packages)
    # Kubernetes makes the mount points of volumes; /tmp is one where nobody mounts anything, too.
    return Image(
        name=f"localhost/policyd:{tag}",
        architecture=architecture(),
        user=USER,
        entrypoint=("/usr/bin/policyctl",),
        files=files,
        environment=("PATH=/usr/bin", "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1", "LANG=C.UTF-8"),
        programs=frozenset(scripts),
    )


def standard_library() -> dict[str, Path]:
    root = Path(sysconfig.get_path("stdlib"))
    return {f"usr/lib/{PYTHON}/{name}": path for name, path in _under(root)}


def _under(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield (path below root, file) of what is shipped: no caches, no tests, no static libraries."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(
            each
            for each in folders
            if each not in LEFT_OUT
            and not each.startswith("config-")
            and not (folder == str(root) and each == "bin")
        )
        for name in sorted(names):
            path = Path(folder) / name
            if path.suffix in {".pyc", ".a", ".pyi"} or name.startswith(MODULES_LEFT_OUT):
                continue
            if path.is_file():
                yield str(path.relative_to(root)), path


def compiled(files: Mapping[str, Path | bytes | Link]) -> dict[str, bytes]:
    """Return the bytecode of all modules: where the root is read-only, nobody could write it later.

    Its hash of the source is never checked at run time, and marshal's format 2 has no references, whose order
    would depend on what happened to be in memory: the same sources give the same bytes.
    """
    made: dict[str, bytes] = {}
    for name, path in files.items():
        if not isinstance(path, Path) or path.suffix != ".py":
            continue
        source = path.read_bytes()
        try:
            code = compile(source, f"/{name}", "exec", dont_inherit=True, optimize=0)
        except (SyntaxError, ValueError):  # a template that only looks like a module
            continue
        head = importlib.util.MAGIC_NUMBER + UNCHECKED_HASH + importlib.util.source_hash(source)
        folder, _, file = name.rpartition("/")
        cached = f"{folder}/__pycache__/{file.removesuffix('.py')}.{sys.implementation.cache_tag}.pyc"
        made[cached] = head + marshal.dumps(code, 2)
    return made


def _scripts(packages: Path) -> dict[str, bytes]:
    """Return our console scripts, isolated: no variable and no folder changes what they import."""
    [info] = packages.glob("policyd-*.dist-info")
    points: Iterable[EntryPoint] = PathDistribution(info).entry_points
    return {
        point.name: SCRIPT.format(
            python=PYTHON, packages=PACKAGES, module=point.module, function=point.attr
        ).encode()
        for point in points
        if point.group == "console_scripts"
    }


def shared_libraries(loaded: list[Path], packages: Path) -> dict[str, Path]:
    """Return what the dynamic linker finds for them, at places where it looks by itself."""
    needed: dict[str, Path] = {}
    for path in loaded:
        needed |= _libraries_of(path)
    own = {name: path for name, path in needed.items() if not path.is_relative_to(packages.resolve())}
    usual = own["libc.so.6"].parent
    placed: dict[str, Path] = {}
    for name, path in own.items():
        # The linker's own name is absolute, and in every binary; found by RUNPATH are what lies elsewhere.
        known = name.startswith("/") or path.parent == usual
        place = Path(name) if name.startswith("/") else (path if known else usual / name)
        placed[str(place).removeprefix("/")] = path.resolve()
    return placed


def _libraries_of(path: Path) -> dict[str, Path]:
    """Return the libraries that a binary loads: name to file. Raises SystemExit for one that isn't there."""
    command = ["ldd", str(path)]  # the linker's own tool
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    found: dict[str, Path] = {}
    for line in done.stdout.splitlines():
        words = line.split()
        if "not found" in line:
            raise SystemExit(f"{path}: {line.strip()}")
        if "=>" in words and len(words) >= 3 and words[2].startswith("/"):
            found[words[0]] = Path(words[2])
        elif words and words[0].startswith("/") and path.name not in words[0]:
            found[words[0]] = Path(words[0])
    return found


def is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def architecture() -> str:
    return ARCHITECTURES[platform.machine()]


def main() -> None:
    """Write the archives and say what they are."""
    parser = argparse.ArgumentParser(description="Assemble the images.")
    parser.add_argument("--proxy", type=Path, help="the static policyd-proxy")
    parser.add_argument("--packages", type=Path, help="the folder that pip installed into")
    parser.add_argument("--tag", required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the archives")
    given = parser.parse_args()
    warnings.simplefilter("ignore", SyntaxWarning)  # of other people's modules, compiled here
    images = []
    if given.proxy:
        images.append(("policyd-proxy", proxy_image(given.proxy, given.tag)))
    if given.packages:
        images.append(("policyd", control_plane_image(given.packages, given.tag)))
    for name, image in images:
        archive = given.out / f"{name}.tar"
        digest = write(image, archive)
        size = archive.stat().st_size / 2**20
        sys.stdout.write(f"{archive}  {image.name}  {image.architecture}  {size:.1f} MiB  {digest}\n")


if __name__ == "__main__":
    main()
