//! Bounds of what is read, looked at before anything is decoded.

use crate::{
    SnapshotError,
    fields::{fields, varint},
};

/// LIMIT: the largest snapshot, in bytes: 100,000 rules with a route each take about 20 MiB.
pub const MAX_SNAPSHOT_BYTES: usize = 64 << 20;

/// LIMIT: the most messages in one part. An empty message takes two bytes on the wire and some two hundred in memory, so
/// a count before decoding is what bounds memory.
pub const MAX_MESSAGES: usize = 1_000_000;

/// The messages of the schema that hold or are repeated messages.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Part,
    Pools,
    NetworkSet,
    Route,
    RouteRule,
    Match,
    Port,
    Leaf,
}

impl Kind {
    /// The kind of message that stands in a field; none where it is no message.
    fn child(self, field: u64) -> Option<Self> {
        match (self, field) {
            (Self::Part, 3) => Some(Self::Pools),
            (Self::Part, 5) => Some(Self::Route),
            (Self::Part, 6 | 7) => Some(Self::Port),
            (Self::Pools, 2) => Some(Self::NetworkSet),
            (Self::Route, 5) => Some(Self::RouteRule),
            (Self::RouteRule, 1) => Some(Self::Match),
            (Self::Part, 4)
            | (Self::Pools, 1 | 3)
            | (Self::NetworkSet, 1)
            | (Self::Match, 4 | 5)
            | (Self::Port, 11) => Some(Self::Leaf),
            _ => None,
        }
    }
}

/// Counts the messages in the bytes of a part; stops at the limit.
pub(crate) fn check_messages(part: &[u8]) -> Result<(), SnapshotError> {
    let mut count = 0;
    walk(part, Kind::Part, &mut count)
}

fn walk(bytes: &[u8], kind: Kind, count: &mut usize) -> Result<(), SnapshotError> {
    for field in fields(bytes) {
        let field = field?;
        // A cluster's `revoked` and networks have the numbers of a workload's routes and ports. Read as those, what isn't
        // a message counts as one and is not walked into.
        let (Some(content), Some(child)) = (field.content, kind.child(field.number)) else {
            continue;
        };
        *count += 1;
        if *count > MAX_MESSAGES {
            let (found, limit) = (*count, MAX_MESSAGES);
            return Err(SnapshotError::TooLarge { what: "messages", found, limit });
        }
        if !matches!(child, Kind::Leaf) && is_message(content) {
            walk(content, child, count)?;
        }
    }
    Ok(())
}

/// Whether bytes have the shape of a message; a CIDR as text may not.
fn is_message(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let Ok(key) = varint(&mut bytes) else { return false };
        let rest = match key & 7 {
            0 => varint(&mut bytes).is_ok().then_some(bytes),
            1 => bytes.get(8..),
            2 => varint(&mut bytes)
                .ok()
                .and_then(|length| usize::try_from(length).ok())
                .and_then(|length| bytes.get(length..)),
            5 => bytes.get(4..),
            _ => None,
        };
        let Some(rest) = rest else { return false };
        bytes = rest;
    }
    true
}
