"""A port of a workload: its Server, its default, its routes and every row that concerns it."""

from dataclasses import dataclass, field, replace

from tests.reference.defaults import ACCESS, MeshDefaults, meet
from tests.reference.gate import Profile
from tests.reference.policies import LINKERD, Policy
from tests.reference.reading import Block
from tests.reference.routes import REGEXES_OF_A_SERVER, Match, Route
from tests.reference.rows import NAMESPACE, ROUTE, SERVER, Row
from tests.reference.servers import UNREAD, Server
from tests.reference.workloads import Probe, Workload
from tests.reference.world import World

ACCESS_ANNOTATIONS = ("policyd.dev/default-access", "config.linkerd.io/default-inbound-policy")
MOST_OPAQUE = 1024
OPAQUE_ANNOTATIONS = ("policyd.dev/opaque-ports", "config.linkerd.io/opaque-ports")
CONDITIONAL_POLICIES = 256


@dataclass
class Port:
    """`routes` in order of age, `rows` of attribution [D2]; `server` is None where nobody owns it."""

    number: int
    server: Server | None
    protocol: str
    access: str
    probes: list[Probe]
    cluster_networks: list[Block]
    routes: list[Route] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    profile: Profile = field(default_factory=Profile)

    @property
    def reads_http(self) -> bool:
        return self.protocol not in UNREAD


def effective_default(defaults: MeshDefaults, pod: dict[str, str], namespace: dict[str, str]) -> str:
    """The meet of all annotations and `maxDefault`; without any, of `defaultAccess` and `maxDefault` [W4]."""
    given = [place[key] for place in (pod, namespace) for key in ACCESS_ANNOTATIONS if key in place]
    result = defaults.max_default
    for value in given or [defaults.default_access]:
        result = meet(result, value if value in ACCESS else "deny")
    return result


def _listed(value: str, workload: Workload) -> set[int]:
    found: set[int] = set()
    for part in (part.strip() for part in value.split(",")):
        low, dash, high = part.partition("-")
        if low.isdigit() and (not dash or high.isdigit()):
            found.update(range(int(low), int(high if dash else low) + 1))
        else:
            found.update(workload.numbers(part))
    return found


def opaque_ports(defaults: MeshDefaults, workload: Workload, namespace: dict[str, str]) -> set[int]:
    """A pod's annotation replaces its namespace's, which replaces the list of MeshDefaults."""
    for place in (workload.annotations, namespace):
        given = [place[key] for key in OPAQUE_ANNOTATIONS if key in place]
        if given:
            found = set[int]().union(*(_listed(value, workload) for value in given))
            return set() if MOST_OPAQUE < len(found) < 65535 - MOST_OPAQUE else found
    return set(defaults.opaque_ports)


def port_of(world: World, workload: Workload, number: int) -> Port:
    """The port, prepared once."""
    key = (workload.key, number)
    if key not in world.ports:
        world.ports[key] = _prepare(world, workload, number)
    return world.ports[key]


def _prepare(world: World, workload: Workload, number: int) -> Port:
    server = next((one for one in world.servers if one.owns(workload, number)), None)
    port = _bare(world, workload, number, server)
    _fill(world, workload, port)
    if server and server.path_mode == "opaque" and _reads_paths(port):  # G5: such a Server is unreadable
        broken = replace(server, protocol="unknown", access="deny", path_mode="strict", readable=False)
        port = _bare(world, workload, number, broken)
        _fill(world, workload, port)
    _bound(port)
    port.rows.sort(key=Row.order)
    read = {item.name for row in port.rows for item in row.conditions if item.subject == "header"}
    read |= {one.name for match in _matches(port) for one in match.headers}
    owner = port.server
    port.profile = Profile(owner.path_mode, owner.websocket) if owner else Profile()
    port.profile.read_headers = frozenset(read)
    return port


def _matches(port: Port) -> list[Match]:
    return [match for route in port.routes for rule in route.rules for match in rule]


def _reads_paths(port: Port) -> bool:
    """Routes read paths, whatever their matches say."""
    return bool(port.routes) or any(item.subject == "path" for row in port.rows for item in row.conditions)


def _bare(world: World, workload: Workload, number: int, server: Server | None) -> Port:
    probes = [probe for probe in workload.probes if probe.port == number]
    if server:
        return Port(number, server, server.protocol, server.access, probes, world.defaults.cluster_networks)
    annotations = world.annotations.get(workload.namespace, {})
    opaque = number in opaque_ports(world.defaults, workload, annotations)
    access = effective_default(world.defaults, workload.annotations, annotations)
    protocol = "opaque" if opaque else "unknown"
    return Port(number, None, protocol, access, probes, world.defaults.cluster_networks)


def _fill(world: World, workload: Workload, port: Port) -> None:
    port.rows = _cluster_rows(world.defaults, port)
    for server in world.servers:
        stray = not server.placed and not port.server and server.namespace == workload.namespace
        if stray or (server is port.server and not server.readable):
            port.rows.append(Row(server.full_name, "Refuse", SERVER, server.age))
    if port.server and not port.server.readable and port.server not in world.servers:
        port.rows.append(Row(port.server.full_name, "Refuse", SERVER, port.server.age))
    port.routes = _limit_regexes([route for route in world.routes if _attached(route, port)])
    for route in port.routes:
        if route.unreadable:
            scope = "http" if route.whole else "selected"
            port.rows.append(Row(route.name, "Refuse", ROUTE, route.age, scope=scope, route=route))
    for policy in world.policies:
        if policy.namespace == workload.namespace:
            row = _policy_row(world, policy, port)
            if row:
                port.rows.append(row)


def _cluster_rows(defaults: MeshDefaults, port: Port) -> list[Row]:
    """On unread ports a `when` passes over the listed ones and counts as satisfied on others [T3]."""
    if port.reads_http:
        return list(defaults.rows)
    listed = port.number in defaults.opaque_ports
    return [replace(row, conditions=[]) for row in defaults.rows if not (row.conditions and listed)]


def _hangs_on(route: Route, server: Server) -> bool:
    return route.namespace == server.namespace and (server.group, server.name) in route.parents


def _attached(route: Route, port: Port) -> bool:
    """HTTPRoutes to `unknown`, `HTTP/1`, `HTTP/2`; GRPCRoutes to these and `gRPC` [R1]."""
    if (
        not port.server
        or not port.server.readable
        or not port.reads_http
        or not _hangs_on(route, port.server)
    ):
        return False
    return route.grpc or port.protocol != "gRPC"


def _limit_regexes(routes: list[Route]) -> list[Route]:
    """At most 64 regular expressions a Server, the oldest routes first [V7]."""
    count, found = 0, []
    for route in routes:
        count += sum(match.regexes() for rule in route.rules for match in rule)
        over = count > REGEXES_OF_A_SERVER
        found.append(replace(route, unreadable=True, whole=True, rules=[]) if over else route)
    return found


def _row(policy: Policy, level: int) -> Row | None:
    """The policy as a row of a level [U2]; None for an unreadable Allow."""
    row = Row(policy.name, policy.effect, level, policy.age, policy.audit)
    if not policy.readable:
        return None if policy.effect == "Allow" else replace(row, effect="Refuse")
    row.identities, row.blocks, row.conditions = policy.identities, policy.blocks, policy.when
    row.valid_until = policy.valid_until
    row.anonymous_too = policy.effect == "Deny" and policy.identities is not None
    return row


def _policy_row(world: World, policy: Policy, port: Port) -> Row | None:
    server = port.server
    if policy.servers:
        return (
            _row(policy, SERVER)
            if server and server.group == LINKERD and policy.servers(server.labels)
            else None
        )
    if policy.target is None or policy.target[1] == "Namespace":
        if policy.readable and policy.when and not port.reads_http:
            return None
        return _row(policy, NAMESPACE)
    group, kind, name = policy.target
    if kind != "Server":
        return _route_policy_row(world, policy, port)
    if not server or (server.group, server.name) != (group, name):
        return None
    unreadable = bool(policy.when) and not port.reads_http
    return _row(replace(policy, readable=False) if unreadable else policy, SERVER)


def _route_policy_row(world: World, policy: Policy, port: Port) -> Row | None:
    group, kind, name = policy.target or ("", "", "")
    wanted = f"{kind.lower()}.{group}/{policy.namespace}/{name}"
    attached = next((route for route in port.routes if route.name == wanted), None)
    if attached:
        row = _row(policy, ROUTE)
        scope = "selected" if policy.effect == "Allow" else "matched"
        return replace(row, scope=scope, route=attached) if row else None
    route = next((route for route in world.routes if route.name == wanted), None)
    if not route or not port.server or port.reads_http or not _hangs_on(route, port.server):
        return None
    if all(one.protocol in UNREAD for one in world.servers if _hangs_on(route, one)):
        return _row(replace(policy, readable=False), ROUTE)
    return None


def _bound(port: Port) -> None:
    """Enforced policies with a `when` are at most 256, counted from the cluster down [V8]."""
    counted = [row for row in port.rows if row.conditions and not row.audit]
    beyond = sorted(counted, key=lambda row: (-row.level, row.age))[CONDITIONAL_POLICIES:]
    for row in beyond:
        port.rows.remove(row)
        if row.effect != "Allow":
            port.rows.append(Row(row.name, "Refuse", row.level, row.age, scope=row.scope, route=row.route))
