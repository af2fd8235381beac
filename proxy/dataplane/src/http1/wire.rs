//! The two halves of a connection, with buffers of their own.

use std::io;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::limits;
use crate::prefixed::Prefixed;

/// Splits a connection into its buffered halves.
pub(crate) fn split<Io: AsyncRead + AsyncWrite>(
    io: Io,
) -> (Reader<ReadHalf<Io>>, Writer<WriteHalf<Io>>) {
    let (read, write) = tokio::io::split(io);
    (Reader::new(read), Writer::new(write))
}

/// Puts the halves of one connection together again, what has arrived in front.
pub(super) fn join<Io: AsyncRead + AsyncWrite + Unpin>(
    reader: Reader<ReadHalf<Io>>,
    writer: Writer<WriteHalf<Io>>,
) -> Prefixed<Io> {
    let arrived = reader.bytes().to_vec();
    Prefixed::new(arrived, reader.io.unsplit(writer.io))
}

/// The reading half: bytes that have arrived and aren't consumed yet.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    io: R,
    buffer: Vec<u8>,
    start: usize,
}

/// What an idle connection turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Liveness {
    /// Open and silent.
    Alive,
    /// The other end has closed it.
    Closed,
    /// The other end has sent what nobody asked for.
    Talking,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    fn new(io: R) -> Self {
        Self { io, buffer: Vec::new(), start: 0 }
    }

    /// What has arrived.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// Drops the first `count` bytes of what has arrived.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = self.buffer.len().min(self.start + count);
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
    }

    /// Gives memory back while nothing is going on.
    pub(crate) fn rest(&mut self) {
        if self.buffer.is_empty() {
            self.buffer.shrink_to(limits::IDLE_BYTES);
        }
    }

    /// Gives all of it back, for a connection that may be idle for long.
    pub(crate) fn release(&mut self) {
        if self.bytes().is_empty() {
            (self.buffer, self.start) = (Vec::new(), 0);
        }
    }

    /// Waits for more bytes, at most `most`; 0 is the end. Cancelling loses nothing.
    pub(crate) async fn fill(&mut self, most: usize) -> io::Result<usize> {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.reserve(most);
        self.io.read_buf(&mut self.buffer).await
    }

    /// What an idle connection is, without waiting.
    pub(crate) fn liveness(&mut self) -> Liveness {
        if !self.bytes().is_empty() {
            return Liveness::Talking;
        }
        let mut space = [0];
        let mut buffer = ReadBuf::new(&mut space);
        let mut context = Context::from_waker(Waker::noop());
        match std::pin::Pin::new(&mut self.io).poll_read(&mut context, &mut buffer) {
            Poll::Pending => Liveness::Alive,
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => Liveness::Talking,
            Poll::Ready(_) => Liveness::Closed,
        }
    }

    /// Reads and drops what still comes, within bounds.
    pub(crate) async fn discard(&mut self) {
        let drain = async {
            let mut total = 0;
            while total < limits::LINGER_BYTES {
                self.consume(usize::MAX - self.start);
                match self.fill(limits::READ_BYTES).await {
                    Ok(0) | Err(_) => return,
                    Ok(count) => total += count,
                }
            }
        };
        let _ = timeout(limits::LINGER, drain).await;
    }
}

/// The writing half: bytes are gathered and go out together.
#[derive(Debug)]
pub(crate) struct Writer<W> {
    io: W,
    out: Vec<u8>,
    writes: u64,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    fn new(io: W) -> Self {
        Self { io, out: Vec::new(), writes: 0 }
    }

    /// Where to append what shall be written.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// How often anything has left: while that doesn't change, what is gathered can still be taken back.
    pub(crate) fn writes(&self) -> u64 {
        self.writes
    }

    /// Writes what is gathered if it is much.
    pub(crate) async fn relieve(&mut self) -> io::Result<()> {
        if self.out.len() < limits::READ_BYTES {
            return Ok(());
        }
        self.write().await
    }

    /// Writes all that is gathered and sees it off.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        self.write().await?;
        unless_stalled(limits::WRITE_STALL, self.io.flush()).await
    }

    async fn write(&mut self) -> io::Result<()> {
        let mut sent = 0;
        while let Some(rest) = self.out.get(sent..).filter(|rest| !rest.is_empty()) {
            match unless_stalled(limits::WRITE_STALL, self.io.write(rest)).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => sent += count,
            }
            self.writes += 1;
        }
        self.out.clear();
        Ok(())
    }

    /// Gives memory back while nothing is going on.
    pub(crate) fn rest(&mut self) {
        self.out.shrink_to(limits::IDLE_BYTES);
    }

    /// Gives all of it back, for a connection that may be idle for long.
    pub(crate) fn release(&mut self) {
        if self.out.is_empty() {
            self.out = Vec::new();
        }
    }

    /// Writes what is left and ends this direction.
    pub(crate) async fn end(&mut self) -> io::Result<()> {
        self.flush().await?;
        unless_stalled(limits::WRITE_STALL, self.io.shutdown()).await
    }
}

async fn unless_stalled<T>(
    most: Duration,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout(most, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
