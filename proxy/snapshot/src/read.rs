//! Messages → rows of the engine, value by value. Whole messages are taken apart, so that a new field is a compile error
//! until somebody has thought about it.

use engine::{
    Timestamp,
    condition::{Condition, Subject, Test},
    gate::{self, PathMode},
    identity::{IdentityForm, IdentitySet, SpiffeId},
    network::NetworkSet,
    pattern::Pattern,
    route::{Match, NamedMatch, PathTest, PathText, Route, RouteKind, ValueTest},
    rows,
};
use ipnet::IpNet;

use crate::{SnapshotError, generated as wire};

type Result<T> = std::result::Result<T, SnapshotError>;

pub(crate) fn cluster(part: wire::ClusterPart) -> Result<rows::ClusterRows> {
    let wire::ClusterPart {
        reader_version: _,
        trust_domain,
        pools: shared,
        rules,
        revoked,
        cluster_networks,
        probe_networks,
        max_table_age_seconds,
        epoch: _,
    } = part;
    // A trust domain is what can stand in front of a path.
    SpiffeId::parse(&format!("spiffe://{trust_domain}/x"))
        .map_err(|error| SnapshotError::invalid("trust_domain", error))?;
    Ok(rows::ClusterRows {
        trust_domain: trust_domain.into(),
        pools: pools(shared.unwrap_or_default())?,
        rules: rules.into_iter().map(rule).collect::<Result<_>>()?,
        revoked: revoked.into_iter().map(revocation).collect::<Result<_>>()?,
        cluster_networks: plain_networks("cluster_networks", &cluster_networks)?,
        probe_networks: plain_networks("probe_networks", &probe_networks)?,
        max_table_age_millis: (max_table_age_seconds != 0)
            .then(|| max_table_age_seconds.saturating_mul(1000)),
    })
}

pub(crate) fn workload(part: wire::WorkloadPart) -> Result<rows::WorkloadRows> {
    let wire::WorkloadPart {
        reader_version: _,
        workload_shape: _,
        pools: shared,
        rules,
        routes,
        ports,
        other,
    } = part;
    let other = other.ok_or_else(|| SnapshotError::invalid("other", "it is missing"))?;
    if other.number != 0 {
        return Err(SnapshotError::invalid("other.number", "it is not 0"));
    }
    if ports.iter().any(|port| port.number == 0) {
        return Err(SnapshotError::invalid("ports.number", "it is 0"));
    }
    Ok(rows::WorkloadRows {
        pools: pools(shared.unwrap_or_default())?,
        rules: rules.into_iter().map(rule).collect::<Result<_>>()?,
        routes: routes.into_iter().map(route).collect::<Result<_>>()?,
        ports: ports.into_iter().map(port).collect::<Result<_>>()?,
        other: port(other)?,
    })
}

fn pools(pools: wire::Pools) -> Result<rows::Pools> {
    let wire::Pools { identities, networks, conditions } = pools;
    Ok(rows::Pools {
        identities: identities.into_iter().map(identity_set).collect::<Result<_>>()?,
        networks: networks.iter().map(network_set).collect::<Result<_>>()?,
        conditions: conditions.into_iter().map(condition).collect::<Result<_>>()?,
    })
}

fn identity_set(set: wire::IdentitySet) -> Result<IdentitySet> {
    let wire::IdentitySet { any_of, except } = set;
    let forms = |list: Vec<String>| -> Result<Vec<IdentityForm>> {
        list.iter()
            .map(|form| {
                IdentityForm::parse(form)
                    .map_err(|error| SnapshotError::invalid("identities", error))
            })
            .collect()
    };
    Ok(IdentitySet::new(forms(any_of)?, forms(except)?))
}

fn network_set(set: &wire::NetworkSet) -> Result<NetworkSet> {
    let wire::NetworkSet { any_of } = set;
    let blocks = any_of.iter().map(|wire::NetworkBlock { cidr, except }| {
        let holes =
            except.iter().map(|hole| network("networks.except", hole)).collect::<Result<_>>()?;
        Ok((network("networks.cidr", cidr)?, holes))
    });
    Ok(NetworkSet::new(blocks.collect::<Result<Vec<_>>>()?))
}

fn plain_networks(place: &str, list: &[String]) -> Result<NetworkSet> {
    let blocks = list.iter().map(|cidr| Ok((network(place, cidr)?, Vec::new())));
    Ok(NetworkSet::new(blocks.collect::<Result<Vec<_>>>()?))
}

/// A CIDR in normal form: parsed and printed it is itself.
fn network(place: &str, cidr: &str) -> Result<IpNet> {
    let network: IpNet =
        cidr.parse().map_err(|_| SnapshotError::invalid(place, format!("`{cidr}` is no CIDR")))?;
    let mapped = matches!(network, IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some());
    if network.trunc().to_string() != cidr || mapped {
        return Err(SnapshotError::invalid(place, format!("`{cidr}` is not in normal form")));
    }
    Ok(network)
}

fn condition(condition: wire::Condition) -> Result<Condition> {
    let wire::Condition { subject, name, test, values } = condition;
    let place = || format!("condition on `{name}`");
    let subject = match wire::ConditionSubject::try_from(subject) {
        Ok(wire::ConditionSubject::Header) => Subject::Header(header_name(&name)?),
        Ok(wire::ConditionSubject::Query) => Subject::Query(name.as_str().into()),
        Ok(wire::ConditionSubject::Method) => Subject::Method,
        Ok(wire::ConditionSubject::Host) => Subject::Host,
        Ok(wire::ConditionSubject::Path) => Subject::Path,
        _ => return Err(unspecified("condition.subject")),
    };
    let named = matches!(subject, Subject::Header(_) | Subject::Query(_));
    if !named && !name.is_empty() {
        return Err(SnapshotError::invalid(place(), "only headers and query keys have a name"));
    }
    if matches!(subject, Subject::Path) {
        values.iter().try_for_each(|value| policy_path(value))?;
    }
    let several = || -> Result<Box<[Box<str>]>> {
        if values.is_empty() {
            return Err(SnapshotError::invalid(place(), "an empty list is no list"));
        }
        Ok(values.iter().map(|value| value.as_str().into()).collect())
    };
    let none = |test| {
        if values.is_empty() && named {
            Ok(test)
        } else {
            Err(SnapshotError::invalid(
                place(),
                "existence is asked of headers and query keys, without values",
            ))
        }
    };
    let test = match wire::ConditionTest::try_from(test) {
        Ok(wire::ConditionTest::In) => Test::In(several()?),
        Ok(wire::ConditionTest::NotIn) => Test::NotIn(several()?),
        Ok(wire::ConditionTest::Prefix) => match (&subject, values.as_slice()) {
            (Subject::Header(_) | Subject::Query(_) | Subject::Path, [value]) => {
                Test::Prefix(prefix_value(&subject, value)?)
            }
            _ => {
                return Err(SnapshotError::invalid(
                    place(),
                    "a prefix is one value of a path, header or query key",
                ));
            }
        },
        Ok(wire::ConditionTest::Exists) => none(Test::Exists)?,
        Ok(wire::ConditionTest::Absent) => none(Test::Absent)?,
        _ => return Err(unspecified("condition.test")),
    };
    Ok(Condition::new(subject, test))
}

fn prefix_value(subject: &Subject, value: &str) -> Result<Box<str>> {
    if matches!(subject, Subject::Path) {
        path_prefix(value)?;
    }
    Ok(value.into())
}

fn rule(rule: wire::Rule) -> Result<rows::Rule> {
    let wire::Rule {
        effect,
        level,
        authorization,
        origin,
        audit,
        scope,
        route,
        identity,
        identities,
        anonymous_too,
        network,
        networks,
        conditions,
        valid_until_millis,
    } = rule;
    let place = |field: &str| format!("{authorization}.{field}");
    Ok(rows::Rule {
        effect: lookup(
            effect,
            &place("effect"),
            &[
                (wire::Effect::Allow as i32, rows::Effect::Allow),
                (wire::Effect::Deny as i32, rows::Effect::Deny),
                (wire::Effect::Require as i32, rows::Effect::Require),
                (wire::Effect::Refuse as i32, rows::Effect::Refuse),
            ],
        )?,
        level: lookup(
            level,
            &place("level"),
            &[
                (wire::Level::Route as i32, rows::Level::Route),
                (wire::Level::Server as i32, rows::Level::Server),
                (wire::Level::Namespace as i32, rows::Level::Namespace),
                (wire::Level::Cluster as i32, rows::Level::Cluster),
            ],
        )?,
        audit,
        scope: read_scope(scope, route, &place("scope"))?,
        identities: who(identity, identities, &place("identity"))?,
        anonymous_too,
        networks: who(network, networks, &place("network"))?,
        conditions: conditions.into(),
        valid_until: (valid_until_millis != 0).then_some(Timestamp(valid_until_millis)),
        authorization: authorization.into(),
        origin: origin.into(),
    })
}

fn read_scope(scope: i32, route: u32, place: &str) -> Result<rows::Scope> {
    let scope = match wire::Scope::try_from(scope) {
        Ok(wire::Scope::Port) => rows::Scope::Port,
        Ok(wire::Scope::Http) => rows::Scope::Http,
        Ok(wire::Scope::RouteSelected) => return Ok(rows::Scope::Selected(route)),
        Ok(wire::Scope::RouteMatched) => return Ok(rows::Scope::Matched(route)),
        _ => return Err(unspecified(place)),
    };
    if route != 0 {
        return Err(SnapshotError::invalid(place, "a route is given where none is meant"));
    }
    Ok(scope)
}

/// FAIL-CLOSED: not saying who is not "anyone".
fn who(who: i32, index: u32, place: &str) -> Result<Option<u32>> {
    match wire::Who::try_from(who) {
        Ok(wire::Who::Anyone) if index == 0 => Ok(None),
        Ok(wire::Who::Set) => Ok(Some(index)),
        Ok(wire::Who::Anyone) => Err(SnapshotError::invalid(place, "anyone, yet a set is given")),
        _ => Err(unspecified(place)),
    }
}

fn route(route: wire::Route) -> Result<Route> {
    let wire::Route { name, origin, kind, hosts, rules } = route;
    let kind = lookup(
        kind,
        &format!("{name}.kind"),
        &[
            (wire::RouteKind::Http as i32, RouteKind::Http),
            (wire::RouteKind::Grpc as i32, RouteKind::Grpc),
        ],
    )?;
    for host in &hosts {
        let literal = host.strip_prefix("*.").unwrap_or(host);
        let normal = gate::normal_host(literal).map_err(|flaw| {
            SnapshotError::invalid(format!("{name}.hosts"), format!("`{host}`: {flaw}"))
        })?;
        if normal != literal {
            return Err(SnapshotError::invalid(
                format!("{name}.hosts"),
                format!("`{host}` is not in normal form"),
            ));
        }
    }
    let rules = rules
        .into_iter()
        .map(|wire::RouteRule { matches }| {
            if matches.is_empty() {
                return Err(SnapshotError::invalid(format!("{name}.rules"), "a rule has no match"));
            }
            matches.into_iter().map(read_match).collect()
        })
        .collect::<Result<_>>()?;
    Ok(Route {
        name: name.into(),
        origin: origin.into(),
        kind,
        hosts: hosts.into_iter().map(Into::into).collect(),
        rules,
    })
}

fn read_match(entry: wire::Match) -> Result<Match> {
    let wire::Match { path_test, path, method, headers, query } = entry;
    let path = match wire::PathTest::try_from(path_test) {
        Ok(wire::PathTest::Exact) => {
            policy_path(&path)?;
            PathTest::Exact(PathText::new(&path))
        }
        Ok(wire::PathTest::Prefix) => {
            path_prefix(&path)?;
            PathTest::Prefix(PathText::new(&path))
        }
        Ok(wire::PathTest::Regex) => PathTest::Regex(pattern("match.path", &path)?),
        Ok(wire::PathTest::LastSegment) => {
            if path.is_empty() || path.contains('/') {
                return Err(SnapshotError::invalid(
                    "match.path",
                    format!("`{path}` is no segment"),
                ));
            }
            PathTest::LastSegment(PathText::new(&path))
        }
        _ => return Err(unspecified("match.path_test")),
    };
    let names =
        headers.iter().map(|header| header_name(&header.name)).collect::<Result<Vec<_>>>()?;
    let headers = headers
        .iter()
        .zip(names)
        .map(|(header, name)| Ok(NamedMatch { name, test: value_test(header)? }))
        .collect::<Result<_>>()?;
    let query = query
        .iter()
        .map(|item| Ok(NamedMatch { name: item.name.as_str().into(), test: value_test(item)? }))
        .collect::<Result<_>>()?;
    Ok(Match { path, method: (!method.is_empty()).then(|| method.into()), headers, query })
}

fn value_test(item: &wire::NamedMatch) -> Result<ValueTest> {
    match wire::ValueTest::try_from(item.test) {
        Ok(wire::ValueTest::Exact) => Ok(ValueTest::Exact(item.value.as_str().into())),
        Ok(wire::ValueTest::Regex) => Ok(ValueTest::Regex(pattern("match.value", &item.value)?)),
        _ => Err(unspecified("match.test")),
    }
}

const PROTOCOLS: &[(i32, rows::Protocol)] = &[
    (wire::Protocol::Unknown as i32, rows::Protocol::Unknown),
    (wire::Protocol::Http1 as i32, rows::Protocol::Http1),
    (wire::Protocol::Http2 as i32, rows::Protocol::Http2),
    (wire::Protocol::Grpc as i32, rows::Protocol::Grpc),
    (wire::Protocol::Opaque as i32, rows::Protocol::Opaque),
    (wire::Protocol::Tls as i32, rows::Protocol::Tls),
];
const ACCESSES: &[(i32, rows::Access)] = &[
    (wire::Access::Deny as i32, rows::Access::Deny),
    (wire::Access::Audit as i32, rows::Access::Audit),
    (wire::Access::AllUnauthenticated as i32, rows::Access::AllUnauthenticated),
    (wire::Access::AllAuthenticated as i32, rows::Access::AllAuthenticated),
    (wire::Access::ClusterUnauthenticated as i32, rows::Access::ClusterUnauthenticated),
    (wire::Access::ClusterAuthenticated as i32, rows::Access::ClusterAuthenticated),
];
const PATH_MODES: &[(i32, PathMode)] = &[
    (wire::PathMode::Strict as i32, PathMode::Strict),
    (wire::PathMode::Merge as i32, PathMode::Merge),
    (wire::PathMode::Opaque as i32, PathMode::Opaque),
];
const CLUSTER_CONDITIONS: &[(i32, rows::ClusterConditions)] = &[
    (wire::ClusterConditions::Evaluate as i32, rows::ClusterConditions::Evaluate),
    (wire::ClusterConditions::Satisfied as i32, rows::ClusterConditions::Satisfied),
    (wire::ClusterConditions::PassOver as i32, rows::ClusterConditions::PassOver),
];

fn port(port: wire::Port) -> Result<rows::PortRow> {
    let wire::Port {
        number,
        protocol,
        server,
        server_origin,
        access,
        path_mode,
        websocket,
        cluster_conditions,
        rules,
        routes,
        probes,
    } = port;
    let place = |field: &str| format!("port {number}.{field}");
    Ok(rows::PortRow {
        number: u16::try_from(number)
            .map_err(|_| SnapshotError::invalid(place("number"), "it is above 65535"))?,
        protocol: lookup(protocol, &place("protocol"), PROTOCOLS)?,
        server: (!server.is_empty()).then(|| server.into()),
        server_origin: server_origin.into(),
        access: lookup(access, &place("access"), ACCESSES)?,
        path_mode: lookup(path_mode, &place("path_mode"), PATH_MODES)?,
        websocket,
        cluster_conditions: lookup(
            cluster_conditions,
            &place("cluster_conditions"),
            CLUSTER_CONDITIONS,
        )?,
        rules,
        routes,
        probes: probes.into_iter().map(probe).collect::<Result<_>>()?,
    })
}

fn probe(probe: wire::Probe) -> Result<rows::Probe> {
    let wire::Probe { kind, target, headers, service } = probe;
    match wire::ProbeKind::try_from(kind) {
        Ok(wire::ProbeKind::Http) => Ok(rows::Probe::Http {
            target: target.into(),
            headers: headers.into_iter().map(Into::into).collect(),
        }),
        Ok(wire::ProbeKind::Tcp) => Ok(rows::Probe::Tcp),
        Ok(wire::ProbeKind::Grpc) => Ok(rows::Probe::Grpc { service: service.into() }),
        _ => Err(unspecified("probe.kind")),
    }
}

fn revocation(item: wire::Revocation) -> Result<rows::Revocation> {
    let wire::Revocation { identity, pod_uid, certificate_sha256, issued_before_millis } = item;
    let whom = match (identity.as_str(), pod_uid.as_str(), certificate_sha256.as_str()) {
        (identity, "", "") if !identity.is_empty() => rows::Revoked::Identity(
            SpiffeId::parse(identity)
                .map_err(|error| SnapshotError::invalid("revoked.identity", error))?,
        ),
        ("", uid, "") if !uid.is_empty() => rows::Revoked::PodUid(uid.into()),
        ("", "", digest) if !digest.is_empty() => {
            rows::Revoked::Certificate(sha256("revoked", digest)?)
        }
        _ => return Err(SnapshotError::invalid("revoked", "it names not exactly one of three")),
    };
    let issued_before = (issued_before_millis != 0).then_some(Timestamp(issued_before_millis));
    Ok(rows::Revocation { whom, issued_before })
}

/// 64 lower-case hex digits.
pub(crate) fn sha256(place: &str, text: &str) -> Result<[u8; 32]> {
    let invalid =
        || SnapshotError::invalid(place, format!("`{text}` is not 64 lower-case hex digits"));
    let mut digest = [0; 32];
    if text.len() != 64 || text.bytes().any(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(invalid());
    }
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| invalid())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| invalid())?;
    }
    Ok(digest)
}

fn pattern(place: &str, text: &str) -> Result<Pattern> {
    Pattern::parse(text).map_err(|error| SnapshotError::invalid(place, error))
}

/// A policy's path must be in normal form (V5).
fn policy_path(path: &str) -> Result<()> {
    let normal = gate::normal_path(path)
        .map_err(|flaw| SnapshotError::invalid("path", format!("`{path}`: {flaw}")))?;
    if normal == path {
        Ok(())
    } else {
        Err(SnapshotError::invalid("path", format!("`{path}` is not in normal form")))
    }
}

fn path_prefix(path: &str) -> Result<()> {
    policy_path(path)?;
    if path.len() > 1 && path.ends_with('/') {
        return Err(SnapshotError::invalid("path", format!("the prefix `{path}` ends with `/`")));
    }
    Ok(())
}

fn header_name(name: &str) -> Result<Box<str>> {
    if gate::is_token(name.as_bytes()) && !name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Ok(name.into())
    } else {
        Err(SnapshotError::invalid("header", format!("`{name}` is no header name in lower case")))
    }
}

fn lookup<T: Copy>(value: i32, place: &str, table: &[(i32, T)]) -> Result<T> {
    let known = table.iter().find(|(number, _)| *number == value);
    known.map(|(_, meaning)| *meaning).ok_or_else(|| unspecified(place))
}

fn unspecified(place: &str) -> SnapshotError {
    SnapshotError::invalid(place, "no value that this reader knows; saying nothing permits nothing")
}
