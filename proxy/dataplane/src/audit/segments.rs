//! What is spooled, on disk: files of a bounded size, written to their end, read in order, removed as a whole.
//!
//! A file is `policyd spool 1\n`, the position of its first record (8 bytes, big endian), and frames: length (4 bytes, big
//! endian), check (the first 8 bytes of SHA-256 over position and record), record. A frame that was torn by the end of the
//! process or of the machine doesn't check and isn't read; a frame that went bad later is a gap.

use std::collections::VecDeque;
use std::fs::{self, DirEntry, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;

use super::spool::Bounds;
use crate::limits;

const MAGIC: &[u8; 16] = b"policyd spool 1\n";
const HEADER_BYTES: usize = 24;
const FRAME_BYTES: usize = 12;
const PREFIX: &str = "segment-";
/// Records that may be missing between two files: more than ever lay on one disk.
const MOST_MISSING: u64 = 1 << 20;
/// No position of ours; a file with such a name is somebody else's.
const LAST_POSITION: u64 = 1 << 62;

/// Why something isn't on disk.
#[derive(Debug)]
pub(super) enum Unwritten {
    /// The bound is reached.
    Full,
    /// The disk is full, read-only, broken, or not there.
    Failed(io::Error),
}

impl From<io::Error> for Unwritten {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// A file, and which records it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    first: u64,
    count: u64,
    bytes: u64,
}

impl Segment {
    fn end(self) -> u64 {
        self.first.saturating_add(self.count)
    }
}

/// The file that is being written: that of the last segment.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) file: File,
    pub(super) dirty: bool,
}

/// The records of one file; none where it can't be read.
#[derive(Debug)]
struct Loaded {
    first: u64,
    records: Vec<Option<Bytes>>,
}

/// All files.
#[derive(Debug)]
pub(super) struct Segments {
    folder: PathBuf,
    bounds: Bounds,
    kept: VecDeque<Segment>,
    pub(super) open: Option<Open>,
    loaded: Option<Loaded>,
}

impl Segments {
    /// With what is there. A file that isn't one of ours is set aside; a torn end is not looked at again.
    pub(super) fn recover(folder: PathBuf, bounds: Bounds) -> io::Result<Self> {
        let mut kept: Vec<Segment> = Vec::new();
        let mut found: Vec<_> =
            fs::read_dir(&folder)?.filter_map(|entry| named(&entry.ok()?)).collect();
        found.sort_unstable();
        for first in found {
            let path = path_of(&folder, first);
            let Some(bytes) = read_whole(&path, bounds)?.filter(|bytes| begins(bytes, first))
            else {
                let _ = fs::rename(&path, path.with_extension("bad"));
                continue;
            };
            let whole = scan(first, &bytes);
            if whole.count == 0 {
                let _ = fs::remove_file(&path);
                continue;
            }
            // What a failed write left behind was written again, to the file after it.
            if let Some(before) = kept.last_mut() {
                before.count = before.count.min(first.saturating_sub(before.first));
                if first - before.end() > MOST_MISSING {
                    let _ = fs::rename(&path, path.with_extension("bad"));
                    continue;
                }
            }
            kept.push(Segment { bytes: bytes.len() as u64, ..whole });
        }
        Ok(Self { folder, bounds, kept: kept.into(), open: None, loaded: None })
    }

    /// The position of the last record; 0 if there is none.
    pub(super) fn last(&self) -> u64 {
        self.kept.back().map_or(0, |segment| segment.end().saturating_sub(1))
    }

    /// The position of the first record.
    pub(super) fn first(&self) -> Option<u64> {
        self.kept.front().map(|segment| segment.first)
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.kept.iter().map(|segment| segment.bytes).sum()
    }

    /// Appends all of these, or none.
    pub(super) fn append(&mut self, first: u64, records: &[Bytes]) -> Result<(), Unwritten> {
        let length: usize = records.iter().map(|record| record.len() + FRAME_BYTES).sum();
        if self.bytes() + (length + HEADER_BYTES) as u64 > self.bounds.disk_bytes {
            // So that it can be removed as soon as it is acknowledged.
            self.sync()?;
            self.abandon();
            return Err(Unwritten::Full);
        }
        self.make_ready(first)?;
        let frames = frames(first, records, length);
        let (Some(segment), Some(open)) = (self.kept.back_mut(), self.open.as_mut()) else {
            return Err(Unwritten::Failed(io::Error::other("no segment is open")));
        };
        if let Err(error) = open.file.write_all(&frames) {
            // What was written of it must not stay in front of what comes next.
            if open.file.set_len(segment.bytes).is_err() {
                self.abandon();
            }
            return Err(error.into());
        }
        open.dirty = true;
        segment.bytes += frames.len() as u64;
        segment.count += records.len() as u64;
        Ok(())
    }

    /// Opens a file for a record at `first`, if the one that is open isn't for it or is long enough.
    fn make_ready(&mut self, first: u64) -> io::Result<()> {
        let fits = self
            .kept
            .back()
            .is_some_and(|last| last.end() == first && last.bytes < self.bounds.segment_bytes);
        if fits && self.open.is_some() {
            return Ok(());
        }
        self.sync()?;
        self.abandon();
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path_of(&self.folder, first))?;
        file.set_len(0)?;
        self.kept.push_back(Segment { first, count: 0, bytes: 0 });
        let written = file.write_all(&header(first));
        self.open = Some(Open { file, dirty: true });
        if let Err(error) = written {
            self.abandon();
            return Err(error);
        }
        if let Some(segment) = self.kept.back_mut() {
            segment.bytes = HEADER_BYTES as u64;
        }
        File::open(&self.folder)?.sync_all()
    }

    /// Writes no more to the file that is open; removes it if it holds nothing.
    fn abandon(&mut self) {
        self.open = None;
        if let Some(empty) = self.kept.back().filter(|segment| segment.count == 0) {
            let _ = fs::remove_file(path_of(&self.folder, empty.first));
            self.kept.pop_back();
        }
    }

    /// Waits until what was written outlives the machine's power.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if let Some(open) = self.open.as_mut().filter(|open| open.dirty) {
            open.file.sync_data()?;
            open.dirty = false;
        }
        Ok(())
    }

    /// Whether something was written since the last [`Segments::sync`].
    pub(super) fn is_dirty(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.dirty)
    }

    /// Whether a file could be removed if everything up to `position` were kept elsewhere.
    pub(super) fn can_release(&self, position: u64) -> bool {
        let closed = self.kept.len() > 1 || self.open.is_none();
        closed
            && self.kept.front().is_some_and(|segment| segment.end() <= position.saturating_add(1))
    }

    /// Removes the files that hold nothing after `position`.
    pub(super) fn release(&mut self, position: u64) {
        while self.can_release(position)
            && let Some(segment) = self.kept.front()
            && is_gone(fs::remove_file(path_of(&self.folder, segment.first)))
        {
            self.kept.pop_front();
        }
    }

    /// One record; none where it can't be read.
    pub(super) fn read(&mut self, position: u64) -> Option<Bytes> {
        if let Some(record) = self.loaded.as_ref().and_then(|loaded| loaded.get(position)) {
            return Some(record);
        }
        let segment =
            *self.kept.iter().find(|segment| (segment.first..segment.end()).contains(&position))?;
        let bytes = read_whole(&path_of(&self.folder, segment.first), self.bounds).ok()??;
        let records = Frames::new(segment.first, &bytes).map(|frame| frame.record).collect();
        self.loaded = Some(Loaded { first: segment.first, records });
        self.loaded.as_ref()?.get(position)
    }

    /// Forgets what was read ahead.
    pub(super) fn unload(&mut self) {
        self.loaded = None;
    }
}

impl Loaded {
    fn get(&self, position: u64) -> Option<Bytes> {
        let at = usize::try_from(position.checked_sub(self.first)?).ok()?;
        self.records.get(at)?.clone()
    }
}

fn is_gone(removed: io::Result<()>) -> bool {
    removed.map_or_else(|error| error.kind() == io::ErrorKind::NotFound, |()| true)
}

fn path_of(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{PREFIX}{first:020}"))
}

fn named(entry: &DirEntry) -> Option<u64> {
    let name = entry.file_name();
    let digits = name.to_str()?.strip_prefix(PREFIX)?;
    let first = digits.parse().ok().filter(|first| (1..LAST_POSITION).contains(first))?;
    (digits.len() == 20).then_some(first)
}

fn header(first: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..16].copy_from_slice(MAGIC);
    bytes[16..].copy_from_slice(&first.to_be_bytes());
    bytes
}

fn begins(bytes: &[u8], first: u64) -> bool {
    bytes.starts_with(&header(first))
}

fn check(position: u64, record: &[u8]) -> [u8; 8] {
    let mut context = Context::new(&SHA256);
    context.update(&position.to_be_bytes());
    context.update(record);
    context.finish().as_ref().first_chunk().copied().unwrap_or_default()
}

fn frames(first: u64, records: &[Bytes], length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    for (position, record) in (first..).zip(records) {
        bytes.extend_from_slice(&u32::try_from(record.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(&check(position, record));
        bytes.extend_from_slice(record);
    }
    bytes
}

/// None where it is bigger than anything that we write.
fn read_whole(path: &Path, bounds: Bounds) -> io::Result<Option<Bytes>> {
    let most = bounds.segment_bytes + bounds.memory_bytes as u64 * 2;
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= most).then(|| bytes.into()))
}

/// What of a file is whole: up to the last frame that checks.
fn scan(first: u64, bytes: &Bytes) -> Segment {
    let whole = Frames::new(first, bytes)
        .enumerate()
        .filter(|(_, frame)| frame.record.is_some())
        .last()
        .map_or(0, |(index, _)| index as u64 + 1);
    Segment { first, count: whole, bytes: 0 }
}

struct Frame {
    record: Option<Bytes>,
}

struct Frames {
    position: u64,
    rest: Bytes,
}

impl Frames {
    fn new(first: u64, bytes: &Bytes) -> Self {
        Self { position: first, rest: bytes.slice(HEADER_BYTES.min(bytes.len())..) }
    }
}

impl Iterator for Frames {
    type Item = Frame;

    /// Ends where the rest can't be a frame.
    fn next(&mut self) -> Option<Frame> {
        let length = u32::from_be_bytes(*self.rest.first_chunk()?) as usize;
        let expected: [u8; 8] = *self.rest.get(4..FRAME_BYTES)?.first_chunk()?;
        let fits = length > 0 && length <= limits::RECORD_BYTES;
        if !fits || self.rest.len() < FRAME_BYTES + length {
            return None;
        }
        let record = self.rest.slice(FRAME_BYTES..FRAME_BYTES + length);
        self.rest = self.rest.slice(FRAME_BYTES + length..);
        let is_whole = check(self.position, &record) == expected;
        self.position += 1;
        Some(Frame { record: is_whole.then_some(record) })
    }
}
