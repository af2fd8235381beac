//! The fan-out: every proxy's streams to policyd, on threads of their own (design §8; docs/decisions/0009-fan-out.md).
//!
//! It ends TLS, holds the streams, compares, signs, sends and counts answers. Who may have what, and what that is, is said
//! from outside: [`Fanout::events`] tells what happened, and a handful of calls, none of which waits, what is to be done.
//! Nothing of the other side runs on a thread of the fan-out.
#![forbid(unsafe_code)]

mod assignment;
mod connection;
mod contents;
mod credentials;
mod events;
mod generated;
mod grpc;
mod guarded;
mod hub;
pub mod limits;
mod listen;
mod paced;
mod relay;
mod session;
mod status;
mod stream;

use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep};

pub use contents::{Part, Parts, Standing, Subject};
pub use credentials::CredentialError;
pub use events::{Event, Service, StreamId};
pub use limits::Times;
pub use status::Status;
pub use stream::{State, View};

use contents::Wanted;
use credentials::Credentials;
use hub::{Hub, locked};

/// Numbers for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Streams that are open now.
    pub streams: u64,
    /// Assignments that were acknowledged.
    pub acks: u64,
    /// Assignments that were refused.
    pub nacks: u64,
    /// Connections without TLS, or without a certificate that verifies.
    pub handshakes_failed: u64,
    /// Connections beyond a bound.
    pub connections_refused: u64,
    /// Connections that broke HTTP/2.
    pub connections_failed: u64,
}

/// The streams, and the threads that serve them.
#[derive(Debug)]
pub struct Fanout {
    hub: Arc<Hub>,
    runtime: Mutex<Option<Runtime>>,
    staged: Mutex<Arc<Standing>>,
}

impl Fanout {
    /// Starts its threads.
    pub fn new(times: Times) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(
                std::thread::available_parallelism().map_or(1, usize::from).min(limits::THREADS),
            )
            .thread_name("fanout")
            .enable_all()
            .build()?;
        Ok(Self {
            hub: Arc::new(Hub::new(times)?),
            runtime: Mutex::new(Some(runtime)),
            staged: Mutex::default(),
        })
    }

    /// Uses another SVID and other roots from now on: for new connections and new signatures. `key`: PKCS #8, of P-256;
    /// `chain`: leaf first; `roots`: of our own trust domain; all in DER.
    pub fn adopt(
        &self,
        key: &[u8],
        chain: Vec<Vec<u8>>,
        roots: Vec<Vec<u8>>,
    ) -> Result<(), CredentialError> {
        self.hub.adopt(Credentials::new(key, chain, roots)?);
        Ok(())
    }

    /// Listens on an address, for at most so many connections. Port 0: any; the answer says which.
    pub fn listen(&self, host: &str, port: u16, connections: usize) -> io::Result<SocketAddr> {
        let runtime = locked(&self.runtime);
        let runtime = runtime.as_ref().ok_or_else(|| io::Error::other("it has been closed"))?;
        let _context = runtime.enter();
        let listener = listen::bind(host, port)?;
        let address = listener.local_addr()?;
        guarded::spawn(listen::accept(Arc::clone(&self.hub), listener, connections));
        Ok(address)
    }

    /// Readable while there are events.
    pub fn descriptor(&self) -> RawFd {
        self.hub.events.descriptor()
    }

    /// Takes the oldest events.
    pub fn events(&self, most: usize) -> Vec<Event> {
        let taken = self.hub.events.take(most);
        let ends = taken.iter().filter(|event| matches!(event, Event::Ended { .. })).count();
        self.hub.heard_of_ends(ends);
        taken
    }

    /// Listens to a stream; a policy stream ends when the peer's certificate does.
    pub fn admit(&self, stream: StreamId, until_millis: Option<i64>) {
        self.order(stream, |orders| (orders.admitted, orders.until_millis) = (true, until_millis));
    }

    /// Says as of when the next [`Self::tell`]s are true. `settled`: every stream wants just what it is to know then.
    pub fn stand(&self, standing: Standing, settled: bool) {
        let standing = Arc::new(standing);
        *locked(&self.staged) = Arc::clone(&standing);
        if settled {
            self.hub.settle(standing);
        }
    }

    /// Says what a proxy is to know. The latest counts; what it has already isn't said again.
    pub fn tell(&self, stream: StreamId, subject: Subject, parts: Parts<'_>) {
        let wanted = {
            let mut contents = locked(&self.hub.contents);
            Wanted {
                subject,
                snapshot: contents.get(parts.snapshot),
                facts: contents.get(parts.facts),
                discovery: contents.get(parts.discovery),
                as_of: Arc::clone(&locked(&self.staged)),
            }
        };
        self.order(stream, |orders| {
            (orders.wanted, orders.withheld, orders.asks) = (Some(Arc::new(wanted)), None, false);
        });
    }

    /// Says nothing to a proxy, and confirms nothing, until it is told again.
    pub fn withhold(&self, stream: StreamId, why: String) {
        self.order(stream, |orders| (orders.withheld, orders.asks) = (Some(why), false));
    }

    /// Ends a stream.
    pub fn end(&self, stream: StreamId, status: Status) {
        self.order(stream, |orders| orders.end = Some(status));
    }

    /// Asks for the next message of an audit stream; the room of the one before is given back.
    pub fn take(&self, stream: StreamId) {
        self.order(stream, |orders| orders.takes = true);
    }

    /// Answers the last message of an audit stream.
    pub fn reply(&self, stream: StreamId, message: Bytes) {
        self.order(stream, |orders| orders.replies.push_back(message));
    }

    /// How a policy stream is; none where it is over.
    pub fn view(&self, stream: StreamId) -> Option<View> {
        self.hub.stream(stream).map(|stream| stream.view().clone())
    }

    /// Numbers for metrics.
    pub fn figures(&self) -> Figures {
        let counts = &self.hub.counts;
        Figures {
            streams: self.hub.open() as u64,
            acks: counts.acks.get(),
            nacks: counts.nacks.get(),
            handshakes_failed: counts.handshakes_failed.get(),
            connections_refused: counts.connections_refused.get(),
            connections_failed: counts.connections_failed.get(),
        }
    }

    /// Stops listening, ends all streams and all threads. What isn't over after `drain` is cut.
    pub fn close(&self, drain: Duration) {
        let Some(runtime) = locked(&self.runtime).take() else { return };
        self.hub.end();
        let until = Instant::now() + drain;
        runtime.block_on(async {
            while self.hub.is_busy() && Instant::now() < until {
                sleep(limits::LOOK_FOR_END).await;
            }
        });
        runtime.shutdown_timeout(drain);
    }

    fn order(&self, stream: StreamId, change: impl FnOnce(&mut stream::Orders)) {
        // One that is over since wants nothing any more; its end is among the events.
        if let Some(stream) = self.hub.stream(stream) {
            stream.order(change);
        }
    }
}

impl Drop for Fanout {
    fn drop(&mut self) {
        if let Some(runtime) = locked(&self.runtime).take() {
            self.hub.end();
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests;
