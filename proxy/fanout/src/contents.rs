//! What proxies are to know, as bytes by their hashes; the same bytes are held once, however many proxies want them.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use bytes::Bytes;

use crate::generated::Basis;

/// Bytes and the hash that names them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) sha256: Box<[u8]>,
    pub(crate) bytes: Bytes,
}

/// For whom: names that the proxy compares with its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Ours.
    pub trust_domain: String,
    /// `kind/namespace/name`.
    pub workload: String,
    /// Empty for an external workload.
    pub pod_uid: String,
}

/// A part of what a proxy is to know, borrowed from who says so.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// The hash that the envelope names.
    pub sha256: &'a [u8],
    /// The bytes.
    pub bytes: &'a [u8],
}

/// All parts of it.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// Its rule table.
    pub snapshot: Part<'a>,
    /// Its pod facts.
    pub facts: Part<'a>,
    /// Where the services are that it calls.
    pub discovery: Part<'a>,
}

/// As of when something is true.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Standing {
    /// Compared before the basis.
    pub epoch: u64,
    /// (source, kind, revision), sorted.
    pub basis: Vec<(String, String, u64)>,
    /// Milliseconds since the epoch.
    pub at_millis: i64,
}

impl Standing {
    pub(crate) fn rows(&self) -> Vec<Basis> {
        self.basis
            .iter()
            .map(|(source, kind, revision)| Basis {
                source: source.clone(),
                kind: kind.clone(),
                revision: *revision,
            })
            .collect()
    }
}

/// All that one proxy is to know, and as of when that was so.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) subject: Subject,
    pub(crate) snapshot: Arc<Content>,
    pub(crate) facts: Arc<Content>,
    pub(crate) discovery: Arc<Content>,
    pub(crate) as_of: Arc<Standing>,
}

impl Wanted {
    /// Whether the same is to be known, whoever says it and as of when.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        self.snapshot.sha256 == other.snapshot.sha256
            && self.facts.sha256 == other.facts.sha256
            && self.discovery.sha256 == other.discovery.sha256
    }
}

/// The contents that some stream holds, by hash.
#[derive(Debug, Default)]
pub(crate) struct Interned {
    known: HashMap<Box<[u8]>, Weak<Content>>,
    purge_at: usize,
}

/// Fewer are not worth a purge.
const LEAST_PURGED: usize = 1_024;

impl Interned {
    pub(crate) fn get(&mut self, part: Part<'_>) -> Arc<Content> {
        if let Some(known) = self.known.get(part.sha256).and_then(Weak::upgrade) {
            return known;
        }
        if self.known.len() >= self.purge_at.max(LEAST_PURGED) {
            self.known.retain(|_, content| content.strong_count() > 0);
            self.purge_at = self.known.len() * 2;
        }
        let content = Arc::new(Content {
            sha256: part.sha256.into(),
            bytes: Bytes::copy_from_slice(part.bytes),
        });
        self.known.insert(part.sha256.into(), Arc::downgrade(&content));
        content
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_are_held_once_and_forgotten_with_their_last_holder() {
        let mut interned = Interned::default();
        let one = interned.get(Part { sha256: b"h", bytes: b"content" });
        let other = interned.get(Part { sha256: b"h", bytes: b"content" });
        assert!(Arc::ptr_eq(&one, &other));
        drop((one, other));
        for number in 0..10_000_u32 {
            drop(interned.get(Part { sha256: &number.to_be_bytes(), bytes: b"c" }));
        }
        assert!(interned.known.len() <= LEAST_PURGED);
    }
}
