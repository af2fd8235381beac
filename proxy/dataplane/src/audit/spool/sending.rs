//! What the stream asks of the spool: the next records of the chain, and to let go of those that are kept elsewhere.

use std::collections::VecDeque;

use bytes::Bytes;
use tracing::warn;

use super::Spool;
use crate::audit::chain::{Chain, Hash, record_hash};
use crate::audit::lost::{Reason, told};
use crate::generated::{AuditHello, AuditRecord, AuditRecords};
use crate::limits;

/// How far the stream has been told.
#[derive(Debug, Default)]
pub(super) struct Sent {
    sequence: u64,
    hash: Hash,
    /// Those after the acknowledged one: hash and length.
    unacknowledged: VecDeque<(Hash, usize)>,
    bytes: usize,
}

impl Spool {
    /// A stream begins: what was sent before counts only as far as it was acknowledged.
    pub(in crate::audit) fn hello(&mut self) -> AuditHello {
        self.rewind();
        AuditHello {
            chain: self.chain.id.0.to_vec(),
            acknowledged: self.chain.acknowledged,
            acknowledged_sha256: if self.chain.acknowledged == 0 {
                Vec::new()
            } else {
                self.chain.acknowledged_hash.to_vec()
            },
        }
    }

    pub(in crate::audit) fn rewind(&mut self) {
        self.sent = Sent {
            sequence: self.chain.acknowledged,
            hash: self.chain.acknowledged_hash,
            ..Sent::default()
        };
    }

    /// Whether something sent is not acknowledged.
    pub(in crate::audit) fn is_in_flight(&self) -> bool {
        !self.sent.unacknowledged.is_empty()
    }

    /// What comes next on the stream; none while there is nothing, or too much is not acknowledged.
    pub(in crate::audit) fn batch(&mut self) -> Option<AuditRecords> {
        let mut records = Vec::new();
        let mut bytes = 0;
        while records.len() < limits::AUDIT_BATCH_RECORDS
            && bytes < limits::AUDIT_BATCH_BYTES
            && self.sent.unacknowledged.len() < limits::AUDIT_IN_FLIGHT_RECORDS
            && self.sent.bytes < limits::AUDIT_IN_FLIGHT_BYTES
            && let Some(record) = self.next_record()
        {
            bytes += record.json.len();
            records.push(record);
        }
        (!records.is_empty()).then_some(AuditRecords { records })
    }

    pub(in crate::audit) fn next_record(&mut self) -> Option<AuditRecord> {
        let sequence = self.sent.sequence + 1;
        let json = match self.chain.first.clone().filter(|_| sequence == 1) {
            Some(first) => first,
            None => self.read(self.chain.position(sequence))?,
        };
        let previous = self.sent.hash;
        self.sent.sequence = sequence;
        self.sent.hash = record_hash(self.chain.id, sequence, &previous, &json);
        self.sent.unacknowledged.push_back((self.sent.hash, json.len()));
        self.sent.bytes += json.len();
        Some(AuditRecord { sequence, previous_sha256: previous.to_vec(), json: json.to_vec() })
    }

    /// The record at a position. One that can't be read any more is told as lost, in its place.
    pub(in crate::audit) fn read(&mut self, position: u64) -> Option<Bytes> {
        if position > self.head {
            return None;
        }
        if let Some(at) = position.checked_sub(self.window_first()) {
            let at = usize::try_from(at).ok()?;
            if let Some(segments) = self.segments.as_mut() {
                segments.unload();
            }
            return self.window.get(at).cloned();
        }
        let kept = self.segments.as_mut().and_then(|segments| segments.read(position));
        Some(kept.unwrap_or_else(|| {
            self.metrics.audit.lost(Reason::Damaged, 1);
            let record = self.writer.lost(1, "damaged");
            self.said.push(record.clone());
            record
        }))
    }

    /// Everything up to this sequence is kept elsewhere. False where it was never sent: then the store has a chain of this
    /// name that this spool lacks.
    pub(in crate::audit) fn acknowledge(&mut self, sequence: u64) -> bool {
        if sequence > self.sent.sequence {
            return false;
        }
        while self.chain.acknowledged < sequence
            && let Some((hash, length)) = self.sent.unacknowledged.pop_front()
        {
            self.chain.acknowledged += 1;
            self.chain.acknowledged_hash = hash;
            self.sent.bytes = self.sent.bytes.saturating_sub(length);
            self.metrics.audit.acknowledged.add(1);
            self.is_saved = false;
        }
        self.forget();
        true
    }

    /// The store doesn't go on with this chain: another begins, with all that isn't acknowledged. Where the store never
    /// took anything of a chain that was begun for this reason, what was sent of it is given up and counted, for otherwise
    /// it would be refused for ever.
    pub(in crate::audit) fn begin_chain(&mut self, why: &str) {
        let (sent, acknowledged) = (self.sent.sequence, self.chain.acknowledged);
        let is_second = acknowledged == 0 && self.chain.first.is_some();
        let mut base = self.chain.acknowledged_position();
        if is_second && sent > 0 {
            base = self.give_up(self.chain.position(sent));
        }
        self.follow(base, why);
        if let Err(error) = self.save() {
            self.failed(&error);
        }
        self.forget();
    }

    /// Another chain, for what comes after `base`.
    pub(in crate::audit) fn follow(&mut self, base: u64, why: &str) {
        let after = self.chain.tail();
        let first = self.writer.chain(&after, why);
        warn!(after, why, "another audit chain begins");
        self.said.push(first.clone());
        self.chain = Chain { first: Some(first), after, ..Chain::new(base) };
        self.is_saved = false;
        self.rewind();
    }

    /// Counts what stands between the acknowledged position and this one.
    pub(in crate::audit) fn give_up(&mut self, to: u64) -> u64 {
        for position in self.chain.acknowledged_position() + 1..=to {
            let Some(record) = self.read(position) else { break };
            match told(&record) {
                Some((reason, count)) => self.miss(reason, count),
                None => self.lose(Reason::Refused, 1),
            }
        }
        to
    }
}
