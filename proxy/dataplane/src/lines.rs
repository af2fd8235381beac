//! Lines on their way to stdout, which has a thread of its own: a slow reader of the log holds up neither requests nor the
//! audit trail.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use bytes::Bytes;

use crate::limits;
use crate::metrics::Metrics;

/// Lines on their way to stdout.
#[derive(Debug)]
pub(crate) struct Lines {
    /// Those that came together; none is the end.
    waiting: SyncSender<Option<Vec<Bytes>>>,
    /// How many lines wait.
    queued: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

impl Lines {
    /// Starts the thread that writes to `out`; it ends after [`Lines::end`].
    pub(crate) fn start(
        out: impl Write + Send + 'static,
        metrics: Arc<Metrics>,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let (waiting, lines) = sync_channel(limits::DENIAL_LINES);
        let queued = Arc::<AtomicUsize>::default();
        let (counted, left) = (Arc::clone(&metrics), Arc::clone(&queued));
        let writer = std::thread::Builder::new()
            .name("denials".to_owned())
            .spawn(move || write_all(out, &lines, &left, &counted))?;
        Ok((Self { waiting, queued, metrics }, writer))
    }

    /// Without waiting. Lines that came together wake the thread once.
    pub(crate) fn write(&self, lines: Vec<Bytes>) {
        let count = lines.len();
        if count == 0 {
            return;
        }
        let before = self.queued.fetch_add(count, Ordering::Relaxed);
        let fits = before + count <= limits::DENIAL_LINES;
        if !fits || self.waiting.try_send(Some(lines)).is_err() {
            self.queued.fetch_sub(count, Ordering::Relaxed);
            self.metrics.lost_lines.add(count as u64);
        }
    }

    pub(crate) fn end(&self) {
        let _ = self.waiting.send(None);
    }
}

fn write_all(
    out: impl Write,
    waiting: &Receiver<Option<Vec<Bytes>>>,
    queued: &AtomicUsize,
    metrics: &Metrics,
) {
    let mut out = io::BufWriter::with_capacity(limits::DENIAL_WRITE_BYTES, out);
    while let Ok(message) = waiting.recv() {
        let mut next = Some(message);
        while let Some(message) = next {
            let Some(lines) = message else {
                let _ = out.flush();
                return;
            };
            for line in &lines {
                if out.write_all(line).and_then(|()| out.write_all(b"\n")).is_err() {
                    metrics.lost_lines.add(1);
                }
            }
            queued.fetch_sub(lines.len(), Ordering::Relaxed);
            next = waiting.try_recv().ok();
        }
        if out.flush().is_err() {
            metrics.lost_lines.add(1);
        }
    }
}
