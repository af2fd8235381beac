//! Records between the moment of a denial and the moment when policyd keeps it: in memory, and on disk as soon as written.
//!
//! Every record is written to the disk at once (so that the end of the process, even by SIGKILL, loses none that is here)
//! and made to outlive a loss of power twice a second. Memory is a window on the newest, and all there is where the disk
//! can't be written. Where there is no room records are counted instead, and the count is told as a record.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use tracing::{info, warn};

use super::chain::{Chain, Hash, KeptChain, record_hash};
use super::lost::{Counts, REASONS, Reason, Writer, place, told};
use super::segments::{Segments, Unwritten};
use crate::generated::{AuditHello, AuditRecord, AuditRecords};
use crate::limits;
use crate::metrics::Metrics;
use crate::state_dir::StateDir;

const CHAIN: &str = "audit-chain";
const FOLDER: &str = "audit";
/// Which part of memory must be free before what was lost is told, so that a spool at its bound doesn't tell of each.
const ROOM: usize = 16;
/// Records written to the disk with one call, at most.
const CHUNK: usize = 256;

/// What a spool takes up at most.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Records in memory.
    pub memory_records: usize,
    /// Bytes of records in memory.
    pub memory_bytes: usize,
    /// Bytes of all files.
    pub disk_bytes: u64,
    /// After this many bytes a new file is begun.
    pub segment_bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            memory_records: limits::AUDIT_MEMORY_RECORDS,
            memory_bytes: limits::AUDIT_MEMORY_BYTES,
            disk_bytes: limits::AUDIT_DISK_BYTES,
            segment_bytes: limits::AUDIT_SEGMENT_BYTES,
        }
    }
}

/// How far the stream has been told.
#[derive(Debug, Default)]
struct Sent {
    sequence: u64,
    hash: Hash,
    /// Those after the acknowledged one: hash and length.
    unacknowledged: VecDeque<(Hash, usize)>,
    bytes: usize,
}

/// Why the spool isn't on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disk {
    Fine,
    Full,
    Failing,
    Absent,
}

/// The spool.
#[derive(Debug)]
pub(super) struct Spool {
    state: Option<StateDir>,
    pub(super) segments: Option<Segments>,
    disk: Disk,
    /// It was said that the disk fails, and not yet that it works again.
    is_failure_said: bool,
    bounds: Bounds,
    metrics: Arc<Metrics>,
    pub(super) writer: Writer,
    chain: Chain,
    is_saved: bool,
    sent: Sent,
    /// The position of the last record.
    head: u64,
    /// The highest position on disk.
    written: u64,
    /// The newest records, up to `head`.
    window: VecDeque<Bytes>,
    window_bytes: usize,
    /// Bytes of those in the window that are nowhere else.
    unwritten_bytes: usize,
    lost: Counts,
    is_losing: bool,
    said: Vec<Bytes>,
}

impl Spool {
    /// With what the state folder holds; without one, or where it can't be used, in memory only.
    pub(super) fn open(
        state: Option<StateDir>,
        bounds: Bounds,
        writer: Writer,
        metrics: Arc<Metrics>,
    ) -> Self {
        let disk = if state.is_some() { Disk::Fine } else { Disk::Absent };
        let mut spool = Self {
            state,
            segments: None,
            disk,
            is_failure_said: false,
            bounds,
            metrics,
            writer,
            chain: Chain::new(0),
            is_saved: false,
            sent: Sent::default(),
            head: 0,
            written: 0,
            window: VecDeque::new(),
            window_bytes: 0,
            unwritten_bytes: 0,
            lost: Counts::default(),
            is_losing: false,
            said: Vec::new(),
        };
        if disk == Disk::Fine
            && let Err(error) = spool.attach()
        {
            spool.failed(&error);
        }
        spool.rewind();
        spool.gauge();
        spool
    }

    /// Takes up what is on disk.
    fn attach(&mut self) -> io::Result<()> {
        let Some(state) = self.state.clone() else { return Ok(()) };
        let mut segments = Segments::recover(state.folder(FOLDER)?, self.bounds)?;
        match kept_chain(&state) {
            Some((chain, lost)) => (self.chain, self.lost) = (chain, lost),
            None => self.chain = Chain::new(segments.first().map_or(0, |first| first - 1)),
        }
        let acknowledged = self.chain.acknowledged_position();
        segments.release(acknowledged);
        if let Some(first) = segments.first().filter(|first| *first > acknowledged + 1) {
            self.lose(Reason::Damaged, first - acknowledged - 1);
            self.follow(first - 1, "SPOOL_DAMAGED");
        }
        self.is_losing = self.has_untold();
        self.head = segments.last().max(self.chain.acknowledged_position());
        self.written = self.head;
        self.segments = Some(segments);
        self.is_saved = false;
        self.save()
    }

    /// Keeps a record, or counts it. Nothing is written before [`Spool::settle`], if there is room.
    pub(super) fn keep(&mut self, record: Bytes) {
        if self.is_losing && !self.tell() {
            return self.lose(self.reason(), 1);
        }
        if !self.has_room(1, record.len()) {
            self.write_down();
        }
        if !self.has_room(1, record.len()) {
            self.is_losing = true;
            return self.lose(self.reason(), 1);
        }
        self.push(record);
    }

    /// Counts records that are lost, whoever lost them.
    pub(super) fn lose(&mut self, reason: Reason, count: u64) {
        self.metrics.audit.lost(reason, count);
        self.miss(reason, count);
    }

    /// Counts for the next record of loss only, because the metric has it.
    pub(super) fn miss(&mut self, reason: Reason, count: u64) {
        if let Some(lost) = self.lost.get_mut(place(reason)) {
            *lost = lost.saturating_add(count);
        }
        self.is_saved = false;
    }

    /// Writes down what came, tells what was lost, makes room.
    pub(super) fn settle(&mut self) {
        self.write_down();
        if self.has_untold() && self.tell() {
            self.write_down();
        }
        self.evict();
        self.gauge();
    }

    /// What is due now and then: the disk is waited for, and tried again where it failed.
    pub(super) fn tick(&mut self) {
        if self.disk == Disk::Failing {
            self.disk = Disk::Fine;
            if self.segments.is_none() {
                self.reattach();
            }
            self.is_saved = false;
        }
        self.settle();
        let synced = self.segments.as_mut().map_or(Ok(()), Segments::sync);
        if let Err(error) = synced.and_then(|()| self.save()) {
            self.failed(&error);
        }
        if self.is_failure_said && self.disk == Disk::Fine {
            info!("the audit spool is on disk again");
            self.is_failure_said = false;
        }
    }

    /// The folder could not be used at the start. What it holds from before stays as it is until the next start.
    fn reattach(&mut self) {
        let Some(state) = &self.state else { return };
        let opened = state.folder(FOLDER).and_then(|folder| Segments::recover(folder, self.bounds));
        match opened {
            Ok(segments) if segments.last() == 0 && matches!(state.read(CHAIN), Ok(None)) => {
                self.segments = Some(segments);
            }
            Ok(_) => self.disk = Disk::Absent,
            Err(error) => self.failed(&error),
        }
    }

    /// Whether [`Spool::tick`] has something to do.
    pub(super) fn is_busy(&self) -> bool {
        let dirty = self.segments.as_ref().is_some_and(Segments::is_dirty);
        let unsaved = self.segments.is_some() && !self.is_saved;
        dirty || unsaved || self.disk == Disk::Failing || self.has_untold()
    }

    /// Everything is acknowledged, and nothing is left to tell.
    pub(super) fn is_drained(&self) -> bool {
        self.waiting() == 0 && !self.has_untold()
    }

    /// Records that are not acknowledged.
    pub(super) fn waiting(&self) -> u64 {
        let front = u64::from(self.chain.acknowledged == 0 && self.chain.first.is_some());
        self.head - self.chain.acknowledged_position().min(self.head) + front
    }

    /// Lines of the trail itself, for stdout.
    pub(super) fn said(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.said)
    }

    fn push(&mut self, record: Bytes) {
        self.head += 1;
        self.window_bytes += record.len();
        self.unwritten_bytes += record.len();
        self.window.push_back(record);
    }

    /// The position of the oldest record in the window.
    fn window_first(&self) -> u64 {
        self.head + 1 - self.window.len() as u64
    }

    /// Up to here nothing is in memory only.
    fn safe(&self) -> u64 {
        self.written.max(self.chain.acknowledged_position())
    }

    fn has_room(&self, records: usize, bytes: usize) -> bool {
        let unwritten =
            usize::try_from(self.head.saturating_sub(self.safe())).unwrap_or(usize::MAX);
        unwritten.saturating_add(records) <= self.bounds.memory_records
            && self.unwritten_bytes.saturating_add(bytes) <= self.bounds.memory_bytes
    }

    fn reason(&self) -> Reason {
        if self.disk == Disk::Failing { Reason::Disk } else { Reason::SpoolFull }
    }

    fn has_untold(&self) -> bool {
        self.lost.iter().any(|count| *count > 0)
    }

    /// Tells what was lost, if there is room.
    fn tell(&mut self) -> bool {
        self.write_down();
        let records = self.bounds.memory_records / ROOM + REASONS.len();
        if !self.has_room(records, self.bounds.memory_bytes / ROOM) {
            return false;
        }
        for (at, (_, word)) in REASONS.iter().enumerate() {
            let count = self.lost.get_mut(at).map_or(0, std::mem::take);
            if count > 0 {
                let record = self.writer.lost(count, word);
                self.said.push(record.clone());
                self.push(record);
            }
        }
        self.is_losing = false;
        self.is_saved = false;
        // Told, and not to be told again after a restart.
        self.write_down();
        if let Err(error) = self.save() {
            self.failed(&error);
        }
        true
    }

    /// Writes what is in memory only to the disk, as far as that goes.
    fn write_down(&mut self) {
        self.written = self.safe();
        while self.disk == Disk::Fine && self.written < self.head {
            match self.write_chunk() {
                Ok(()) => {}
                // Until a file could be removed.
                Err(Unwritten::Full) => self.disk = Disk::Full,
                Err(Unwritten::Failed(error)) => self.failed(&error),
            }
        }
    }

    fn write_chunk(&mut self) -> Result<(), Unwritten> {
        let from = usize::try_from(self.written + 1 - self.window_first()).unwrap_or(0);
        let chunk: Vec<_> = self.window.iter().skip(from).take(CHUNK).cloned().collect();
        // A gap on disk is one of what was acknowledged; after a restart that must be known.
        if self.segments.as_ref().is_some_and(|segments| segments.last() < self.written) {
            self.save()?;
        }
        let Some(segments) = self.segments.as_mut() else {
            return Err(io::Error::other("there is no folder").into());
        };
        segments.append(self.written + 1, &chunk)?;
        self.written += chunk.len() as u64;
        self.unwritten_bytes -= chunk.iter().map(Bytes::len).sum::<usize>();
        Ok(())
    }

    /// Says it once, until it works again.
    fn failed(&mut self, error: &io::Error) {
        self.disk = Disk::Failing;
        if !self.is_failure_said {
            warn!(problem = error.to_string(), "the audit spool is in memory only");
        }
        self.is_failure_said = true;
    }

    fn evict(&mut self) {
        let acknowledged = self.chain.acknowledged_position();
        while let Some(oldest) = self.window.front() {
            let (position, length) = (self.window_first(), oldest.len());
            let too_much = self.window.len() > self.bounds.memory_records
                || self.window_bytes > self.bounds.memory_bytes;
            if position > acknowledged && !(too_much && position <= self.written) {
                return;
            }
            if position > self.written {
                self.unwritten_bytes -= length;
            }
            self.window_bytes -= length;
            self.window.pop_front();
        }
    }

    fn gauge(&self) {
        self.metrics.audit.spooled.set(i64::try_from(self.waiting()).unwrap_or(i64::MAX));
    }

    /// Keeps chain and counts in the state folder, if they have changed.
    fn save(&mut self) -> io::Result<()> {
        let is_due = self.segments.is_some() && !self.is_saved;
        if let Some(state) = self.state.as_ref().filter(|_| is_due) {
            state.write(CHAIN, &KeptChain::of(&self.chain, &self.lost).encode_to_vec())?;
        }
        self.is_saved = true;
        Ok(())
    }

    /// A stream begins: what was sent before counts only as far as it was acknowledged.
    pub(super) fn hello(&mut self) -> AuditHello {
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

    fn rewind(&mut self) {
        self.sent = Sent {
            sequence: self.chain.acknowledged,
            hash: self.chain.acknowledged_hash,
            ..Sent::default()
        };
    }

    /// Whether something sent is not acknowledged.
    pub(super) fn is_in_flight(&self) -> bool {
        !self.sent.unacknowledged.is_empty()
    }

    /// What comes next on the stream; none while there is nothing, or too much is not acknowledged.
    pub(super) fn batch(&mut self) -> Option<AuditRecords> {
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

    fn next_record(&mut self) -> Option<AuditRecord> {
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
    fn read(&mut self, position: u64) -> Option<Bytes> {
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
    pub(super) fn acknowledge(&mut self, sequence: u64) -> bool {
        if sequence > self.sent.sequence {
            return false;
        }
        while self.chain.acknowledged < sequence
            && let Some((hash, length)) = self.sent.unacknowledged.pop_front()
        {
            self.chain.acknowledged += 1;
            self.chain.acknowledged_hash = hash;
            self.sent.bytes -= length;
            self.metrics.audit.acknowledged.add(1);
            self.is_saved = false;
        }
        self.forget();
        true
    }

    /// Lets go of what is acknowledged: of a file only after that is written down.
    fn forget(&mut self) {
        self.evict();
        let position = self.chain.acknowledged_position();
        if self.segments.as_ref().is_some_and(|segments| segments.can_release(position)) {
            match self.save() {
                Ok(()) => {
                    if let Some(segments) = self.segments.as_mut() {
                        segments.release(position);
                    }
                    if self.disk == Disk::Full {
                        self.disk = Disk::Fine;
                    }
                }
                Err(error) => self.failed(&error),
            }
        }
        self.settle();
    }

    /// The store doesn't go on with this chain: another begins, with all that isn't acknowledged. Where the store never
    /// took anything of a chain that was begun for this reason, what was sent of it is given up and counted, for otherwise
    /// it would be refused for ever.
    pub(super) fn begin_chain(&mut self, why: &str) {
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
    fn follow(&mut self, base: u64, why: &str) {
        let after = self.chain.tail();
        let first = self.writer.chain(&after, why);
        warn!(after, why, "another audit chain begins");
        self.said.push(first.clone());
        self.chain = Chain { first: Some(first), after, ..Chain::new(base) };
        self.is_saved = false;
        self.rewind();
    }

    /// Counts what stands between the acknowledged position and this one.
    fn give_up(&mut self, to: u64) -> u64 {
        for position in self.chain.acknowledged_position() + 1..=to {
            let Some(record) = self.read(position) else { break };
            match told(&record) {
                Some((reason, count)) => self.miss(reason, count),
                None => self.lose(Reason::Refused, 1),
            }
        }
        to
    }

    /// At the end: everything is on disk, or it is said what isn't.
    pub(super) fn close(&mut self) {
        self.tick();
        let memory_only = self.head.saturating_sub(self.safe());
        let untold: u64 = self.lost.iter().sum();
        if memory_only > 0 || (untold > 0 && !self.is_saved) {
            warn!(records = memory_only, untold, "denials that policyd never got end here");
        }
    }
}

fn kept_chain(state: &StateDir) -> Option<(Chain, Counts)> {
    let bytes = match state.read(CHAIN) {
        Ok(bytes) => bytes?,
        Err(error) => {
            warn!(problem = error.to_string(), "the kept audit chain is not used");
            state.set_aside(CHAIN);
            return None;
        }
    };
    let kept = KeptChain::decode(bytes.as_slice()).ok().and_then(KeptChain::read);
    if kept.is_none() {
        warn!("the kept audit chain is not used: it can't be read");
        state.set_aside(CHAIN);
    }
    kept
}

#[cfg(test)]
pub(super) mod tests;
