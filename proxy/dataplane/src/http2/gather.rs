//! The stream below `h2`, which gathers what `h2` writes frame by frame: answers of several streams that are ready at the
//! same time leave in one write, and so in one TLS record.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::limits;

/// A stream and what is to be written to it, for `h2` and for the loop that drives it.
#[derive(Debug)]
pub(super) struct Gathered<S>(Rc<RefCell<State<S>>>);

#[derive(Debug)]
struct State<S> {
    stream: S,
    out: Vec<u8>,
    /// What of it has been written.
    gone: usize,
    /// Nothing leaves before there is much, or [`Gathered::poll_release`].
    holds: bool,
}

impl<S> Clone for Gathered<S> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    /// Around a stream. Nothing is held back yet.
    pub(super) fn new(stream: S) -> Self {
        Self(Rc::new(RefCell::new(State { stream, out: Vec::new(), gone: 0, holds: false })))
    }

    /// From now on what is flushed waits for more.
    pub(super) fn hold(&self) {
        self.0.borrow_mut().holds = true;
    }

    /// Writes what was gathered; from now on what is flushed leaves at once.
    pub(super) fn poll_release(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.borrow_mut();
        state.holds = false;
        state.poll_flush(context)
    }
}

impl<S: AsyncWrite + Unpin> State<S> {
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.out.get(self.gone..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.stream).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.gone += count,
            }
        }
        self.out.clear();
        self.gone = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_drain(context))?;
        self.out.shrink_to(limits::GATHERED_IDLE_BYTES);
        Pin::new(&mut self.stream).poll_flush(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let state = &mut *self.0.borrow_mut();
        if state.out.len() >= limits::GATHERED_BYTES {
            ready!(state.poll_drain(context))?;
        }
        let room = limits::GATHERED_BYTES - state.out.len();
        let taken = bytes.get(..room).unwrap_or(bytes);
        state.out.extend_from_slice(taken);
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.borrow_mut();
        if state.holds { Poll::Ready(Ok(())) } else { state.poll_flush(context) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.borrow_mut();
        ready!(state.poll_drain(context))?;
        Pin::new(&mut state.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn what_is_held_leaves_in_one_piece_and_in_order() {
        let (ours, mut theirs) = duplex(64 * 1024);
        let mut gathered = Gathered::new(ours);
        let driver = gathered.clone();
        driver.hold();
        for piece in [&b"one "[..], b"two ", b"three"] {
            gathered.write_all(piece).await.unwrap();
            gathered.flush().await.unwrap();
        }
        let mut buffer = [0; 64];
        let mut read = ReadBuf::new(&mut buffer);
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut theirs).poll_read(&mut context, &mut read).is_pending());
        poll_fn(|context| driver.poll_release(context)).await.unwrap();
        let count = theirs.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..count], b"one two three");
        gathered.write_all(b"four").await.unwrap();
        gathered.flush().await.unwrap();
        let count = theirs.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..count], b"four", "nothing is held any more");
    }

    #[tokio::test]
    async fn much_leaves_at_once_and_nothing_is_lost_where_the_other_end_is_slow() {
        let (ours, mut theirs) = duplex(1_000);
        let mut gathered = Gathered::new(ours);
        let driver = gathered.clone();
        let sent: Vec<u8> = (0..100_000_u32).flat_map(u32::to_be_bytes).collect();
        let writing = async {
            for piece in sent.chunks(777) {
                driver.hold();
                gathered.write_all(piece).await.unwrap();
                gathered.flush().await.unwrap();
                poll_fn(|context| driver.poll_release(context)).await.unwrap();
            }
            gathered.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let ((), result) = tokio::join!(writing, theirs.read_to_end(&mut received));
        result.unwrap();
        assert!(received == sent);
    }
}
