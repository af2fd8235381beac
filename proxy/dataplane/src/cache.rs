//! The last assignment and the last confirmation in the state folder, so that a restarted proxy enforces while policyd is
//! away. What lies there is verified as if it had just come.

use prost::Message;

use crate::assignment::{Accepted, Addressee, Refused, Source};
use crate::generated::{Assignment, Confirmation, Signed};
use crate::state_dir::StateDir;
use crate::trust::Bundles;

const ASSIGNMENT: &str = "assignment";
const CONFIRMATION: &str = "confirmation";

/// Keeps an assignment, complete with all its bytes.
pub fn keep_assignment(state: &StateDir, assignment: &Assignment) -> std::io::Result<()> {
    state.write(ASSIGNMENT, &assignment.encode_to_vec())
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
    let accepted = Assignment::decode(bytes.as_slice())
        .map_err(|error| error.to_string())
        .and_then(|assignment| {
            addressee
                .accept(assignment, None, bundles, Source::Cache)
                .map_err(|refused: Refused| refused.to_string())
        })
        .map_err(|problem| set_aside(state, ASSIGNMENT, &problem))?;
    let mut accepted = accepted;
    let mut vouched = accepted.issued_millis;
    if let Some(confirmation) = confirmation(state, addressee, bundles, &accepted) {
        vouched = vouched.max(confirmation.at_millis);
        accepted.holding.held.epoch = confirmation.epoch;
        accepted.holding.held.basis = confirmation.basis;
    }
    Ok(Some((accepted, vouched)))
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
