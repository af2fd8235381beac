//! One client's connection: request after request, in order, until either side has enough.

use std::pin::{Pin, pin};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use engine::gate::{GateRule, Refusal};
use engine::request::Version;

use super::denied;
use super::forward::{Client, Forwarder, Next};
use super::head::{Arrived, read_head};
use super::limits;
use super::pool::Pool;
use super::wire;
use crate::aside::Aside;
use crate::exchange::{Answer, Decider, Granted, Last, Upstream, Verdict};

/// Serves HTTP/1.1 on `client` until the connection ends. Requests are decided by `decider`; those with a permit go to
/// `upstream`, on connections of their own. Dropping the future cuts both ends.
pub async fn serve<C, D, U>(client: C, decider: &D, upstream: &U)
where
    C: AsyncRead + AsyncWrite + Unpin,
    D: Decider,
    U: Upstream,
{
    serve_pooled(client, decider, upstream, &Pool::default()).await;
}

/// The same, on connections of `pool` where one is idle: several clients share them, one after the other.
pub async fn serve_pooled<C, D, U>(client: C, decider: &D, upstream: &U, pool: &Pool<U::Io>)
where
    C: AsyncRead + AsyncWrite + Unpin,
    D: Decider,
    U: Upstream,
{
    let (reader, writer) = wire::split(client);
    let mut client = Client { reader, writer };
    let forwarder = Forwarder { decider, upstream, pool };
    let ended = pin!(decider.ended());
    let mut ended = Aside::new(ended);
    let mut first_byte = Instant::now() + limits::FIRST_HEAD;
    loop {
        let turn = match next_head(&mut client, Pin::new(&mut ended), first_byte).await {
            Ok(Arrived::Head(length)) => take_turn(&forwarder, &mut client, length).await,
            Ok(Arrived::Ended) => Next::Close.into(),
            Ok(Arrived::Slow | Arrived::TooLong) => {
                Next::Answer(refuse(decider, client.reader.bytes())).into()
            }
            Err(next) => next.into(),
        };
        let after = after(client, turn, decider.ending()).await;
        let Some(same) = after else { return };
        client = same;
        first_byte = Instant::now() + limits::IDLE;
    }
}

/// What came of one request.
pub(super) struct Turn {
    pub(super) next: Next,
    /// An answer to it has no body, because it was a HEAD.
    pub(super) head_only: bool,
}

impl From<Next> for Turn {
    fn from(next: Next) -> Self {
        Self { next, head_only: false }
    }
}

/// Ends a turn; the client's connection, if another may follow.
pub(super) async fn after<C: AsyncRead + AsyncWrite + Unpin>(
    mut client: Client<C>,
    turn: Turn,
    ending: bool,
) -> Option<Client<C>> {
    match turn.next {
        Next::Again if !ending => return Some(client),
        Next::Again | Next::Close => close(client, false).await,
        Next::Abort => {}
        Next::Linger => close(client, true).await,
        Next::Answer(answer) => {
            answer.write_http1(Last::Yes, turn.head_only, client.writer.out());
            close(client, true).await;
        }
    }
    None
}

/// Waits for the next head; where it is whole, it lies at the start of what has arrived. Nothing of it is waited for once
/// `ended` is over.
pub(super) async fn next_head<C: AsyncRead + AsyncWrite + Unpin>(
    client: &mut Client<C>,
    ended: Pin<&mut impl Future<Output = ()>>,
    first_byte: Instant,
) -> Result<Arrived, Next> {
    if client.reader.bytes().is_empty() {
        client.reader.rest();
        client.writer.rest();
        tokio::select! {
            biased;
            arrived = first_bytes(client, first_byte) => if !arrived { return Err(Next::Close) },
            () = ended => return Err(Next::Close),
        }
    }
    read_head(&mut client.reader).await.map_err(|_| Next::Abort)
}

/// Waits for the first bytes of a head; whether any came. A connection without a request for a moment gives all its buffers
/// back, and waits with a few bytes of one: what TLS has taken in it gives out again without asking the kernel.
async fn first_bytes<C>(client: &mut Client<C>, by: Instant) -> bool
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    // The clock was read for `by`, an idle time from then.
    let soon = by.checked_sub(limits::IDLE.saturating_sub(limits::RELEASE)).unwrap_or(by);
    let mut arrived = client.reader.fill_before(soon).await;
    if arrived.is_none() {
        client.writer.release();
        arrived = client.reader.fill_little_before(by).await;
    }
    matches!(arrived, Some(Ok(1..)))
}

/// The answer to a head that is too slow or too long.
fn refuse<D: Decider>(decider: &D, so_far: &[u8]) -> Answer {
    let refusal = Refusal {
        rule: GateRule::Limits,
        offset: so_far.len(),
        field: None,
        grpc: false,
        version: Version::Http11,
    };
    decider.refuse_head(so_far, refusal)
}

/// Decides one request, whose head is the first `length` bytes, and forwards it with the permit, or answers.
async fn take_turn<C, D, U>(
    forwarder: &Forwarder<'_, D, U>,
    client: &mut Client<C>,
    length: usize,
) -> Turn
where
    C: AsyncRead + AsyncWrite + Unpin,
    D: Decider,
    U: Upstream,
{
    let head = client.reader.bytes().get(..length).unwrap_or_default();
    let head_only = head.starts_with(b"HEAD ");
    let verdict = forwarder.decider.decide(head);
    client.reader.consume(length);
    let next = match verdict {
        Verdict::Answer(answer) => Next::Answer(answer),
        Verdict::Deny(denied) => {
            let ending = || forwarder.decider.ending();
            let next = denied::answer(&denied, client, ending).await;
            forwarder.decider.give_back(denied.request);
            next
        }
        Verdict::Close => Next::Close,
        Verdict::Forward(Granted { request, permit, in_flight }) => {
            let next = forwarder.forward(permit, &request, client).await;
            drop(in_flight);
            forwarder.decider.give_back(request);
            next
        }
    };
    Turn { next, head_only }
}

/// Ends the connection. `linger`: the client may still be sending, and a cut now could take the answer from it.
async fn close<C: AsyncRead + AsyncWrite + Unpin>(mut client: Client<C>, linger: bool) {
    if client.writer.end().await.is_ok() && linger {
        client.reader.discard().await;
    }
}
