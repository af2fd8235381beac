//! The two halves of a connection, with buffers of their own.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::alarm::Alarm;
use super::halves::{self, ReadHalf, WriteHalf};
use super::limits;
use crate::prefixed::Prefixed;

/// Splits a connection into its buffered halves.
pub(crate) fn split<Io: AsyncRead + AsyncWrite + Unpin>(
    io: Io,
) -> (Reader<ReadHalf<Io>>, Writer<WriteHalf<Io>>) {
    let (read, write) = halves::split(io);
    (Reader::new(read), Writer::new(write))
}

/// Puts the halves of one connection together again, what has arrived in front; none where they aren't of one.
pub(super) fn join<Io: AsyncRead + AsyncWrite + Unpin>(
    reader: Reader<ReadHalf<Io>>,
    writer: Writer<WriteHalf<Io>>,
) -> Option<Prefixed<Io>> {
    let arrived = reader.bytes().to_vec();
    Some(Prefixed::new(arrived, halves::join(reader.io, writer.io)?))
}

/// The reading half: bytes that have arrived and aren't consumed yet.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    io: R,
    buffer: Vec<u8>,
    start: usize,
    /// The last read took all the room there was.
    filled: bool,
    alarm: Alarm,
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
        Self { io, buffer: Vec::new(), start: 0, filled: false, alarm: Alarm::default() }
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

    /// Gives all memory back and waits with a few bytes, for a connection that may be idle for long.
    pub(crate) async fn fill_little_before(&mut self, due: Instant) -> Option<io::Result<usize>> {
        let left = self.bytes().to_vec();
        (self.buffer, self.start, self.filled) = (left, 0, false);
        self.buffer.reserve_exact(limits::RELEASED_BYTES);
        let Self { io, buffer, alarm, .. } = self;
        alarm.before(due, io.read_buf(buffer)).await
    }

    /// Waits for more bytes; 0 is the end. Cancelling loses nothing.
    pub(crate) async fn fill(&mut self) -> io::Result<usize> {
        self.make_room();
        let count = self.io.read_buf(&mut self.buffer).await;
        self.filled = self.buffer.len() == self.buffer.capacity();
        count
    }

    /// The same, not longer than until `due`.
    pub(crate) async fn fill_before(&mut self, due: Instant) -> Option<io::Result<usize>> {
        self.make_room();
        let Self { io, buffer, alarm, .. } = self;
        let count = alarm.before(due, io.read_buf(buffer)).await;
        self.filled = self.buffer.len() == self.buffer.capacity();
        count
    }

    /// Makes room for one read: little at first, and much for whoever has filled that.
    fn make_room(&mut self) {
        self.buffer.drain(..self.start);
        self.start = 0;
        let room = self.buffer.capacity() - self.buffer.len();
        if self.filled {
            self.buffer.reserve(limits::READ_BYTES);
        } else if room < limits::LEAST_READ_BYTES {
            self.buffer.reserve_exact(limits::IDLE_BYTES);
        }
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
                match self.fill().await {
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

/// What comes of `work`. No timer is set where it is done at once, which is so nearly always.
async fn unless_stalled<T>(
    most: Duration,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let mut work = pin!(work);
    let mut timer = pin!(None::<Sleep>);
    poll_fn(|context| {
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(done);
        }
        if timer.is_none() {
            timer.set(Some(sleep(most)));
        }
        match timer.as_mut().as_pin_mut() {
            Some(timer) => timer.poll(context).map(|()| Err(io::ErrorKind::TimedOut.into())),
            None => Poll::Pending,
        }
    })
    .await
}
