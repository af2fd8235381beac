//! The last assignment, its snapshot and the last confirmation in the state folder, so that a restarted proxy enforces
//! while policyd is away. What lies there is verified as if it had just come.
//!
//! The snapshot has a file of its own, named by its hash: it is written before the assignment that names it and removed
//! after the one that doesn't, so that a crash in between leaves a pair. Its bytes are nowhere in memory.

use std::io;

use prost::Message;

use crate::assignment::{Accepted, Addressee, Holding, Refused, Source};
use crate::certificate::hex;
use crate::generated::{Assignment, Confirmation, Envelope, Signed};
use crate::state_dir::StateDir;
use crate::trust::Bundles;

const ASSIGNMENT: &str = "assignment";
const CONFIRMATION: &str = "confirmation";
const SNAPSHOT: &str = "snapshot-";

/// Keeps what was accepted, with the snapshot's bytes where they aren't kept already.
pub fn keep_assignment(state: &StateDir, holding: &Holding, snapshot: &[u8]) -> io::Result<()> {
    let name = snapshot_name(&holding.held.snapshot_sha256);
    if !state.has(&name) {
        if snapshot.is_empty() {
            return Err(io::Error::other("its snapshot was never written"));
        }
        state.write(&name, snapshot)?;
    }
    state.write(ASSIGNMENT, &holding.assignment.encode_to_vec())?;
    state.remove_all_but(SNAPSHOT, &name)
}

fn snapshot_name(sha256: &[u8]) -> String {
    format!("{SNAPSHOT}{}", hex(sha256))
}

/// Forgets the kept assignment, because a later one that couldn't be kept is in force.
pub fn forget(state: &StateDir) -> std::io::Result<()> {
    state.remove(ASSIGNMENT)
}

/// Keeps a confirmation.
pub fn keep_confirmation(state: &StateDir, confirmation: &Signed) -> std::io::Result<()> {
    state.write(CONFIRMATION, &confirmation.encode_to_vec())
}

/// What was kept, verified, with the time as of which it is vouched for. What can't be used is moved aside, and why is
/// said.
pub fn resume(
    state: &StateDir,
    addressee: &Addressee,
    bundles: &Bundles,
) -> Result<Option<(Accepted, i64)>, String> {
    let Some(bytes) = read(state, ASSIGNMENT)? else { return Ok(None) };
    let mut accepted = Assignment::decode(bytes.as_slice())
        .map_err(|error| error.to_string())
        .and_then(|assignment| with_snapshot(state, assignment))
        .and_then(|assignment| {
            addressee
                .accept(assignment, None, bundles, Source::Cache)
                .map_err(|refused: Refused| refused.to_string())
        })
        .map_err(|problem| set_aside(state, ASSIGNMENT, &problem))?;
    accepted.snapshot = Vec::new();
    let mut vouched = accepted.issued_millis;
    if let Some(confirmation) = confirmation(state, addressee, bundles, &accepted) {
        vouched = vouched.max(confirmation.at_millis);
        accepted.holding.held.epoch = confirmation.epoch;
        accepted.holding.held.basis = confirmation.basis;
    }
    Ok(Some((accepted, vouched)))
}

/// Puts in the bytes of the snapshot that the assignment names. What isn't that snapshot is moved aside.
fn with_snapshot(state: &StateDir, mut assignment: Assignment) -> Result<Assignment, String> {
    let signed = assignment.envelope.as_ref().ok_or("it has no envelope")?;
    let envelope =
        Envelope::decode(signed.payload.as_slice()).map_err(|error| error.to_string())?;
    let name = snapshot_name(&envelope.snapshot_sha256);
    let bytes = read(state, &name)?.ok_or_else(|| format!("{name} is missing"))?;
    match snapshot::version(&bytes) {
        Ok(found) if found.as_slice() == envelope.snapshot_sha256 => {
            assignment.snapshot = bytes;
            Ok(assignment)
        }
        _ => Err(set_aside(state, &name, "these are not the bytes that were signed")),
    }
}

/// The kept confirmation, if it is one of this table. Without it the table is as old as its signature.
fn confirmation(
    state: &StateDir,
    addressee: &Addressee,
    bundles: &Bundles,
    accepted: &Accepted,
) -> Option<Confirmation> {
    let bytes = read(state, CONFIRMATION).ok()??;
    let signed = Signed::decode(bytes.as_slice()).ok()?;
    addressee.confirm(&signed, &accepted.holding, bundles, Source::Cache).ok()
}

fn read(state: &StateDir, name: &str) -> Result<Option<Vec<u8>>, String> {
    state.read(name).map_err(|error| set_aside(state, name, &error.to_string()))
}

fn set_aside(state: &StateDir, name: &str, problem: &str) -> String {
    state.set_aside(name);
    format!("the kept {name} is not used: {problem}")
}

#[cfg(test)]
mod tests;
