"""HAProxy: one thread, rules in a prefix tree of `identity method path`, a log of denials only.

HAProxy 2.6 can't read a URI SAN, so it takes the identity from the subject, where it is repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.proxies import programs
from bench.proxies.manifests import PORT
from bench.proxies.model import METHOD, SERVER, dns_name, rules
from bench.proxies.place import Place
from bench.proxies.process import started
from bench.proxies.subject import OUTBOUND_PORT, Names, Running, wait_for_port, wait_for_way

_METRICS_PORT = 8404
_COMMON = """
global
  nbthread 1
  maxconn 9000
  log stdout format raw local0
  ssl-default-bind-options ssl-min-ver TLSv1.3
defaults
  mode http
  log global
  log-format '{"time":"%t","status":%ST,"why":"%ts","method":"%HM","host":"%[var(txn.host)]","path":"%[var(txn.path)]","ip":"%ci","identity":"%[var(txn.caller)]"}'
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
"""  # noqa: E501
_INBOUND = """
frontend metrics
  bind {metrics}
  http-request use-service prometheus-exporter if {{ path /metrics }}
frontend inbound
  bind {listen} ssl crt {pair} ca-file {roots} verify required alpn h2,http/1.1
  http-request set-var(txn.path) path
  http-request set-var(txn.caller) ssl_c_s_dn(CN)
  http-request set-var-fmt(txn.asked) "%[var(txn.caller)] %[method] %[var(txn.path)]"
  acl granted var(txn.asked) -m beg -f {rules}
  http-request set-var(txn.host) req.hdr(host) unless granted
  http-request deny deny_status 403 unless granted
  http-request set-log-level silent
  default_backend application
backend application
  server application {application}
"""
_OUTBOUND = """
frontend outbound
  bind {listen}
  http-request set-log-level silent
  default_backend server
backend server
  server server {server} ssl crt {pair} ca-file {roots} verify required sni str({name}) verifyhost {name}
"""


class HaProxy:
    """HAProxy."""

    name = "haproxy"
    names = Names("http/1.1", "h2")

    def missing(self) -> str | None:
        """Say where HAProxy comes from."""
        if programs.haproxy() is not None:
            return None
        return "haproxy: not found: `make bench-peers`, or apt-get install haproxy"

    @contextmanager
    def inbound(self, place: Place, core: int) -> Iterator[Running]:
        """Run it in front of the server."""
        granted = place.file("haproxy.rules")
        granted.write_text("".join(f"{rule.caller} {METHOD} {rule.prefix}\n" for rule in rules(place.rules)))
        settings = _INBOUND.format(
            metrics=f"{place.server.application}:{_METRICS_PORT}",
            listen=f"{place.server.proxy}:{PORT}",
            pair=place.server_pair.both,
            roots=place.roots,
            rules=granted,
            application=f"{place.server.application}:{PORT}",
        )
        with self._run(place, core, "inbound", settings) as running:
            wait_for_port((place.server.proxy, PORT))
            yield Running(running.pids, (place.server.proxy, PORT), running.audit)

    @contextmanager
    def both(self, place: Place, core: int) -> Iterator[Running]:
        """Run it on either side, HTTP/1.1 between."""
        address = (place.client.application, OUTBOUND_PORT)
        settings = _OUTBOUND.format(
            listen=f"{address[0]}:{address[1]}",
            server=f"{place.server.proxy}:{PORT}",
            pair=place.client_pair.both,
            roots=place.roots,
            name=dns_name(SERVER),
        )
        with ExitStack() as stack:
            server = stack.enter_context(self.inbound(place, core))
            client = stack.enter_context(self._run(place, core, "outbound", settings))
            wait_for_way(place, address)
            yield Running((*server.pids, *client.pids), address, server.audit)

    @contextmanager
    def _run(self, place: Place, core: int, side: str, settings: str) -> Iterator[Running]:
        program = programs.haproxy()
        if program is None:
            raise LookupError(self.missing())
        file = place.file(f"haproxy-{side}.cfg")
        file.write_text(_COMMON + settings)
        log = file.with_suffix(".log")
        with started(program, ["-db", "-f", str(file)], core, log) as process:
            yield Running((process.pid,), ("", 0), log)
