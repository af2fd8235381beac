//! A chain of records: what number each has, and which hash stands for all that came before it.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::rand;
use bytes::Bytes;
use prost::Message;

use super::lost::{Counts, REASONS};

/// SHA-256.
pub type Hash = [u8; 32];

/// What the first record of a chain follows.
pub const NO_PREVIOUS: Hash = [0; 32];

/// No position or sequence of ours.
const LAST: u64 = 1 << 61;

const DOMAIN: &[u8] = b"policyd.v1.AuditRecord\0";

/// A record's hash (`audit.proto`).
pub fn record_hash(chain: ChainId, sequence: u64, previous: &Hash, json: &[u8]) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(DOMAIN);
    context.update(&chain.0);
    context.update(&sequence.to_be_bytes());
    context.update(previous);
    context.update(json);
    hash_of(context.finish().as_ref())
}

fn hash_of(bytes: &[u8]) -> Hash {
    // SHA-256 is never of another length; a state file may hold anything.
    bytes.try_into().unwrap_or(NO_PREVIOUS)
}

/// Names a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainId(pub [u8; 16]);

impl ChainId {
    /// Another than all before.
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        if rand::fill(&mut bytes).is_err() {
            bytes = *uuid::Uuid::now_v7().as_bytes();
        }
        Self(bytes)
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// One chain of this spool. What the spool holds has positions, which rise for ever; a chain begins after one of them
/// (`base`) and gives what follows its sequences. A record that says which chain this one follows stands in front.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    pub(super) id: ChainId,
    pub(super) base: u64,
    pub(super) first: Option<Bytes>,
    /// What `first` says that it follows.
    pub(super) after: String,
    /// The highest sequence that was acknowledged, and that record's hash.
    pub(super) acknowledged: u64,
    pub(super) acknowledged_hash: Hash,
}

impl Chain {
    /// One that follows nothing, for what comes after `base`.
    pub(super) fn new(base: u64) -> Self {
        Self {
            id: ChainId::random(),
            base,
            first: None,
            after: String::new(),
            acknowledged: 0,
            acknowledged_hash: NO_PREVIOUS,
        }
    }

    /// The position of the record of this sequence; `base` for what stands in front.
    pub(super) fn position(&self, sequence: u64) -> u64 {
        self.base.saturating_add(sequence.saturating_sub(u64::from(self.first.is_some())))
    }

    /// Everything up to here needs to be kept no longer.
    pub(super) fn acknowledged_position(&self) -> u64 {
        self.position(self.acknowledged)
    }

    /// What a chain that follows this one says that it follows: of chains that were never taken, the one before them.
    pub(super) fn tail(&self) -> String {
        if self.acknowledged == 0 && self.first.is_some() {
            self.after.clone()
        } else {
            format!("{}:{}", self.id, self.acknowledged)
        }
    }
}

/// A chain as it lies in the state folder, with what was lost and isn't told yet.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct KeptChain {
    #[prost(bytes = "vec", tag = "1")]
    chain: Vec<u8>,
    #[prost(uint64, tag = "2")]
    base: u64,
    #[prost(bytes = "vec", tag = "3")]
    first: Vec<u8>,
    #[prost(string, tag = "4")]
    after: String,
    #[prost(uint64, tag = "5")]
    acknowledged: u64,
    #[prost(bytes = "vec", tag = "6")]
    acknowledged_sha256: Vec<u8>,
    /// In the order of `REASONS`, which only grows at its end.
    #[prost(uint64, repeated, tag = "7")]
    lost: Vec<u64>,
}

impl KeptChain {
    pub(super) fn of(chain: &Chain, lost: &Counts) -> Self {
        Self {
            chain: chain.id.0.to_vec(),
            base: chain.base,
            first: chain.first.as_deref().unwrap_or_default().to_vec(),
            after: chain.after.clone(),
            acknowledged: chain.acknowledged,
            acknowledged_sha256: chain.acknowledged_hash.to_vec(),
            lost: lost.to_vec(),
        }
    }

    /// None where it can't be one.
    pub(super) fn read(self) -> Option<(Chain, Counts)> {
        let chain = Chain {
            id: ChainId(self.chain.try_into().ok()?),
            base: self.base,
            first: (!self.first.is_empty()).then(|| Bytes::from(self.first)),
            after: self.after,
            acknowledged: self.acknowledged,
            acknowledged_hash: self.acknowledged_sha256.try_into().ok()?,
        };
        if chain.base.max(chain.acknowledged) > LAST {
            return None;
        }
        let mut lost = [0; REASONS.len()];
        for (count, kept) in lost.iter_mut().zip(self.lost) {
            *count = kept;
        }
        Some((chain, lost))
    }
}
