//! Bytes → table, or refused whole: bounds, then decoding, then the form, then the values, then the links.

use engine::Table;
use prost::Message;

use crate::{
    READER_VERSION, SnapshotError,
    canonical::{check, check_pools, check_port, check_route, revocation_key},
    generated as wire,
    limits::{MAX_SNAPSHOT_BYTES, check_messages},
    read, version,
};

/// A table and the version of the bytes it came from.
#[derive(Debug)]
pub struct Loaded {
    /// What is enforced.
    pub table: Table,
    /// SHA-256 over both parts' SHA-256.
    pub version: [u8; 32],
}

/// Reads a snapshot. Never panics; what is refused leaves nothing behind.
pub fn load(snapshot: &[u8]) -> Result<Loaded, SnapshotError> {
    load_as(snapshot, READER_VERSION)
}

/// The same as a reader of another version, for tests of skew.
pub fn load_as(snapshot: &[u8], reader: u32) -> Result<Loaded, SnapshotError> {
    let parts = parts(snapshot)?;
    let cluster = cluster(&parts.cluster, reader)?;
    let workload = workload(&parts.workload, reader)?;
    let table = Table::new(read::cluster(cluster)?, read::workload(workload)?)?;
    Ok(Loaded { table, version: version(snapshot)? })
}

/// The rows of a snapshot as JSON: `{"cluster": …, "workload": …}`.
pub fn rows(snapshot: &[u8]) -> Result<Vec<u8>, SnapshotError> {
    #[derive(serde::Serialize)]
    struct Rows {
        cluster: wire::ClusterPart,
        workload: wire::WorkloadPart,
    }
    let parts = parts(snapshot)?;
    let rows = Rows {
        cluster: cluster(&parts.cluster, READER_VERSION)?,
        workload: workload(&parts.workload, READER_VERSION)?,
    };
    serde_json::to_vec(&rows).map_err(|error| SnapshotError::Rows(error.to_string()))
}

/// The two parts' bytes.
pub(crate) fn parts(snapshot: &[u8]) -> Result<wire::Snapshot, SnapshotError> {
    if snapshot.len() > MAX_SNAPSHOT_BYTES {
        return Err(SnapshotError::TooLarge {
            what: "bytes",
            found: snapshot.len(),
            limit: MAX_SNAPSHOT_BYTES,
        });
    }
    decode(snapshot, "outer")
}

/// A cluster part in canonical form.
pub(crate) fn cluster(bytes: &[u8], reader: u32) -> Result<wire::ClusterPart, SnapshotError> {
    check_messages(bytes)?;
    let part: wire::ClusterPart = decode(bytes, "cluster")?;
    check_reader("cluster", part.reader_version, reader)?;
    check_pools(pools(part.pools.as_ref(), "cluster")?)?;
    check("cluster_networks", &part.cluster_networks, String::clone)?;
    check("probe_networks", &part.probe_networks, String::clone)?;
    check("revoked", &part.revoked, revocation_key)?;
    check_conditions(&part.rules)?;
    Ok(part)
}

/// A workload part in canonical form.
pub(crate) fn workload(bytes: &[u8], reader: u32) -> Result<wire::WorkloadPart, SnapshotError> {
    check_messages(bytes)?;
    let part: wire::WorkloadPart = decode(bytes, "workload")?;
    check_reader("workload", part.reader_version, reader)?;
    check_pools(pools(part.pools.as_ref(), "workload")?)?;
    check_conditions(&part.rules)?;
    part.routes.iter().try_for_each(check_route)?;
    part.ports.iter().chain(&part.other).try_for_each(check_port)?;
    check("ports", &part.ports, |port| port.number)?;
    Ok(part)
}

fn decode<T: Message + Default>(bytes: &[u8], part: &'static str) -> Result<T, SnapshotError> {
    let message = T::decode(bytes).map_err(|error| SnapshotError::Malformed(error.to_string()))?;
    // One check for unknown fields, newer writers and other encodings of the same.
    if message.encoded_len() != bytes.len() || message.encode_to_vec() != bytes {
        return Err(SnapshotError::NotCanonical(part));
    }
    Ok(message)
}

fn check_reader(part: &'static str, needs: u32, reader: u32) -> Result<(), SnapshotError> {
    match needs {
        0 => Err(SnapshotError::invalid("reader_version", "it is missing")),
        needs if needs > reader => Err(SnapshotError::Newer { part, needs, reader }),
        _ => Ok(()),
    }
}

fn pools<'p>(
    pools: Option<&'p wire::Pools>,
    part: &'static str,
) -> Result<&'p wire::Pools, SnapshotError> {
    pools.ok_or_else(|| SnapshotError::invalid(format!("{part}.pools"), "it is missing"))
}

fn check_conditions(rules: &[wire::Rule]) -> Result<(), SnapshotError> {
    rules.iter().try_for_each(|rule| check("rule.conditions", &rule.conditions, |index| *index))
}
