//! Rows → canonical bytes. Whoever hands over rows answers for their meaning and for the order of rules and routes; the
//! form is made here, and what is written is read back before it leaves.

use prost::Message;
use serde::de::DeserializeOwned;

use crate::{
    Reader, SnapshotError,
    canonical::{encoded, revocation_key, sort, sort_inside, sort_port, sort_route},
    generated as wire, load,
    versions::{narrow_cluster, narrow_workload},
};

/// The cluster's part, from JSON rows.
pub fn encode_cluster(rows: &[u8]) -> Result<Vec<u8>, SnapshotError> {
    encode_cluster_for(rows, Reader::default())
}

/// The cluster's part for a reader that may be older: what it can't express refuses (P-16).
pub fn encode_cluster_for(rows: &[u8], reader: Reader) -> Result<Vec<u8>, SnapshotError> {
    let mut part: wire::ClusterPart = parse(rows)?;
    narrow_cluster(&mut part, reader);
    sort(&mut part.cluster_networks, String::clone);
    sort(&mut part.probe_networks, String::clone);
    sort(&mut part.revoked, revocation_key);
    settle_pools(part.pools.get_or_insert_default(), &mut part.rules)?;
    let bytes = part.encode_to_vec();
    load::check_cluster(&bytes, reader.version)?;
    Ok(bytes)
}

/// The workload's part, from JSON rows.
pub fn encode_workload(rows: &[u8]) -> Result<Vec<u8>, SnapshotError> {
    encode_workload_for(rows, Reader::default())
}

/// The workload's part for a reader that may be older: what it can't express refuses (P-16).
pub fn encode_workload_for(rows: &[u8], reader: Reader) -> Result<Vec<u8>, SnapshotError> {
    let mut part: wire::WorkloadPart = parse(rows)?;
    narrow_workload(&mut part, reader);
    settle_pools(part.pools.get_or_insert_default(), &mut part.rules)?;
    part.routes.iter_mut().for_each(sort_route);
    part.ports.iter_mut().chain(&mut part.other).for_each(sort_port);
    part.ports.sort_by_key(|port| port.number);
    let bytes = part.encode_to_vec();
    load::check_workload(&bytes, reader.version)?;
    Ok(bytes)
}

/// Both parts as one snapshot.
pub fn assemble(cluster: &[u8], workload: &[u8]) -> Result<Vec<u8>, SnapshotError> {
    let snapshot = wire::Snapshot { cluster: cluster.to_vec(), workload: workload.to_vec() };
    Ok(snapshot.encode_to_vec())
}

fn parse<T: DeserializeOwned>(rows: &[u8]) -> Result<T, SnapshotError> {
    serde_json::from_slice(rows).map_err(|error| SnapshotError::Rows(error.to_string()))
}

/// Sorts the pools and lets the rules point to where their values went.
fn settle_pools(pools: &mut wire::Pools, rules: &mut [wire::Rule]) -> Result<(), SnapshotError> {
    sort_inside(pools);
    let identities = settle(&mut pools.identities);
    let networks = settle(&mut pools.networks);
    let conditions = settle(&mut pools.conditions);
    for rule in rules {
        let place = &rule.authorization;
        if rule.identity == wire::Who::Set as i32 {
            rule.identities = moved(&identities, rule.identities, "identities", place)?;
        }
        if rule.network == wire::Who::Set as i32 {
            rule.networks = moved(&networks, rule.networks, "networks", place)?;
        }
        for index in &mut rule.conditions {
            *index = moved(&conditions, *index, "conditions", place)?;
        }
        sort(&mut rule.conditions, |index| *index);
    }
    Ok(())
}

/// Sorts and thins a pool; gives the new place of each old one.
fn settle<T: Message + Clone + Default>(pool: &mut Vec<T>) -> Vec<u32> {
    let before: Vec<Vec<u8>> = pool.iter().map(encoded).collect();
    let mut sorted = before.clone();
    sort(&mut sorted, Vec::clone);
    sort(pool, encoded);
    before
        .iter()
        .map(|item| {
            sorted
                .binary_search(item)
                .ok()
                .and_then(|place| u32::try_from(place).ok())
                .unwrap_or(u32::MAX)
        })
        .collect()
}

fn moved(places: &[u32], index: u32, what: &str, place: &str) -> Result<u32, SnapshotError> {
    places.get(index as usize).copied().ok_or_else(|| {
        SnapshotError::invalid(
            format!("{place}.{what}"),
            format!("index {index} is not there, {} are", places.len()),
        )
    })
}
