//! Records between the moment of a denial and the moment when policyd keeps it: in memory, and on disk as soon as written.
//!
//! Every record is written to the disk at once (so that the end of the process, even by SIGKILL, loses none that is here)
//! and made to outlive a loss of power twice a second. Memory is a window on the newest, and all there is where the disk
//! can't be written. Where there is no room records are counted instead, and the count is told as a record.

mod kept;
mod sending;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tracing::{info, warn};

use super::chain::Chain;
use super::lost::{Counts, REASONS, Reason, Writer, place};
use super::segments::{Segments, Unwritten};
use crate::limits;
use crate::metrics::Metrics;
use crate::state_dir::StateDir;
use sending::Sent;

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
        let from =
            usize::try_from((self.written + 1).saturating_sub(self.window_first())).unwrap_or(0);
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
        let bytes = chunk.iter().map(Bytes::len).sum();
        self.unwritten_bytes = self.unwritten_bytes.saturating_sub(bytes);
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
                self.unwritten_bytes = self.unwritten_bytes.saturating_sub(length);
            }
            self.window_bytes = self.window_bytes.saturating_sub(length);
            self.window.pop_front();
        }
    }

    fn gauge(&self) {
        self.metrics.audit.spooled.set(i64::try_from(self.waiting()).unwrap_or(i64::MAX));
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

#[cfg(test)]
pub(super) mod tests;
