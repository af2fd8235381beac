//! What the pod's own application asks of others: each request finds an endpoint of its own. It is read to know where it
//! ends and whether it may be repeated; refusing is the other side's.

use std::pin::{Pin, pin};

use engine::gate::http1;
use engine::request::CanonicalRequest;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::yield_now;
use tokio::time::Instant;

use super::answer::{Broken, Ended, Progress};
use super::forward::{
    Client, GivenUp, Next, exchange, invite_body, is_repeatable, refusal_of_body,
};
use super::head::Arrived;
use super::limits;
use super::pool::Connection;
use super::session::{Turn, after, next_head};
use super::wire;
use crate::aside::Aside;
use crate::caller::{Caller, READING, Road, Way};
use crate::endpoint::Passage;
use crate::exchange::{Answer, Failure};
use crate::http2;
use crate::prefixed::Prefixed;

/// Serves HTTP/1.1 on `client` until it ends. What comes back can't be read in one way, or asks to leave HTTP: it begins
/// with that request, and needs a connection of its own.
pub async fn serve_calls<C, K>(client: C, caller: &K) -> Option<Prefixed<C>>
where
    C: AsyncRead + AsyncWrite + Unpin,
    K: Caller,
{
    let (reader, writer) = wire::split(client);
    let mut client = Client { reader, writer };
    let ended = pin!(caller.ended());
    let mut ended = Aside::new(ended);
    let mut first_byte = Instant::now() + limits::FIRST_HEAD;
    loop {
        let turn = match next_head(&mut client, Pin::new(&mut ended), first_byte).await {
            Ok(Arrived::Head(length)) => match read(&client, length) {
                Some(request) => {
                    client.reader.consume(length);
                    let next = call(caller, &request, &mut client).await;
                    Turn { next, head_only: request.method() == "HEAD" }
                }
                None => return wire::join(client.reader, client.writer),
            },
            Ok(Arrived::Ended | Arrived::Slow | Arrived::TooLong) => {
                return wire::join(client.reader, client.writer);
            }
            Err(next) => next.into(),
        };
        client = after(client, turn, caller.ending()).await?;
        first_byte = Instant::now() + limits::IDLE;
    }
}

/// The request, if there is one way to read it and it stays within HTTP.
fn read<C: AsyncRead + AsyncWrite + Unpin>(
    client: &Client<C>,
    length: usize,
) -> Option<CanonicalRequest> {
    let head = client.reader.bytes().get(..length)?;
    let request = http1(head, &READING).ok()?;
    (request.unread().is_none() && request.upgrade().is_none()).then_some(request)
}

/// One request, to an endpoint and back. Where the connection breaks before a byte of an answer it goes out once more, if
/// that can have no effect of its own (RFC 9110 §9.2.2); and where the endpoint has surely not worked on it.
async fn call<C, K>(caller: &K, request: &CanonicalRequest, client: &mut Client<C>) -> Next
where
    C: AsyncRead + AsyncWrite + Unpin,
    K: Caller,
{
    if !is_repeatable(request) {
        // Nothing may go wrong with this one: let what the kernel knows of ended connections arrive first.
        yield_now().await;
    }
    let mut way = match caller.connect(request, None).await {
        Ok(way) => way,
        Err(answer) => return Next::Answer(answer),
    };
    if invite_body(request, client).await.is_err() {
        return Next::Abort;
    }
    let mut progress = Progress::new(request, client.writer.writes());
    let mut result = carry(caller, &mut progress, client, &mut way).await;
    if let Err(Stopped::GivenUp(GivenUp::Answer(broken))) = &result
        && goes_again(broken, &progress)
    {
        if matches!(broken, Broken::Unheard) {
            caller.failed(Failure::Unreachable);
        }
        let flight = give_back(way);
        way = match caller.connect(request, Some(&flight)).await {
            Ok(way) => way,
            Err(answer) => return Next::Answer(answer),
        };
        caller.repeated();
        progress.begin_again();
        result = carry(caller, &mut progress, client, &mut way).await;
    }
    match result {
        Ok(keep_client) => finish(caller, keep_client, (way, &progress), client),
        Err(stopped) => stop(caller, stopped, &progress, client),
    }
}

/// Whether a request whose exchange broke may go out once more.
fn goes_again(broken: &Broken, progress: &Progress<'_>) -> bool {
    match broken {
        Broken::Unheard => is_repeatable(progress.request),
        Broken::Unprocessed => !progress.body_taken.get(),
        Broken::Refused | Broken::Application(_) | Broken::Client => false,
    }
}

/// Gives up the connection of a way, and what it was in flight as.
fn give_back<Io, P, F>((road, flight): (Road<Io, P>, F)) -> F {
    drop(road);
    flight
}

/// Why a call ended before its answer did.
enum Stopped {
    /// The endpoint may no longer be talked to.
    Rejected(Answer),
    GivenUp(GivenUp),
}

/// Whether the client's and the endpoint's connection stay.
#[derive(Clone, Copy)]
struct Keep {
    client: bool,
    endpoint: bool,
}

/// Carries one request on its way. It takes a checked endpoint to get here.
async fn carry<C, K>(
    caller: &K,
    progress: &mut Progress<'_>,
    client: &mut Client<C>,
    (road, flight): &mut Way<K>,
) -> Result<Keep, Stopped>
where
    C: AsyncRead + AsyncWrite + Unpin,
    K: Caller,
{
    let Passage { .. } = road.proof().as_ref();
    progress.keeps_decision = caller.is_meshed(road.proof());
    let (request, begun) = (progress.request, progress.begun.get());
    let ended = match road {
        Road::Own(connection) => {
            let Connection { reader, writer, proof, .. } = &mut **connection;
            tokio::select! {
                biased;
                ended = exchange(progress, client, (reader, writer), || caller.ending()) => ended,
                answer = caller.until_rejected(request, proof, flight) => {
                    return Err(Stopped::Rejected(answer));
                }
            }
        }
        Road::Shared(place, head) => {
            let Client { reader, writer } = client;
            let head = std::mem::take(&mut **head);
            let carried = http2::carry(place, head, progress, (reader, writer), || caller.ending());
            tokio::select! {
                biased;
                ended = carried => ended,
                answer = caller.until_rejected(request, place.proof(), flight) => {
                    place.retire();
                    return Err(Stopped::Rejected(answer));
                }
            }
        }
    };
    if let Some((at, status)) = progress.answered.take() {
        caller.answered(flight, at.saturating_duration_since(begun), status);
    }
    match ended.map_err(Stopped::GivenUp)? {
        Ended::Answered { keep_client, keep_upstream } => {
            Ok(Keep { client: keep_client, endpoint: keep_upstream })
        }
        // An answer to an upgrade that nobody asked for isn't valid, so this doesn't happen.
        Ended::Switched => Ok(Keep { client: false, endpoint: false }),
    }
}

fn finish<C, K>(
    caller: &K,
    keep: Keep,
    ((road, flight), progress): (Way<K>, &Progress<'_>),
    client: &Client<C>,
) -> Next
where
    C: AsyncRead + AsyncWrite + Unpin,
    K: Caller,
{
    match road {
        // More than was asked for (G20): this connection is never used again.
        Road::Own(connection) if !connection.reader.bytes().is_empty() => {
            caller.failed(Failure::Desync);
        }
        Road::Own(connection) if keep.endpoint => caller.keep(*connection, &flight),
        Road::Own(_) | Road::Shared(..) => {}
    }
    let all_sent = progress.sent.get().is_some() && client.reader.bytes().is_empty();
    match keep.client {
        true => Next::Again,
        false if all_sent => Next::Close,
        false => Next::Linger,
    }
}

/// What the application sees of a call that ended early: an answer, unless it has got a part of another.
fn stop<C, K>(caller: &K, stopped: Stopped, progress: &Progress<'_>, client: &mut Client<C>) -> Next
where
    C: AsyncRead + AsyncWrite + Unpin,
    K: Caller,
{
    let answer = match stopped {
        Stopped::Rejected(answer) => Some(answer),
        Stopped::GivenUp(GivenUp::Body(fault)) => {
            refusal_of_body(&fault, progress.request).map(|refusal| caller.refuse(&refusal))
        }
        Stopped::GivenUp(GivenUp::Answer(Broken::Refused | Broken::Client)) => None,
        Stopped::GivenUp(GivenUp::Answer(Broken::Unheard | Broken::Unprocessed)) => {
            Some(caller.failed(Failure::Unreachable))
        }
        Stopped::GivenUp(GivenUp::Answer(Broken::Application(failure))) => {
            Some(caller.failed(failure))
        }
    };
    match answer {
        Some(answer) if client.writer.writes() == progress.expecting.get() => {
            client.writer.out().clear();
            Next::Answer(answer)
        }
        _ => Next::Abort,
    }
}
