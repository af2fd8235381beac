//! Moves the bytes of an allowed connection, both ways, unread. The price of entry is a [`Permit`] of the engine, or, for
//! what the pod itself calls, the [`Passage`] that a checked endpoint gives.

use std::cell::Cell;
use std::io;
use std::pin::pin;

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
    /// Bytes that were taken from the client.
    pub from_client: u64,
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
    /// This side broke.
    Broken(Side, io::Error),
}

/// One of the two ends of a connection that is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Whoever came.
    Client,
    /// Where it goes.
    Callee,
}

impl Side {
    const fn other(self) -> Self {
        match self {
            Self::Client => Self::Callee,
            Self::Callee => Self::Client,
        }
    }
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
pub async fn to_endpoint<C, E>(passage: &Passage, client: C, endpoint: E) -> Ended
where
    C: AsyncRead + AsyncWrite + Unpin,
    E: AsyncRead + AsyncWrite + Unpin,
{
    let Passage { .. } = passage;
    both_ways(client, endpoint, |_| true).await
}

async fn both_ways<C, A>(client: C, callee: A, mut passes: impl FnMut(&[u8]) -> bool) -> Ended
where
    C: AsyncRead + AsyncWrite + Unpin,
    A: AsyncRead + AsyncWrite + Unpin,
{
    let (from_client, to_client) = split(client);
    let (from_callee, to_callee) = split(callee);
    let half = HalfClosed::default();
    let (taken, sent) = (Cell::new(0), Cell::new(0));
    let mut up = pin!(pump((from_client, to_callee), Side::Client, &half, |bytes| {
        taken.set(taken.get() + bytes.len() as u64);
        passes(bytes)
    }));
    let mut down = pin!(pump((from_callee, to_client), Side::Callee, &half, |bytes| {
        sent.set(sent.get() + bytes.len() as u64);
        true
    }));
    let ended = tokio::select! {
        ended = &mut up => match ended {
            Ok(()) => down.await,
            Err(why @ Why::Broken(Side::Callee, _)) => {
                // It takes no more, but may have answered before: that must not be lost.
                half.close();
                down.await.and(Err(why))
            }
            Err(why) => Err(why),
        },
        ended = &mut down => match ended {
            Ok(()) => up.await,
            Err(why) => Err(why),
        },
    };
    let why = ended.err().unwrap_or(Why::Done);
    Ended { to_client: sent.get(), from_client: taken.get(), why }
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

/// Moves what comes from `side` until that ends.
async fn pump<R, W>(
    (mut from, mut to): (ReadHalf<R>, WriteHalf<W>),
    side: Side,
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
            read = from.read(&mut buffer) => read.map_err(|error| Why::Broken(side, error))?,
            () = half.stalled() => return Err(Why::Broken(side, io::ErrorKind::TimedOut.into())),
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
        let written = async {
            to.write_all(bytes).await?;
            to.flush().await
        };
        written.await.map_err(|error| Why::Broken(side.other(), error))?;
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
        let moving = pump((from, to), Side::Client, &half, |bytes| !bytes.starts_with(b"GET"));
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
