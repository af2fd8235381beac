"""The images that `make images` assembles: what is in them, and that they run with nothing else there."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ARCHIVES = ROOT / "build" / "images"
MOST_PROXY_BYTES = 12 * 1024 * 1024
MOST_CONTROL_PLANE_BYTES = 256 * 1024 * 1024
SHELLS = {"sh", "bash", "dash", "busybox", "env", "perl"}


def _oci() -> ModuleType:
    spec = importlib.util.spec_from_file_location("oci", ROOT / "deploy" / "images" / "oci.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["oci"] = module
    spec.loader.exec_module(module)
    return module


class Unpacked:
    """An archive, read as a runtime reads it."""

    def __init__(self, archive: Path) -> None:
        self.blobs: dict[str, bytes] = {}
        with tarfile.open(archive) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                self.blobs[member.name] = file.read()
        [entry] = json.loads(self.blobs["index.json"])["manifests"]
        self.name = entry["annotations"]["io.containerd.image.name"]
        self.manifest = self.json(entry)
        self.config: dict[str, Any] = self.json(self.manifest["config"])
        [self.layer] = self.manifest["layers"]

    def json(self, descriptor: dict[str, Any]) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.blob(descriptor))
        return content

    def blob(self, descriptor: dict[str, Any]) -> bytes:
        """Return what a descriptor leads to, which must be what it says."""
        kind, _, digest = descriptor["digest"].partition(":")
        content = self.blobs[f"blobs/{kind}/{digest}"]
        assert hashlib.sha256(content).hexdigest() == digest
        assert len(content) == descriptor["size"]
        return content

    def into(self, folder: Path) -> Path:
        file = folder / "layer.tar"
        file.write_bytes(self.blob(self.layer))
        root = folder / "root"
        with tarfile.open(file) as tar:
            tar.extractall(root, filter="tar")
        file.unlink()
        return root


def _archive(name: str) -> Unpacked:
    path = ARCHIVES / f"{name}.tar"
    if not path.exists():
        missing = f"IMAGE NOT TRIED: {path.name} isn't there: `make images` assembles it"
        if os.environ.get("POLICYD_IMAGES"):
            pytest.fail(missing)
        pytest.skip(missing)
    return Unpacked(path)


@pytest.fixture(scope="module")
def proxy() -> Unpacked:
    return _archive("policyd-proxy")


@pytest.fixture(scope="module")
def control_plane() -> Unpacked:
    return _archive("policyd")


@pytest.fixture(scope="module", params=["policyd-proxy", "policyd"])
def image(request: pytest.FixtureRequest) -> Unpacked:
    return _archive(request.param)


@pytest.fixture(scope="module")
def root(control_plane: Unpacked, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return control_plane.into(tmp_path_factory.mktemp("image"))


def run(root: Path, user: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a program with the image as its whole world, as the image's user."""
    if os.geteuid() != 0:
        pytest.skip("IMAGES NOT RUN: chroot needs root")
    words = ["unshare", "--net", "--pid", "--fork", "chroot", f"--userspec={user}", str(root), *command]
    return subprocess.run(
        words, capture_output=True, text=True, timeout=60, env={"PATH": os.environ["PATH"]}, check=False
    )


def test_the_same_files_give_the_same_archive(tmp_path: Path) -> None:
    oci = _oci()
    (tmp_path / "program").write_bytes(b"x")
    (tmp_path / "program").chmod(0o700)
    files = {"b/program": tmp_path / "program", "a": b"text", "l": oci.Link("a")}
    made = []
    for at in (1, 2):
        os.utime(tmp_path / "program", (at, at))
        image = oci.Image("localhost/x:1", "amd64", "1:1", ("/b/program",), files)
        oci.write(image, tmp_path / f"{at}.tar")
        made.append((tmp_path / f"{at}.tar").read_bytes())
        files = dict(reversed(files.items()))
    assert made[0] == made[1]
    unpacked = Unpacked(tmp_path / "1.tar").into(tmp_path)
    assert stat.S_IMODE((unpacked / "b" / "program").stat().st_mode) == 0o755
    assert (unpacked / "l").readlink() == Path("a")


@pytest.mark.promise("P-17")
def test_p_17_an_image_runs_as_nobody_and_has_no_shell(image: Unpacked, tmp_path: Path) -> None:
    uid, _, gid = image.config["config"]["User"].partition(":")
    assert int(uid) > 1000
    assert int(gid) > 1000
    assert image.config["rootfs"]["diff_ids"] == [image.layer["digest"]]
    file = tmp_path / "layer.tar"
    file.write_bytes(image.blob(image.layer))
    with tarfile.open(file) as tar:
        for member in tar:
            assert member.uid == member.gid == 0
            assert not member.mode & 0o7022 or member.issym(), member.name
            assert Path(member.name).name not in SHELLS


def test_the_proxys_image_is_one_small_file(proxy: Unpacked, tmp_path: Path) -> None:
    assert proxy.layer["size"] <= MOST_PROXY_BYTES
    folder = proxy.into(tmp_path)
    assert [path.name for path in folder.iterdir()] == ["policyd-proxy"]
    done = run(folder, proxy.config["config"]["User"], "/policyd-proxy", "--version")
    assert done.stdout.startswith("policyd-proxy "), done.stderr


def test_the_proxys_binary_is_hardened(proxy: Unpacked, tmp_path: Path) -> None:
    """No interpreter and no libraries; loaded anywhere; nothing both writable and executable."""
    binary = proxy.into(tmp_path) / "policyd-proxy"
    told = subprocess.run(
        ["readelf", "--wide", "-hld", binary], capture_output=True, text=True, check=True
    ).stdout
    assert "DYN (Position-Independent" in told
    assert "INTERP" not in told
    assert "NEEDED" not in told
    assert "GNU_RELRO" in told
    assert "BIND_NOW" in told
    assert not [line for line in told.splitlines() if "RWE" in line]


def test_the_control_plane_image_is_bounded(control_plane: Unpacked) -> None:
    assert control_plane.layer["size"] <= MOST_CONTROL_PLANE_BYTES


@pytest.mark.parametrize("program", ["policyctl", "identity", "policyd", "policyd-injector"])
def test_programs_of_the_control_plane_run(control_plane: Unpacked, root: Path, program: str) -> None:
    user = control_plane.config["config"]["User"]
    done = run(root, user, f"/usr/bin/{program}", "--help")
    assert done.returncode == 0, done.stderr
    if program == "policyctl":
        assert "install" in done.stdout
        version = run(root, user, "/usr/bin/policyctl", "--version")
        assert version.stdout == f"policyctl {control_plane.name.rpartition(':')[2]}\n"
        return
    broken = run(root, user, f"/usr/bin/{program}", "--config", "/nowhere")
    assert broken.returncode == 2
    assert broken.stderr.strip() == f"{program}: /nowhere: No such file or directory"


def test_the_control_planes_modules_are_all_there(control_plane: Unpacked, root: Path) -> None:
    """What only a cluster would import: the engine, TLS, the store, the API server's client."""
    names = (
        "policyd.engine ssl sqlite3 uvloop aiohttp uvicorn starlette kubeapi.client policyd.distribute.main "
        "uvicorn.protocols.http.httptools_impl"  # named in a string: nothing else would miss it
    )
    place = "import sys; sys.path.insert(0, '/usr/lib/policyd')"
    code = f"{place}; import {', '.join(names.split())}; print('there')"
    python = next((root / "usr" / "bin").glob("python3.*")).name
    done = run(root, control_plane.config["config"]["User"], f"/usr/bin/{python}", "-I", "-c", code)
    assert done.stdout == "there\n", done.stderr


def test_policyctl_decides_with_the_engine_in_the_image(control_plane: Unpacked, root: Path) -> None:
    folder = root / "manifests"
    folder.mkdir()
    source = (ROOT / "policies" / "metrics-scrape" / "manifests.yaml").read_bytes()
    (folder / "manifests.yaml").write_bytes(source)
    (folder / "policytest.yaml").write_bytes(
        (ROOT / "policies" / "metrics-scrape" / "policytest.yaml").read_bytes()
    )
    done = run(root, control_plane.config["config"]["User"], "/usr/bin/policyctl", "test", "/manifests")
    assert done.returncode == 0, done.stdout + done.stderr
