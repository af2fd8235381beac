//! Whether a peer meets a rule's authentications. The one place where it is judged, for deciding and for explaining.

use std::net::IpAddr;

use crate::{identity::SpiffeId, rows::RuleId, stored::Stored, table::Table};

/// The two things a rule can ask of a peer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peering<'c> {
    pub(crate) identity: Option<&'c SpiffeId>,
    pub(crate) source: IpAddr,
}

impl<'c> Peering<'c> {
    pub(crate) fn identity(&self) -> Option<&'c SpiffeId> {
        self.identity
    }
}

/// How a peer meets a rule's authentications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Met {
    /// All that is asked.
    Whole,
    /// A Deny met a peer without identity (A3).
    Anonymous,
    /// All but the identity, which the peer lacks altogether and somebody could have (D3).
    LacksIdentity,
    /// Not.
    Not,
}

/// Judges identity and network.
pub(crate) fn meets(table: &Table, id: RuleId, rule: &Stored, peering: &Peering<'_>) -> Met {
    match (identity_holds(table, id, rule, peering), network_holds(table, id, rule, peering)) {
        (_, false) | (Some(false), true) => Met::Not,
        (Some(true), true) => Met::Whole,
        (None, true) if rule.anonymous_too => Met::Anonymous,
        (None, true) => {
            let somebody = rule
                .identities()
                .and_then(|index| table.identities(id, index))
                .is_some_and(|set| !set.is_empty());
            if somebody { Met::LacksIdentity } else { Met::Not }
        }
    }
}

/// None where an identity is asked for and the peer has none.
pub(crate) fn identity_holds(
    table: &Table,
    id: RuleId,
    rule: &Stored,
    peering: &Peering<'_>,
) -> Option<bool> {
    let Some(index) = rule.identities() else { return Some(true) };
    let identity = peering.identity?;
    Some(table.identities(id, index).is_some_and(|set| set.contains(identity)))
}

pub(crate) fn network_holds(
    table: &Table,
    id: RuleId,
    rule: &Stored,
    peering: &Peering<'_>,
) -> bool {
    rule.networks().is_none_or(|index| {
        table.networks(id, index).is_some_and(|set| set.contains(peering.source))
    })
}
