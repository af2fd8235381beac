//! Idle connections to one application, the last used first.

use std::cell::RefCell;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::time::Instant;

use super::limits;
use super::wire::{self, Liveness, Reader, Writer};
use crate::exchange::Upstream;

/// A connection to an application.
#[derive(Debug)]
pub(crate) struct Connection<Io> {
    pub(crate) reader: Reader<ReadHalf<Io>>,
    pub(crate) writer: Writer<WriteHalf<Io>>,
    /// It has carried a request before, so the application may just be closing it.
    pub(crate) reused: bool,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Connection<Io> {
    /// Dials.
    ///
    /// # Errors
    /// Whatever dialling fails with.
    pub(crate) async fn open<U: Upstream<Io = Io>>(upstream: &U) -> io::Result<Self> {
        let (reader, writer) = wire::split(upstream.connect().await?);
        Ok(Self { reader, writer, reused: false })
    }
}

#[derive(Debug)]
struct Idle<Io> {
    connection: Connection<Io>,
    since: Instant,
}

/// The idle connections of one worker to one application.
#[derive(Debug)]
pub struct Pool<Io> {
    idle: RefCell<Vec<Idle<Io>>>,
}

impl<Io> Default for Pool<Io> {
    fn default() -> Self {
        Self { idle: RefCell::new(Vec::new()) }
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Pool<Io> {
    /// Closes all of them, for when nothing may be reused any more.
    pub fn clear(&self) {
        self.idle.borrow_mut().clear();
    }

    /// Closes those that have been idle for too long.
    pub fn sweep(&self) {
        self.idle.borrow_mut().retain(|idle| idle.since.elapsed() < limits::POOLED);
    }

    /// The connection used last that is still good. `desync` is told of each that has sent bytes nobody asked for (G20).
    pub(crate) fn take(&self, desync: impl Fn()) -> Option<Connection<Io>> {
        loop {
            let Idle { mut connection, since } = self.idle.borrow_mut().pop()?;
            match connection.reader.liveness() {
                Liveness::Alive if since.elapsed() < limits::POOLED => return Some(connection),
                Liveness::Talking => desync(),
                Liveness::Alive | Liveness::Closed => {}
            }
        }
    }

    /// Keeps a connection whose last exchange is complete.
    pub(crate) fn put(&self, mut connection: Connection<Io>) {
        self.sweep();
        connection.reused = true;
        connection.reader.rest();
        connection.writer.rest();
        let mut idle = self.idle.borrow_mut();
        if idle.len() < limits::POOLED_CONNECTIONS {
            idle.push(Idle { connection, since: Instant::now() });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use tokio::net::TcpStream;
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn what_the_kernel_knows_to_be_closed_is_not_given_out() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (application, _) = listener.accept().unwrap();
        let (reader, writer) = wire::split(stream);
        let pool = Pool::default();
        pool.put(Connection { reader, writer, reused: false });
        let alive = pool.take(|| {}).unwrap();
        pool.put(alive);
        // Nothing has run since that could have noticed, but for what a request that can't be repeated waits for.
        drop(application);
        yield_now().await;
        assert!(pool.take(|| {}).is_none());
    }
}
