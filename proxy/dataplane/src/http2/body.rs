//! Moving a body from one stream to another. The window of the one is given back as the other takes the bytes.

use std::cell::RefCell;
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

/// What has gone out of a request's body. Its first piece is kept until the answer begins, so that a request that nobody
/// worked on can go out once more: most calls of gRPC are one piece.
#[derive(Debug, Default)]
pub(super) struct Sent(RefCell<Begun>);

#[derive(Debug, Default)]
enum Begun {
    #[default]
    Nothing,
    /// One piece; whether its window has been given back.
    One(Bytes, bool),
    More,
}

impl Sent {
    /// Whether it can go out once more.
    pub(super) fn is_kept(&self) -> bool {
        !matches!(*self.0.borrow(), Begun::More)
    }

    /// Whether anything has gone out.
    pub(super) fn has_begun(&self) -> bool {
        !matches!(*self.0.borrow(), Begun::Nothing)
    }

    /// Forgets what is kept: it won't go out again.
    pub(super) fn forget(&self) {
        *self.0.borrow_mut() = Begun::More;
    }

    fn begin(&self, piece: &Bytes) {
        let mut begun = self.0.borrow_mut();
        *begun = match *begun {
            Begun::Nothing => Begun::One(piece.clone(), false),
            Begun::One(..) | Begun::More => Begun::More,
        };
    }

    /// The piece to begin with, the second time.
    fn again(&self) -> Option<Bytes> {
        match &*self.0.borrow() {
            Begun::One(piece, _) => Some(piece.clone()),
            Begun::Nothing | Begun::More => None,
        }
    }

    /// The piece has gone out. True: its window is still to be given back.
    fn passed(&self) -> bool {
        match &mut *self.0.borrow_mut() {
            Begun::One(_, given_back) => !std::mem::replace(given_back, true),
            Begun::Nothing | Begun::More => true,
        }
    }
}

/// Moves a body to its end, trailers included. Of a request, `sent` is what went out of it.
pub(super) async fn transfer(
    from: &mut RecvStream,
    to: &mut SendStream<Bytes>,
    sent: Option<&Sent>,
    passing: Passing,
) -> Result<(), Fault> {
    let mut piece = sent.and_then(Sent::again);
    loop {
        let piece = match piece.take() {
            Some(piece) => piece,
            None => match next(from, to).await? {
                Some(piece) => {
                    sent.inspect(|sent| sent.begin(&piece));
                    piece
                }
                None => break,
            },
        };
        let (last, count) = (from.is_end_stream(), piece.len());
        pass(piece, last, to).await?;
        if sent.is_none_or(Sent::passed) {
            from.flow_control().release_capacity(count).map_err(Fault::Sender)?;
        }
        if last {
            return Ok(());
        }
    }
    let end = match from.trailers().await.map_err(Fault::Sender)? {
        Some(all) => {
            sent.inspect(|sent| sent.forget());
            fields::trailers(all, passing).map_err(Fault::Malformed)?
        }
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
async fn pass(mut piece: Bytes, last: bool, to: &mut SendStream<Bytes>) -> Result<(), Fault> {
    if piece.is_empty() && last {
        return to.send_data(piece, true).map_err(|_| Fault::Receiver);
    }
    while !piece.is_empty() {
        let room = room(to, piece.len()).await?;
        let part = piece.split_to(room.min(piece.len()));
        to.send_data(part, last && piece.is_empty()).map_err(|_| Fault::Receiver)?;
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
