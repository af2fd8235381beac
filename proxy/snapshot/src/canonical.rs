//! What "canonical" means beyond protobuf: every list sorted as the schema says. Sorting (for the writer) and checking
//! (for the reader) stand side by side, on the same keys.

use prost::Message;

use crate::{SnapshotError, generated as wire};

/// Puts a list in order and drops what is there twice.
pub(crate) fn sort<T, K: Ord>(list: &mut Vec<T>, key: impl Fn(&T) -> K) {
    list.sort_by_cached_key(&key);
    list.dedup_by(|a, b| key(a) == key(b));
}

/// Refuses a list that [`sort`] would change.
pub(crate) fn check<T, K: Ord>(
    place: &str,
    list: &[T],
    key: impl Fn(&T) -> K,
) -> Result<(), SnapshotError> {
    let mut before: Option<K> = None;
    for item in list {
        let this = key(item);
        if before.as_ref().is_some_and(|before| *before >= this) {
            return Err(SnapshotError::Unsorted(place.into()));
        }
        before = Some(this);
    }
    Ok(())
}

/// The order of pooled values: their encoded bytes.
pub(crate) fn encoded(message: &impl Message) -> Vec<u8> {
    message.encode_to_vec()
}

pub(crate) fn block_key(block: &wire::NetworkBlock) -> (String, Vec<String>) {
    (block.cidr.clone(), block.except.clone())
}

pub(crate) fn probe_key(probe: &wire::Probe) -> (i32, String, Vec<String>, String) {
    (probe.kind, probe.target.clone(), probe.headers.clone(), probe.service.clone())
}

pub(crate) fn revocation_key(item: &wire::Revocation) -> (String, String, String, i64) {
    (
        item.identity.clone(),
        item.pod_uid.clone(),
        item.certificate_sha256.clone(),
        item.issued_before_millis,
    )
}

/// Sorts the values inside pooled messages, so that their encoded bytes are canonical.
pub(crate) fn sort_inside(pools: &mut wire::Pools) {
    for set in &mut pools.identities {
        sort(&mut set.any_of, String::clone);
        sort(&mut set.except, String::clone);
    }
    for set in &mut pools.networks {
        for block in &mut set.any_of {
            sort(&mut block.except, String::clone);
        }
        sort(&mut set.any_of, block_key);
    }
    for condition in &mut pools.conditions {
        sort(&mut condition.values, String::clone);
    }
}

pub(crate) fn check_pools(pools: &wire::Pools) -> Result<(), SnapshotError> {
    for set in &pools.identities {
        check("identities.any_of", &set.any_of, |form| form.as_str().to_owned())?;
        check("identities.except", &set.except, |form| form.as_str().to_owned())?;
    }
    for set in &pools.networks {
        for block in &set.any_of {
            check("networks.except", &block.except, String::clone)?;
        }
        check("networks.any_of", &set.any_of, block_key)?;
    }
    for condition in &pools.conditions {
        check("conditions.values", &condition.values, String::clone)?;
    }
    check("pools.identities", &pools.identities, encoded)?;
    check("pools.networks", &pools.networks, encoded)?;
    check("pools.conditions", &pools.conditions, encoded)
}

pub(crate) fn sort_route(route: &mut wire::Route) {
    sort(&mut route.hosts, String::clone);
    for entry in route.rules.iter_mut().flat_map(|rule| &mut rule.matches) {
        // Names must be unique; what is there twice is left for the reader to refuse.
        entry.headers.sort_by(|a, b| a.name.cmp(&b.name));
        entry.query.sort_by(|a, b| a.name.cmp(&b.name));
    }
}

pub(crate) fn check_route(route: &wire::Route) -> Result<(), SnapshotError> {
    check("route.hosts", &route.hosts, String::clone)?;
    for entry in route.rules.iter().flat_map(|rule| &rule.matches) {
        check("match.headers", &entry.headers, |header| header.name.clone())?;
        check("match.query", &entry.query, |item| item.name.clone())?;
    }
    Ok(())
}

pub(crate) fn sort_port(port: &mut wire::Port) {
    sort(&mut port.rules, |id| *id);
    sort(&mut port.routes, |id| *id);
    port.probes.iter_mut().for_each(|probe| sort(&mut probe.headers, String::clone));
    sort(&mut port.probes, probe_key);
}

pub(crate) fn check_port(port: &wire::Port) -> Result<(), SnapshotError> {
    check("port.rules", &port.rules, |id| *id)?;
    check("port.routes", &port.routes, |id| *id)?;
    for probe in &port.probes {
        check("probe.headers", &probe.headers, String::clone)?;
    }
    check("port.probes", &port.probes, probe_key)
}
