//! Moving a body from one stream to another. The window of the one is given back as the other takes the bytes.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;
use engine::gate::GateRule;
use h2::{RecvStream, SendStream};
use tokio::time::timeout;

use super::fields::{self, Passing};
use super::limits;

/// How a transfer can fail.
#[derive(Debug)]
pub(super) enum Fault {
    /// The sender failed, or gave up.
    Sender(h2::Error),
    /// The receiver failed, or gave up.
    Receiver,
    /// The receiver takes nothing.
    Stalled,
    /// The trailers break a rule.
    Malformed(GateRule),
}

/// Moves a body to its end, trailers included. `taken` becomes true with its first byte.
pub(super) async fn transfer(
    from: &mut RecvStream,
    to: &mut SendStream<Bytes>,
    taken: &Cell<bool>,
    passing: Passing,
) -> Result<(), Fault> {
    while let Some(piece) = next(from, to).await? {
        taken.set(true);
        let last = from.is_end_stream();
        pass(piece, last, from, to).await?;
        if last {
            return Ok(());
        }
    }
    let end = match from.trailers().await.map_err(Fault::Sender)? {
        Some(all) => fields::trailers(all, passing).map_err(Fault::Malformed)?,
        None => http::HeaderMap::new(),
    };
    let sent =
        if end.is_empty() { to.send_data(Bytes::new(), true) } else { to.send_trailers(end) };
    sent.map_err(|_| Fault::Receiver)
}

/// The next piece that came; none at the end of the data. Ends, too, when the receiver gives up meanwhile.
async fn next(from: &mut RecvStream, to: &mut SendStream<Bytes>) -> Result<Option<Bytes>, Fault> {
    poll_fn(|context| {
        if to.poll_reset(context).is_ready() {
            return Poll::Ready(Err(Fault::Receiver));
        }
        from.poll_data(context).map(|piece| piece.transpose().map_err(Fault::Sender))
    })
    .await
}

/// Passes one piece on, as far as the receiver has room.
async fn pass(
    mut piece: Bytes,
    last: bool,
    from: &mut RecvStream,
    to: &mut SendStream<Bytes>,
) -> Result<(), Fault> {
    if piece.is_empty() && last {
        return to.send_data(piece, true).map_err(|_| Fault::Receiver);
    }
    while !piece.is_empty() {
        let room = room(to, piece.len()).await?;
        let part = piece.split_to(room.min(piece.len()));
        let count = part.len();
        to.send_data(part, last && piece.is_empty()).map_err(|_| Fault::Receiver)?;
        from.flow_control().release_capacity(count).map_err(Fault::Sender)?;
    }
    Ok(())
}

/// Waits until the receiver has room for some of `wanted` bytes.
pub(super) async fn room(to: &mut SendStream<Bytes>, wanted: usize) -> Result<usize, Fault> {
    to.reserve_capacity(wanted);
    match to.capacity() {
        0 => {}
        room => return Ok(room),
    }
    let more = timeout(limits::STALL, poll_fn(|context| to.poll_capacity(context)));
    match more.await {
        Ok(Some(Ok(room))) => Ok(room),
        Ok(Some(Err(_)) | None) => Err(Fault::Receiver),
        Err(_) => Err(Fault::Stalled),
    }
}
