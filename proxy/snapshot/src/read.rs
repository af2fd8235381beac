//! Messages → rows of the engine, value by value. Whole messages are taken apart, so that a new field is a compile error
//! until somebody has thought about it.

use engine::{Timestamp, gate, identity::SpiffeId, pattern::Pattern, rows};

use crate::{SnapshotError, generated as wire};

mod pools;
mod ports;
mod routes;

use pools::{plain_networks, pools};
use ports::port;
pub(crate) use routes::route;

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

pub(crate) fn rule(rule: wire::Rule) -> Result<rows::Rule> {
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
