"""`policyd-proxy redirect` in a namespace of its own: what it writes, what it notices, what it says."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from policyd.up.programs import find_proxy
from tests.cluster import needs

from . import netns
from .netns import Link, Namespace

TABLE = """\
table inet policyd {
	chain output {
		type nat hook output priority -100; policy accept;
		meta skuid 2102 return
		oifname "lo" return
		ip daddr 127.0.0.0/8 return
		ip6 daddr ::1 return
		meta l4proto tcp redirect to :4140
	}

	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		iifname "lo" return
		meta l4proto tcp redirect to :4143
	}
}
"""


@pytest.fixture(scope="module")
def link() -> Iterator[Link]:
    netns.needed()
    made = Link()
    made.add("pod", "10.77.0.5", "fd77::5")
    made.add("older", "10.77.0.6", "fd77::6")
    yield made
    made.remove()


@pytest.fixture
def pod(link: Link) -> Iterator[Namespace]:
    pod = link.pods["pod"]
    yield pod
    _redirect(pod, "--remove")


def _redirect(pod: Namespace, *words: str, uid: int | None = None) -> subprocess.CompletedProcess[str]:
    return pod.run(str(find_proxy()), "redirect", *words, uid=uid)


def _nft(pod: Namespace, *words: str) -> str:
    if shutil.which("nft", path=needs.path()) is None:
        pytest.skip("TABLE NOT COMPARED: `nft` isn't on this machine, and `make node-tools` couldn't get it")
    done = pod.run("nft", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_table_for_both_families_and_twice_is_the_same(pod: Namespace) -> None:
    for _ in range(2):
        done = _redirect(pod)
        assert (done.returncode, done.stdout) == (0, "redirected (nf_tables)\n"), done.stderr
        assert _nft(pod, "list", "ruleset") == TABLE


def test_other_tables_stay_and_ours_goes(pod: Namespace) -> None:
    _nft(pod, "add", "table", "inet", "others")
    _redirect(pod)
    assert _redirect(pod, "--remove").stdout == "no longer redirected (nf_tables)\n"
    assert _redirect(pod, "--remove").returncode == 0
    assert _nft(pod, "list", "ruleset").split() == ["table", "inet", "others", "{", "}"]
    _nft(pod, "delete", "table", "inet", "others")


def test_check_tries_a_connection_of_its_own(pod: Namespace) -> None:
    _redirect(pod)
    done = _redirect(pod, "--check")
    assert (done.returncode, done.stdout) == (0, "redirected (nf_tables)\n"), done.stderr
    # Also while somebody listens there, as the proxy does from its start on.
    with pod.listen("127.0.0.1", 4140), pod.listen("::1", 4140):
        assert _redirect(pod, "--check").returncode == 0


def test_check_without_the_capability_tries_a_connection(pod: Namespace) -> None:
    """As the injected step does, which has none."""
    nobody = 65534
    _redirect(pod)
    done = _redirect(pod, "--check", uid=nobody)
    assert (done.returncode, done.stdout) == (0, "redirected (tried, the rules not read)\n"), done.stderr
    _redirect(pod, "--remove")
    done = _redirect(pod, "--check", uid=nobody)
    assert done.returncode == 1
    assert "not redirected: a connection to 192.0.2.1:20001 didn't arrive" in done.stderr


def test_l4_04_check_notices_a_missing_table(pod: Namespace) -> None:
    done = _redirect(pod, "--check")
    assert done.returncode == 1
    assert done.stderr == "policyd-proxy redirect: not redirected: there is no table `policyd`\n"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            ("flush", "chain", "inet", "policyd", "output"),
            "the rules of `output` are others (0 found, 5 written)",
        ),
        (
            ("insert", "rule", "inet", "policyd", "prerouting", "tcp", "dport", "22", "return"),
            "the rules of `prerouting` are others (3 found, 2 written)",
        ),
        (("add", "chain", "inet", "policyd", "more"), "the table has 3 chains, ours has 2"),
    ],
)
def test_l4_04_check_notices_other_rules(pod: Namespace, change: tuple[str, ...], expected: str) -> None:
    _redirect(pod)
    _nft(pod, *change)
    done = _redirect(pod, "--check")
    assert done.returncode == 1
    assert expected in done.stderr
    assert _redirect(pod).returncode == 0
    assert _redirect(pod, "--check").returncode == 0


def test_l4_04_check_notices_that_somebody_else_takes_connections_first(pod: Namespace) -> None:
    _redirect(pod)
    _nft(pod, "add", "table", "inet", "first")
    hook = "{ type nat hook output priority -150; }"
    _nft(pod, "add", "chain", "inet", "first", "out", hook)
    _nft(pod, "add", "rule", "inet", "first", "out", "meta", "l4proto", "tcp", "redirect", "to", ":9")
    done = _redirect(pod, "--check")
    _nft(pod, "delete", "table", "inet", "first")
    assert done.returncode == 1
    assert "not redirected: a connection to 192.0.2.1:20001 didn't arrive at the proxy's port" in done.stderr


def test_the_iptables_programs_do_the_same(link: Link) -> None:
    """As on a kernel without nf_tables; on the pod that the other tests don't use."""
    if shutil.which("iptables") is None or shutil.which("ip6tables-restore") is None:
        pytest.skip("IPTABLES NOT TRIED: the programs aren't on this machine (the package `iptables`)")
    pod = link.pods["older"]
    assert "the rules that `iptables-save` shows are others" in _redirect(pod, "--iptables", "--check").stderr
    for _ in range(2):
        done = _redirect(pod, "--iptables")
        assert (done.returncode, done.stdout) == (0, "redirected (iptables)\n"), done.stderr
        done = _redirect(pod, "--iptables", "--check")
        assert done.returncode == 0, done.stderr
    pod.run("ip6tables", "-t", "nat", "-F", "POLICYD_OUTPUT")
    done = _redirect(pod, "--iptables", "--check")
    assert "the rules that `ip6tables-save` shows are others" in done.stderr
    assert _redirect(pod, "--iptables", "--remove").returncode == 0
    assert "POLICYD" not in pod.run("iptables-save").stdout + pod.run("ip6tables-save").stdout
    assert _redirect(pod, "--iptables", "--remove").returncode == 0


def test_without_the_capability_it_says_which_is_missing(pod: Namespace) -> None:
    words = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]
    done = pod.run(*words, str(find_proxy()), "redirect")
    assert done.returncode == 1
    assert "not permitted: CAP_NET_ADMIN in the pod's network namespace is needed" in done.stderr


def test_root_as_the_proxys_user_is_refused(pod: Namespace) -> None:
    done = _redirect(pod, "--uid", "0")
    assert (done.returncode, "expected the proxy's own user, not root" in done.stderr) == (2, True)
