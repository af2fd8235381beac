//! A connection that is read no faster than its peer may send: frames that move nothing (PING, SETTINGS, PRIORITY) are
//! free for who sends them, not for us.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use crate::limits::{RECEIVED_BURST_BYTES, RECEIVED_BYTES_PER_SECOND};

/// How long reading rests once the allowance is used up.
const REST: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(crate) struct Paced<T> {
    inner: T,
    allowance: Allowance,
    resting: Option<Pin<Box<Sleep>>>,
}

impl<T> Paced<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self { inner, allowance: Allowance::new(Instant::now()), resting: None }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Paced<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while let Some(resting) = &mut self.resting {
            ready!(resting.as_mut().poll(context));
            let exhausted = self.allowance.is_exhausted(Instant::now());
            self.resting = exhausted.then(|| Box::pin(sleep(REST)));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        let read = buffer.filled().len() - before;
        if self.allowance.spend(read as u64, Instant::now()) {
            self.resting = Some(Box::pin(sleep(REST)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Paced<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

/// A bucket of bytes that fills with time.
#[derive(Debug)]
struct Allowance {
    left: u64,
    at: Instant,
}

impl Allowance {
    fn new(now: Instant) -> Self {
        Self { left: RECEIVED_BURST_BYTES, at: now }
    }

    /// Takes so many; true where nothing is left.
    fn spend(&mut self, bytes: u64, now: Instant) -> bool {
        self.left = self.left.saturating_sub(bytes);
        self.left == 0 && self.is_exhausted(now)
    }

    fn is_exhausted(&mut self, now: Instant) -> bool {
        let passed = u64::try_from(now.duration_since(self.at).as_millis()).unwrap_or(u64::MAX);
        let more = passed.saturating_mul(RECEIVED_BYTES_PER_SECOND / 1000);
        self.left = self.left.saturating_add(more).min(RECEIVED_BURST_BYTES);
        self.at = now;
        self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ct_12_a_peer_is_read_no_faster_than_it_may_send() {
        let begin = Instant::now();
        let mut allowance = Allowance::new(begin);
        assert!(!allowance.spend(RECEIVED_BURST_BYTES - 1, begin));
        assert!(allowance.spend(1, begin));
        let later = begin + Duration::from_secs(1);
        assert!(!allowance.is_exhausted(later));
        let most = RECEIVED_BYTES_PER_SECOND / 1000 * 1000;
        assert!(!allowance.spend(most - 1, later));
        assert!(allowance.spend(1, later));
    }
}
