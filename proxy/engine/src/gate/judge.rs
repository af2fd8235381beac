//! Binding or would-be: under a lenient profile only some rules refuse (semantics T5).

use super::GateProfile;
use super::refusal::{Flaw, GateRule, Refusal};
use crate::request::Version;

/// What is wrong with a head, before it is known how to answer.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) rule: GateRule,
    pub(super) offset: usize,
    field: Option<String>,
}

impl Fault {
    pub(super) fn new(rule: GateRule, offset: usize, field: &[u8]) -> Self {
        Self { rule, offset, field: Some(printable(field)) }
    }

    /// Of a line that has no name.
    pub(super) fn line(flaw: Flaw) -> Self {
        Self { rule: flaw.rule, offset: flaw.offset, field: None }
    }

    /// Of a part of the head that begins at `start`.
    pub(super) fn within(flaw: Flaw, start: usize, field: &str) -> Self {
        Self { rule: flaw.rule, offset: start + flaw.offset, field: Some(field.to_owned()) }
    }

    pub(super) fn refusal(self, grpc: bool, version: Version) -> Refusal {
        Refusal { rule: self.rule, offset: self.offset, field: self.field, grpc, version }
    }
}

/// A name as it may stand in a log: printable ASCII, at most 64 characters.
fn printable(name: &[u8]) -> String {
    name.escape_ascii().take(64).map(|byte| char::from(byte.to_ascii_lowercase())).collect()
}

/// Collects what would have refused.
pub(super) struct Judge<'p> {
    pub(super) profile: &'p GateProfile,
    unread: Option<Fault>,
}

impl<'p> Judge<'p> {
    pub(super) fn new(profile: &'p GateProfile) -> Self {
        Self { profile, unread: None }
    }

    /// A rule that doesn't bind under a lenient profile.
    ///
    /// # Errors
    /// The fault itself under any other profile.
    pub(super) fn weigh(&mut self, fault: Fault) -> Result<(), Fault> {
        if !self.profile.lenient {
            return Err(fault);
        }
        self.unread.get_or_insert(fault);
        Ok(())
    }

    pub(super) fn is_unread(&self) -> bool {
        self.unread.is_some()
    }

    pub(super) fn into_unread(self, grpc: bool, version: Version) -> Option<Refusal> {
        self.unread.map(|fault| fault.refusal(grpc, version))
    }
}
