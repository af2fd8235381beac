"""Images that only tests need, as archives: what holds a pod's namespaces, and the sample's applications."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.cluster.needs import ROOT
from tests.cluster.place import PAUSE

APPLICATIONS = "docker.io/library/policyd-emojivoto:0.1"
"""What `policies/emojivoto` calls `policyd-emojivoto:0.1`, in full, as containerd knows it."""
LIBRARIES = ("google", "grpclib", "h2", "hpack", "hyperframe", "multidict")
"""What the sample's applications import beside the standard library."""
PACKAGES = "usr/lib/packages"
FOLDERS = {
    "apps": ROOT / "policies" / "emojivoto" / "apps",
    "tests": ROOT / "tests" / "cluster" / "applications",
}
"""By its place in the image: the sample's applications, and those of our tests."""
_PAUSE_SOURCE = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n"
_NOBODY = "65534:65534"


def assembling() -> tuple[ModuleType, ModuleType]:
    """Return `deploy/images`' modules, which are programs and no package."""
    folder = ROOT / "deploy" / "images"
    sys.path.insert(0, str(folder))
    try:
        return _module(folder / "oci.py"), _module(folder / "assemble.py")
    finally:
        sys.path.remove(str(folder))


def _module(file: Path) -> ModuleType:
    if file.stem in sys.modules:
        return sys.modules[file.stem]
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ImportError(str(file))
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module


def pause_archive(folder: Path) -> Path:
    """Assemble what the sandbox of every pod runs; needs a C compiler."""
    oci, assemble = assembling()
    source, binary = folder / "pause.c", folder / "pause"
    source.write_text(_PAUSE_SOURCE)
    subprocess.run(["cc", "-static", "-Os", "-s", "-o", binary, source], check=True)
    image = oci.Image(PAUSE, assemble.architecture(), _NOBODY, ("/pause",), {"pause": binary})
    oci.write(image, folder / "pause.tar")
    return folder / "pause.tar"


def applications_archive(folder: Path) -> Path:
    """Assemble the image that the sample's manifests name: interpreter, a few packages, applications."""
    oci, assemble = assembling()
    python = assemble.PYTHON
    site = Path(sysconfig.get_path("purelib"))
    files: dict[str, Any] = {**assemble.FILES, **assemble.standard_library()}
    for name in LIBRARIES:
        files |= {f"{PACKAGES}/{name}/{each}": path for each, path in _under(site / name)}
    for place, source in FOLDERS.items():
        files |= {f"{place}/{each}": path for each, path in _under(source)}
    files |= assemble.compiled(files)
    files[f"usr/bin/{python}"] = Path(sys.executable).resolve()
    files["usr/bin/python3"] = oci.Link(python)
    loaded = [path for path in files.values() if isinstance(path, Path) and assemble.is_elf(path)]
    files |= assemble.shared_libraries(loaded, site)
    image = oci.Image(
        APPLICATIONS,
        assemble.architecture(),
        _NOBODY,
        ("/usr/bin/python3",),
        files,
        environment=("PATH=/usr/bin", "PYTHONUNBUFFERED=1", f"PYTHONPATH=/{PACKAGES}", "LANG=C.UTF-8"),
    )
    oci.write(image, folder / "applications.tar")
    return folder / "applications.tar"


def _under(root: Path) -> list[tuple[str, Path]]:
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    return [(str(path.relative_to(root)), path) for path in files if path.suffix != ".pyi"]
