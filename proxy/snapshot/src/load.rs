//! Bytes → table, or refused whole: bounds, then decoding, then the form, then the values, then the links.

use std::mem::take;

use engine::{Table, TableBuilder, route::Route, rows};
use prost::Message;

use crate::{
    READER_VERSION, SnapshotError,
    canonical::{check, check_pools, check_port, check_route, revocation_key},
    fields::fields,
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

/// Reads a snapshot. Never panics; what is refused leaves nothing behind. Rules and routes are read one by one, so that
/// there is never much more in memory than the bytes and the table.
pub fn load(snapshot: &[u8]) -> Result<Loaded, SnapshotError> {
    load_as(snapshot, READER_VERSION)
}

/// The same as a reader of another version, for tests of skew.
pub fn load_as(snapshot: &[u8], reader: u32) -> Result<Loaded, SnapshotError> {
    let parts = parts(snapshot)?;
    let mut cluster = cluster(parts.cluster, reader)?;
    let mut workload = workload(parts.workload, reader)?;
    let mut builder = TableBuilder::new(take(&mut workload.pools));
    each_rule(parts.workload, "workload", |rule| Ok(builder.rule(&rule)?))?;
    each_route(parts.workload, |route| Ok(builder.route(route)?))?;
    builder.begin_cluster(take(&mut cluster.pools));
    each_rule(parts.cluster, "cluster", |rule| Ok(builder.rule(&rule)?))?;
    Ok(Loaded { table: builder.finish(cluster, workload)?, version: version(snapshot)? })
}

/// The rows of a snapshot as JSON: `{"cluster": …, "workload": …}`.
pub fn rows(snapshot: &[u8]) -> Result<Vec<u8>, SnapshotError> {
    #[derive(serde::Serialize)]
    struct Rows {
        cluster: wire::ClusterPart,
        workload: wire::WorkloadPart,
    }
    let parts = parts(snapshot)?;
    check_cluster(parts.cluster, READER_VERSION)?;
    check_workload(parts.workload, READER_VERSION)?;
    let rows = Rows {
        cluster: decode(parts.cluster, "cluster")?,
        workload: decode(parts.workload, "workload")?,
    };
    serde_json::to_vec(&rows).map_err(|error| SnapshotError::Rows(error.to_string()))
}

/// The two parts' bytes.
#[derive(Default)]
pub(crate) struct Parts<'b> {
    pub(crate) cluster: &'b [u8],
    pub(crate) workload: &'b [u8],
}

pub(crate) fn parts(snapshot: &[u8]) -> Result<Parts<'_>, SnapshotError> {
    if snapshot.len() > MAX_SNAPSHOT_BYTES {
        return Err(SnapshotError::TooLarge {
            what: "bytes",
            found: snapshot.len(),
            limit: MAX_SNAPSHOT_BYTES,
        });
    }
    let mut parts = Parts::default();
    let mut before = 0;
    for field in fields(snapshot) {
        let field = field?;
        let canonical = field.minimal && field.number > before;
        let content = field.content.filter(|content| canonical && !content.is_empty());
        match (field.number, content) {
            (1, Some(content)) => parts.cluster = content,
            (2, Some(content)) => parts.workload = content,
            _ => return Err(SnapshotError::NotCanonical("outer")),
        }
        before = field.number;
    }
    Ok(parts)
}

/// Refuses what is no cluster part.
pub(crate) fn check_cluster(bytes: &[u8], reader: u32) -> Result<(), SnapshotError> {
    cluster(bytes, reader)?;
    each_rule(bytes, "cluster", |_| Ok(()))
}

/// Refuses what is no workload part.
pub(crate) fn check_workload(bytes: &[u8], reader: u32) -> Result<(), SnapshotError> {
    workload(bytes, reader)?;
    each_rule(bytes, "workload", |_| Ok(()))?;
    each_route(bytes, |_| Ok(()))
}

/// The field of rules in either part.
const RULES: u64 = 4;
/// The field of routes in the workload's part.
const ROUTES: u64 = 5;

/// A cluster part in canonical form, without its rules.
fn cluster(bytes: &[u8], reader: u32) -> Result<rows::ClusterRows, SnapshotError> {
    check_messages(bytes)?;
    let part: wire::ClusterPart = decode_without(&[RULES], bytes, "cluster")?;
    check_reader("cluster", part.reader_version, reader)?;
    check_pools(pools(part.pools.as_ref(), "cluster")?)?;
    check("cluster_networks", &part.cluster_networks, String::clone)?;
    check("probe_networks", &part.probe_networks, String::clone)?;
    check("revoked", &part.revoked, revocation_key)?;
    read::cluster(part)
}

/// A workload part in canonical form, without its rules and routes.
fn workload(bytes: &[u8], reader: u32) -> Result<rows::WorkloadRows, SnapshotError> {
    check_messages(bytes)?;
    let part: wire::WorkloadPart = decode_without(&[RULES, ROUTES], bytes, "workload")?;
    check_reader("workload", part.reader_version, reader)?;
    check_pools(pools(part.pools.as_ref(), "workload")?)?;
    part.ports.iter().chain(&part.other).try_for_each(check_port)?;
    check("ports", &part.ports, |port| port.number)?;
    read::workload(part)
}

/// The rules of a part, one by one.
fn each_rule(
    bytes: &[u8],
    part: &'static str,
    mut take: impl FnMut(rows::Rule) -> Result<(), SnapshotError>,
) -> Result<(), SnapshotError> {
    each(RULES, bytes, |content| {
        let rule: wire::Rule = decode(content, part)?;
        check("rule.conditions", &rule.conditions, |index| *index)?;
        take(read::rule(rule)?)
    })
}

/// The routes of a workload part, one by one.
fn each_route(
    bytes: &[u8],
    mut take: impl FnMut(Route) -> Result<(), SnapshotError>,
) -> Result<(), SnapshotError> {
    each(ROUTES, bytes, |content| {
        let route: wire::Route = decode(content, "workload")?;
        check_route(&route)?;
        take(read::route(route)?)
    })
}

fn each<'b>(
    number: u64,
    bytes: &'b [u8],
    mut take: impl FnMut(&'b [u8]) -> Result<(), SnapshotError>,
) -> Result<(), SnapshotError> {
    for field in fields(bytes) {
        let field = field?;
        if let Some(content) = field.content.filter(|_| field.number == number) {
            take(content)?;
        }
    }
    Ok(())
}

/// Decodes a part but for the messages in some of its fields, which are left to [`each`]. That these stand where they
/// belong is checked here, that each is canonical in itself there: together that is the check of [`decode`].
fn decode_without<T: Message + Default>(
    left_out: &[u64],
    bytes: &[u8],
    part: &'static str,
) -> Result<T, SnapshotError> {
    let mut rest = Vec::new();
    let mut before = 0;
    for field in fields(bytes) {
        let field = field?;
        if !field.minimal || field.number < before {
            return Err(SnapshotError::NotCanonical(part));
        }
        before = field.number;
        if field.content.is_none() || !left_out.contains(&field.number) {
            rest.extend_from_slice(field.whole);
        }
    }
    decode(&rest, part)
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
