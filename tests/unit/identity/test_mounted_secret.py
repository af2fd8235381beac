"""A Secret as the kubelet mounts it: links to a folder that is replaced as a whole."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from identity.guarded import MaterialError
from identity.material import create_root, load_material
from tests.unit.identity.conftest import TRUST_DOMAIN

NOW = datetime.now(UTC)
FILES = ("root.crt", "root.key")


def put_content(mount: Path, name: str, root: Path) -> None:
    """Put a root there as the kubelet's atomic writer does: a new folder, then `..data` renamed over."""
    content = mount / name
    shutil.copytree(root, content)
    content.chmod(0o755)
    (mount / "..new").symlink_to(name)
    (mount / "..new").rename(mount / "..data")
    for file in FILES:
        if not (mount / file).is_symlink():
            (mount / file).symlink_to(Path("..data") / file)


@pytest.fixture
def mount(tmp_path: Path, root: Path) -> Path:
    folder = tmp_path / "mount"
    folder.mkdir()
    put_content(folder, "..2026_11_21_20_00_00.1", root)
    return folder


def test_id_11_a_mounted_secret_is_read_and_read_again(mount: Path, tmp_path: Path) -> None:
    first = load_material(mount, TRUST_DOMAIN, NOW)
    create_root(tmp_path / "next", TRUST_DOMAIN)
    put_content(mount, "..2026_11_21_21_00_00.2", tmp_path / "next")
    second = load_material(mount, TRUST_DOMAIN, NOW)
    assert first.roots != second.roots


def lead_away(mount: Path) -> None:
    shutil.move(mount / "..2026_11_21_20_00_00.1", mount.parent / "away")
    (mount / "..data").unlink()
    (mount / "..data").symlink_to("../away")


def key(mount: Path) -> Path:
    return mount / "..data" / "root.key"


def lead_key_away(mount: Path) -> None:
    shutil.move(key(mount), mount.parent / "root.key")
    key(mount).symlink_to(mount.parent / "root.key")


def link_twice(mount: Path) -> None:
    (mount / "..data").rename(mount / "..other")
    (mount / "..data").symlink_to("..other")


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "content elsewhere": (lead_away, "expected a folder beside it"),
    "a link to a link": (link_twice, "not a link"),
    "key elsewhere": (lead_key_away, "symbolic link"),
    "key for all": (lambda m: key(m).chmod(0o444), "defaultMode 0400"),
    "key writable by its group": (lambda m: key(m).chmod(0o460), "defaultMode 0400"),
    "content writable by all": (lambda m: key(m).parent.chmod(0o777), "others may write"),
    "folder writable by all": (lambda m: m.chmod(0o1777), "others may write"),
}


@pytest.mark.parametrize("what", BAD)
def test_id_11_a_mounted_secret_that_others_could_read_or_change_is_refused(what: str, mount: Path) -> None:
    spoil, expected = BAD[what]
    spoil(mount)
    with pytest.raises(MaterialError, match=expected):
        load_material(mount, TRUST_DOMAIN, NOW)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's files may be the group's")
def test_id_11_a_mounted_key_may_be_our_groups(mount: Path) -> None:
    key(mount).chmod(0o440)
    assert load_material(mount, TRUST_DOMAIN, NOW).signer_is_root
    os.chown(key(mount), 0, 54321)
    with pytest.raises(MaterialError, match="defaultMode 0400"):
        load_material(mount, TRUST_DOMAIN, NOW)


READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && exec "$2" -c "$3" "$1"'
LOAD = f"""
import sys; from datetime import UTC, datetime; from pathlib import Path
from identity.material import load_material; from identity.spiffe_id import TrustDomain
load_material(Path(sys.argv[1]), TrustDomain({str(TRUST_DOMAIN)!r}), datetime.now(UTC))
"""


def test_id_11_a_read_only_mount_may_be_open_to_all(mount: Path) -> None:
    mount.chmod(0o1777)
    unshare = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*unshare, "mount --bind /tmp /tmp"], check=False, capture_output=True).returncode:
        pytest.skip("NOT TRIED: a mount of one process can't be made here")
    words = [*unshare, READ_ONLY, "sh", str(mount), sys.executable, LOAD]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
