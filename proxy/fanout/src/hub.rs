//! What all streams share.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::{Semaphore, watch};

use crate::connection;
use crate::contents::{Interned, Standing};
use crate::credentials::Credentials;
use crate::events::{Events, StreamId};
use crate::limits::{self, Times};
use crate::stream::Stream;

/// A lock. A panic while one is held ends the process (`guarded`), so none is poisoned.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number that only rises.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What happened, since the beginning.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) acks: Count,
    pub(crate) nacks: Count,
    /// No TLS, no certificate, or none that verifies.
    pub(crate) handshakes_failed: Count,
    /// Too many connections: in all, unproven, or of one certificate.
    pub(crate) connections_refused: Count,
    /// No HTTP/2.
    pub(crate) connections_failed: Count,
}

#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) times: Times,
    pub(crate) events: Events,
    pub(crate) counts: Counts,
    pub(crate) contents: Mutex<Interned>,
    pub(crate) handshakes: Semaphore,
    pub(crate) unproven: Arc<Semaphore>,
    /// KiB of messages of audit streams.
    pub(crate) room: Arc<Semaphore>,
    credentials: RwLock<Option<Arc<Credentials>>>,
    settled: RwLock<Arc<Standing>>,
    streams: Mutex<HashMap<StreamId, Arc<Stream>>>,
    begun: AtomicU64,
    /// Streams whose end the other side hasn't heard of: they bound the events that wait.
    unheard: AtomicUsize,
    peers: Mutex<HashMap<[u8; 32], u32>>,
    ending: watch::Sender<bool>,
}

impl Hub {
    pub(crate) fn new(times: Times) -> io::Result<Self> {
        let before_any = Standing { at_millis: i64::MIN, ..Standing::default() };
        Ok(Self {
            times,
            events: Events::new()?,
            counts: Counts::default(),
            contents: Mutex::default(),
            handshakes: Semaphore::new(limits::HANDSHAKES),
            unproven: Arc::new(Semaphore::new(limits::UNPROVEN)),
            room: Arc::new(Semaphore::new(limits::AUDIT_BYTES_IN_ALL / 1024)),
            credentials: RwLock::default(),
            settled: RwLock::new(Arc::new(before_any)),
            streams: Mutex::default(),
            begun: AtomicU64::new(0),
            unheard: AtomicUsize::new(0),
            peers: Mutex::default(),
            ending: watch::Sender::new(false),
        })
    }

    /// What streams are accepted with, and what signs, now.
    pub(crate) fn credentials(&self) -> Option<Arc<Credentials>> {
        self.credentials.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn adopt(&self, credentials: Credentials) {
        let mut held = self.credentials.write().unwrap_or_else(PoisonError::into_inner);
        *held = Some(Arc::new(credentials));
    }

    /// The last moment at which every stream wanted what it was to know.
    pub(crate) fn settled(&self) -> Arc<Standing> {
        self.settled.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn settle(&self, standing: Arc<Standing>) {
        *self.settled.write().unwrap_or_else(PoisonError::into_inner) = standing;
    }

    /// A new stream; none where there are too many, or no more are wanted.
    pub(crate) fn enrol(&self) -> Option<Arc<Stream>> {
        let mut streams = locked(&self.streams);
        if self.unheard.load(Ordering::Relaxed) >= limits::STREAMS || *self.ending.borrow() {
            return None;
        }
        self.unheard.fetch_add(1, Ordering::Relaxed);
        let id = self.begun.fetch_add(1, Ordering::Relaxed);
        let stream = Arc::new(Stream::new(id));
        streams.insert(id, Arc::clone(&stream));
        Some(stream)
    }

    pub(crate) fn leave(&self, id: StreamId) {
        locked(&self.streams).remove(&id);
    }

    /// The other side has heard of so many ends.
    pub(crate) fn heard_of_ends(&self, count: usize) {
        self.unheard.fetch_sub(count, Ordering::Relaxed);
    }

    pub(crate) fn stream(&self, id: StreamId) -> Option<Arc<Stream>> {
        locked(&self.streams).get(&id).cloned()
    }

    pub(crate) fn open(&self) -> usize {
        locked(&self.streams).len()
    }

    /// Whether there is a stream or a connection that hasn't ended.
    pub(crate) fn is_busy(&self) -> bool {
        self.open() > 0 || !locked(&self.peers).is_empty()
    }

    /// A place among the connections of one certificate; none where it has too many.
    pub(crate) fn place(self: &Arc<Self>, certificate: [u8; 32]) -> Option<PeerPlace> {
        let mut peers = locked(&self.peers);
        let count = peers.entry(certificate).or_insert(0);
        if *count >= limits::CONNECTIONS_PER_CERTIFICATE {
            return None;
        }
        *count += 1;
        Some(PeerPlace { hub: Arc::clone(self), certificate })
    }

    /// Changes to true when the fan-out stops.
    pub(crate) fn ending(&self) -> watch::Receiver<bool> {
        self.ending.subscribe()
    }

    /// Asks everything to end.
    pub(crate) fn end(&self) {
        self.ending.send_replace(true);
        for stream in locked(&self.streams).values() {
            connection::stop(stream);
        }
    }
}

/// Given back when it is dropped.
#[derive(Debug)]
pub(crate) struct PeerPlace {
    hub: Arc<Hub>,
    certificate: [u8; 32],
}

impl Drop for PeerPlace {
    fn drop(&mut self) {
        let mut peers = locked(&self.hub.peers);
        if let Some(count) = peers.get_mut(&self.certificate) {
            *count -= 1;
            if *count == 0 {
                peers.remove(&self.certificate);
            }
        }
    }
}
