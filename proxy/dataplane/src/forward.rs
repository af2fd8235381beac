//! Moves the bytes of an allowed connection, both ways, unread. The price of entry is a [`Permit`] of the engine, or, for
//! what the pod itself calls, the [`Passage`] that a checked endpoint gives.

use std::cell::Cell;
use std::io;

use engine::Permit;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf, split,
};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::endpoint::Passage;
use crate::limits;

/// How a connection ended.
#[derive(Debug)]
pub struct Ended {
    /// Bytes that went to the client.
    pub to_client: u64,
    /// Why it ended.
    pub why: Why,
}

/// Why a connection ended.
#[derive(Debug)]
pub enum Why {
    /// Both sides were done.
    Done,
    /// What the client sent may not go on.
    Refused,
    /// One side broke.
    Broken(io::Error),
}

/// Forwards to the pod's application until both sides are done, one breaks, or `passes` says no to bytes of the client
/// (before they go on).
pub async fn to_application<C, A>(
    permit: Permit,
    client: C,
    application: A,
    passes: impl FnMut(&[u8]) -> bool,
) -> Ended
where
    C: AsyncRead + AsyncWrite + Unpin,
    A: AsyncRead + AsyncWrite + Unpin,
{
    // The permit is for this one connection, and ends here.
    let Permit { .. } = permit;
    both_ways(client, application, passes).await
}

/// Forwards what the pod itself calls.
pub async fn to_endpoint<C, E>(passage: Passage, client: C, endpoint: E) -> Ended
where
    C: AsyncRead + AsyncWrite + Unpin,
    E: AsyncRead + AsyncWrite + Unpin,
{
    let Passage { .. } = passage;
    both_ways(client, endpoint, |_| true).await
}

async fn both_ways<C, A>(client: C, application: A, passes: impl FnMut(&[u8]) -> bool) -> Ended
where
    C: AsyncRead + AsyncWrite + Unpin,
    A: AsyncRead + AsyncWrite + Unpin,
{
    let (from_client, to_client) = split(client);
    let (from_application, to_application) = split(application);
    let half = HalfClosed::default();
    let sent = Cell::new(0);
    let up = pump(from_client, to_application, &half, passes);
    let down = pump(from_application, to_client, &half, |bytes| {
        sent.set(sent.get() + bytes.len() as u64);
        true
    });
    let why = match tokio::try_join!(up, down) {
        Ok(_) => Why::Done,
        Err(why) => why,
    };
    Ended { to_client: sent.get(), why }
}

/// Whether one direction has ended. From then on the other one must keep moving.
#[derive(Default)]
struct HalfClosed {
    closed: Cell<bool>,
    wake: Notify,
}

impl HalfClosed {
    fn close(&self) {
        self.closed.set(true);
        self.wake.notify_waiters();
    }

    /// Ends when nothing moved for too long on a half-closed connection.
    async fn stalled(&self) {
        while !self.closed.get() {
            self.wake.notified().await;
        }
        sleep(limits::HALF_CLOSED).await;
    }
}

async fn pump<R, W>(
    mut from: ReadHalf<R>,
    mut to: WriteHalf<W>,
    half: &HalfClosed,
    mut passes: impl FnMut(&[u8]) -> bool,
) -> Result<(), Why>
where
    R: AsyncRead,
    W: AsyncWrite,
{
    let mut buffer = vec![0; limits::FORWARD_BUFFER_BYTES];
    loop {
        let count = tokio::select! {
            read = from.read(&mut buffer) => read.map_err(Why::Broken)?,
            () = half.stalled() => return Err(Why::Broken(io::ErrorKind::TimedOut.into())),
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            half.close();
            // A side that is gone already needs no goodbye.
            let _ = to.shutdown().await;
            return Ok(());
        }
        if !passes(bytes) {
            return Err(Why::Refused);
        }
        to.write_all(bytes).await.map_err(Why::Broken)?;
        to.flush().await.map_err(Why::Broken)?;
    }
}

#[cfg(test)]
mod tests {
    use engine::{Decision, Form, Reason};
    use tokio::io::duplex;

    use super::*;

    #[test]
    fn a_refusal_gives_no_permit() {
        assert!(Decision::refusal(Reason::Overloaded, Form::Closed).permit().is_none());
        assert!(Decision::refusal(Reason::Allowed, Form::Closed).permit().is_none());
    }

    #[tokio::test]
    async fn a_pump_moves_bytes_until_they_may_not_pass() {
        let (mut client, near) = duplex(64);
        let (far, mut application) = duplex(64);
        let (from, _back) = split(near);
        let (keep, to) = split(far);
        let half = HalfClosed::default();
        let moving = pump(from, to, &half, |bytes| !bytes.starts_with(b"GET"));
        let driving = async {
            client.write_all(b"one").await.unwrap();
            let mut got = [0; 3];
            application.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"one");
            client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        };
        let (ended, ()) = tokio::join!(moving, driving);
        assert!(matches!(ended, Err(Why::Refused)));
        drop(keep);
        let mut rest = Vec::new();
        application.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
    }
}
