//! The thread that owns the spool. Requests hand it records without waiting, the stream asks it for them; a disk that
//! stands still holds up neither.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::spool::Spool;
use crate::generated::{AuditHello, AuditRecords};
use crate::limits;
use crate::lines::Lines;
use crate::metrics::Metrics;

/// Records taken from the queue in one go.
const TAKEN: usize = 256;
/// Questions of the stream that wait; it asks one after another.
const ASKS: usize = 8;

/// From a request to the spool.
#[derive(Debug)]
pub(crate) enum Message {
    /// A record, and the workload that it names.
    Record(Bytes, Option<String>),
    /// No more will come.
    End,
}

/// What the stream asks.
#[derive(Debug)]
enum Ask {
    Hello(oneshot::Sender<AuditHello>),
    Batch(oneshot::Sender<AuditRecords>),
    InFlight(oneshot::Sender<bool>),
    Acknowledged(u64, oneshot::Sender<bool>),
    Begin(String, oneshot::Sender<()>),
    Drained(oneshot::Sender<()>),
}

/// The spool, for those who empty it. Each call waits for the spool's thread, and is none once that has ended.
#[derive(Debug, Clone)]
pub struct Trail {
    asks: mpsc::Sender<Ask>,
}

impl Trail {
    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(ask(answer)).await.ok()?;
        answered.await.ok()
    }

    /// The first message of a stream; what was sent on another counts no more.
    pub async fn hello(&self) -> Option<AuditHello> {
        self.ask(Ask::Hello).await
    }

    /// The next records, as soon as there are some.
    pub async fn batch(&self) -> Option<AuditRecords> {
        self.ask(Ask::Batch).await
    }

    /// Whether something sent is not acknowledged.
    pub async fn is_in_flight(&self) -> Option<bool> {
        self.ask(Ask::InFlight).await
    }

    /// Everything up to here is kept. False if it was never sent.
    pub async fn acknowledged(&self, sequence: u64) -> Option<bool> {
        self.ask(|answer| Ask::Acknowledged(sequence, answer)).await
    }

    /// The store doesn't go on with this chain, and says why.
    pub async fn begin_chain(&self, why: &str) -> Option<()> {
        let why = why.to_owned();
        self.ask(|answer| Ask::Begin(why, answer)).await
    }

    /// Waits until everything is acknowledged.
    pub async fn drained(&self) -> Option<()> {
        self.ask(Ask::Drained).await
    }
}

/// The thread's end of all channels.
pub(super) struct Keeper {
    pub(super) records: mpsc::Receiver<Message>,
    /// Bytes of records in the queue.
    pub(super) queued: Arc<AtomicUsize>,
    pub(super) lines: Lines,
    pub(super) metrics: Arc<Metrics>,
    asks: mpsc::Receiver<Ask>,
    batch: Option<oneshot::Sender<AuditRecords>>,
    drained: Vec<oneshot::Sender<()>>,
    is_ending: bool,
}

impl Keeper {
    /// A keeper, and who asks it.
    pub(super) fn new(
        records: mpsc::Receiver<Message>,
        queued: Arc<AtomicUsize>,
        lines: Lines,
        metrics: Arc<Metrics>,
    ) -> (Self, Trail) {
        let (sender, asks) = mpsc::channel(ASKS);
        let keeper = Self {
            records,
            queued,
            lines,
            metrics,
            asks,
            batch: None,
            drained: Vec::new(),
            is_ending: false,
        };
        (keeper, Trail { asks: sender })
    }

    /// Until the queue ends.
    pub(super) async fn keep(mut self, mut spool: Spool) {
        let mut taken = Vec::with_capacity(TAKEN);
        let mut next_tick = Instant::now() + limits::AUDIT_SETTLE;
        let mut rests_until = None;
        while !self.is_ending {
            let is_busy = spool.is_busy() || self.metrics.audit.has_missed();
            tokio::select! {
                count = self.records.recv_many(&mut taken, TAKEN), if rests_until.is_none() => {
                    self.is_ending = count == 0;
                    self.take(&mut taken, &mut spool);
                    // Whoever denies much doesn't wake this thread for each: what comes meanwhile is written together.
                    rests_until = (count < TAKEN).then(|| Instant::now() + limits::AUDIT_GATHER);
                }
                () = sleep_until(rests_until.unwrap_or(next_tick)), if rests_until.is_some() => {
                    rests_until = None;
                }
                Some(ask) = self.asks.recv() => self.answer(ask, &mut spool),
                () = sleep_until(next_tick), if is_busy => {}
            }
            if Instant::now() >= next_tick {
                self.tell_missed(&mut spool);
                spool.tick();
                next_tick = Instant::now() + limits::AUDIT_SETTLE;
            }
            self.hand_out(&mut spool);
        }
        self.tell_missed(&mut spool);
        spool.close();
        self.hand_out(&mut spool);
        self.lines.end();
    }

    /// Lines to stdout, and the same bytes to the spool.
    fn take(&mut self, taken: &mut Vec<Message>, spool: &mut Spool) {
        let mut lines = Vec::with_capacity(taken.len());
        for message in taken.drain(..) {
            match message {
                Message::Record(record, workload) => {
                    self.queued.fetch_sub(record.len(), Ordering::Relaxed);
                    lines.push(record.clone());
                    if workload.is_some() {
                        spool.writer.workload = workload;
                    }
                    spool.keep(record);
                }
                Message::End => self.is_ending = true,
            }
        }
        self.lines.write(lines);
        spool.settle();
    }

    fn tell_missed(&self, spool: &mut Spool) {
        for (reason, count) in self.metrics.audit.take_missed() {
            spool.miss(reason, count);
        }
    }

    fn answer(&mut self, ask: Ask, spool: &mut Spool) {
        // Whoever asked may have gone; then the answer is nobody's.
        match ask {
            Ask::Hello(answer) => {
                let _ = answer.send(spool.hello());
            }
            Ask::Batch(answer) => self.batch = Some(answer),
            Ask::InFlight(answer) => {
                let _ = answer.send(spool.is_in_flight());
            }
            Ask::Acknowledged(sequence, answer) => {
                let _ = answer.send(spool.acknowledge(sequence));
            }
            Ask::Begin(why, answer) => {
                spool.begin_chain(&why);
                let _ = answer.send(());
            }
            Ask::Drained(answer) => self.drained.push(answer),
        }
    }

    /// Answers those who wait for records, or for their end, and says what the trail says of itself.
    fn hand_out(&mut self, spool: &mut Spool) {
        if let Some(waiting) = self.batch.take().filter(|waiting| !waiting.is_closed()) {
            match spool.batch() {
                // Where the stream has just ended, the next one begins with what was acknowledged.
                Some(records) => drop(waiting.send(records)),
                None => self.batch = Some(waiting),
            }
        }
        if spool.is_drained() && self.records.is_empty() && !self.metrics.audit.has_missed() {
            for waiting in self.drained.drain(..) {
                let _ = waiting.send(());
            }
        }
        self.lines.write(spool.said());
    }
}
