//! Idle connections to one application or endpoint, the last used first.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::halves::{ReadHalf, WriteHalf};
use super::limits;
use super::wire::{self, Liveness, Reader, Writer};
use crate::exchange::Upstream;

/// A connection to an application or an endpoint.
#[derive(Debug)]
pub struct Connection<Io, P = ()> {
    pub(crate) reader: Reader<ReadHalf<Io>>,
    pub(crate) writer: Writer<WriteHalf<Io>>,
    /// It has carried a request before, so the application may just be closing it.
    pub(crate) reused: bool,
    /// What is known of the other end.
    pub(crate) proof: P,
}

impl<Io: AsyncRead + AsyncWrite + Unpin, P> Connection<Io, P> {
    /// A new one.
    pub(crate) fn of(io: Io, proof: P) -> Self {
        let (reader, writer) = wire::split(io);
        Self { reader, writer, reused: false, proof }
    }

    /// Both directions.
    pub(crate) fn halves(&mut self) -> (&mut Reader<ReadHalf<Io>>, &mut Writer<WriteHalf<Io>>) {
        (&mut self.reader, &mut self.writer)
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Connection<Io> {
    /// Dials.
    ///
    /// # Errors
    /// Whatever dialling fails with.
    pub(crate) async fn open<U: Upstream<Io = Io>>(upstream: &U) -> io::Result<Self> {
        Ok(Self::of(upstream.connect().await?, ()))
    }
}

#[derive(Debug)]
struct Idle<Io, P> {
    connection: Connection<Io, P>,
    since: Instant,
}

/// The idle connections of one worker to one application or endpoint.
#[derive(Debug)]
pub struct Pool<Io, P = ()> {
    /// The longest idle one in front: each comes to the end, and is taken from there.
    idle: RefCell<VecDeque<Idle<Io, P>>>,
    most: usize,
    longest: Duration,
}

impl<Io, P> Default for Pool<Io, P> {
    fn default() -> Self {
        Self::bounded(limits::POOLED_CONNECTIONS, limits::POOLED)
    }
}

impl<Io, P> Pool<Io, P> {
    /// Keeps so many, each for so long.
    pub(crate) fn bounded(most: usize, longest: Duration) -> Self {
        Self { idle: RefCell::default(), most, longest }
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin, P> Pool<Io, P> {
    /// Closes all of them, for when nothing may be reused any more.
    pub fn clear(&self) {
        self.idle.borrow_mut().clear();
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty()
    }

    /// Closes those that have been idle for too long.
    pub fn sweep(&self) {
        self.sweep_at(Instant::now());
    }

    fn sweep_at(&self, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        while idle.front().is_some_and(|oldest| oldest.since + self.longest <= now) {
            idle.pop_front();
        }
    }

    /// The same, and closes those about which `stands` says no.
    pub(crate) fn retain(&self, stands: impl Fn(&P) -> bool) {
        self.sweep();
        self.idle.borrow_mut().retain(|idle| stands(&idle.connection.proof));
    }

    /// The connection used last that is still good. `desync` is told of each that has sent bytes nobody asked for (G20).
    pub(crate) fn take(&self, desync: impl Fn()) -> Option<Connection<Io, P>> {
        loop {
            let Idle { mut connection, since } = self.idle.borrow_mut().pop_back()?;
            match connection.reader.liveness() {
                Liveness::Alive if since.elapsed() < self.longest => return Some(connection),
                Liveness::Talking => desync(),
                Liveness::Alive | Liveness::Closed => {}
            }
        }
    }

    /// Keeps a connection whose last exchange is complete.
    pub(crate) fn put(&self, mut connection: Connection<Io, P>) {
        let since = Instant::now();
        self.sweep_at(since);
        connection.reused = true;
        connection.reader.rest();
        connection.writer.rest();
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.most {
            idle.push_back(Idle { connection, since });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use tokio::net::TcpStream;
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_idle_for_too_long_is_closed_and_the_rest_stays() {
        let pool = Pool::bounded(8, Duration::from_secs(30));
        let connection = || Connection::of(tokio::io::duplex(64).0, ());
        pool.put(connection());
        tokio::time::advance(Duration::from_secs(20)).await;
        pool.put(connection());
        tokio::time::advance(Duration::from_secs(10)).await;
        pool.sweep();
        assert_eq!(pool.idle.borrow().len(), 1);
        tokio::time::advance(Duration::from_secs(20)).await;
        pool.put(connection());
        assert_eq!(pool.idle.borrow().len(), 1, "the others are closed as one comes");
    }

    #[tokio::test]
    async fn what_the_kernel_knows_to_be_closed_is_not_given_out() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (application, _) = listener.accept().unwrap();
        let pool = Pool::default();
        pool.put(Connection::of(stream, ()));
        let alive = pool.take(|| {}).unwrap();
        pool.put(alive);
        // Nothing has run since that could have noticed, but for what a request that can't be repeated waits for.
        drop(application);
        yield_now().await;
        assert!(pool.take(|| {}).is_none());
    }
}
