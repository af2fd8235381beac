//! What the pod's own application asks of others: each request finds an endpoint of its own. It is read to know where it
//! ends and whether it may be repeated; refusing is the other side's.

use std::pin::{Pin, pin};

use engine::gate::{GateProfile, PathMode, Refusal, http1};
use engine::request::CanonicalRequest;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::yield_now;
use tokio::time::{Duration, Instant};

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
use crate::endpoint::Passage;
use crate::exchange::{Answer, Failure};
use crate::prefixed::Prefixed;

/// Nothing is normalised but what belongs to the hop, and what can't be read in one way isn't read at all.
static READING: GateProfile = GateProfile {
    path_mode: PathMode::Opaque,
    websocket: true,
    lenient: true,
    policy_headers: Vec::new(),
};

/// A connection to an endpoint, and its place among what is in flight there.
type Line<K> = (Connection<<K as Caller>::Io, <K as Caller>::Proof>, <K as Caller>::Flight);

/// Chooses endpoints for the requests of a service. What a refusal looks like to the application is its to say, and it has
/// counted and recorded it then.
pub trait Caller {
    /// A connection to an endpoint.
    type Io: AsyncRead + AsyncWrite + Unpin;
    /// That the endpoint was checked, and how.
    type Proof: AsRef<Passage>;
    /// One request in flight to one endpoint, until dropped.
    type Flight;

    /// An idle connection or a new one: a new one to a request of HTTP/1.0 (G18), and where one has just broken; then, if
    /// possible, to another endpoint.
    fn connect(
        &self,
        request: &CanonicalRequest,
        broken: Option<&Self::Flight>,
    ) -> impl Future<Output = Result<Line<Self>, Answer>>;
    /// Whether answers on it come from a proxy of ours.
    fn is_meshed(&self, proof: &Self::Proof) -> bool;
    /// Ends when the endpoint may no longer be talked to.
    fn until_rejected(
        &self,
        proof: &Self::Proof,
        flight: &Self::Flight,
    ) -> impl Future<Output = Answer>;
    /// An answer with this status began so long after its request.
    fn answered(&self, flight: &Self::Flight, took: Duration, status: u16);
    /// Takes a connection whose exchange is complete.
    fn keep(&self, connection: Connection<Self::Io, Self::Proof>, flight: &Self::Flight);
    /// A request goes out once more.
    fn repeated(&self);
    /// An endpoint failed after it was reached.
    fn failed(&self, failure: Failure) -> Answer;
    /// The application's body breaks a rule, after its head has gone out.
    fn refuse_body(&self, refusal: &Refusal) -> Answer;
    /// Whether the application's connection should end after the present exchange.
    fn ending(&self) -> bool;
    /// Ends as soon as [`Caller::ending`] is true. Awaited between requests only.
    fn ended(&self) -> impl Future<Output = ()>;
}

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
/// that can have no effect of its own (RFC 9110 §9.2.2).
async fn call<C, K>(caller: &K, request: &CanonicalRequest, client: &mut Client<C>) -> Next
where
    C: AsyncRead + AsyncWrite + Unpin,
    K: Caller,
{
    if !is_repeatable(request) {
        // Nothing may go wrong with this one: let what the kernel knows of ended connections arrive first.
        yield_now().await;
    }
    let mut line = match caller.connect(request, None).await {
        Ok(line) => line,
        Err(answer) => return Next::Answer(answer),
    };
    if invite_body(request, client).await.is_err() {
        return Next::Abort;
    }
    let mut progress = Progress::new(request, client.writer.writes());
    let mut result = carry(caller, &mut progress, client, &mut line).await;
    if let Err(Stopped::GivenUp(GivenUp::Answer(Broken::Unheard))) = result
        && is_repeatable(request)
    {
        caller.failed(Failure::Unreachable);
        line = match caller.connect(request, Some(&line.1)).await {
            Ok(line) => line,
            Err(answer) => return Next::Answer(answer),
        };
        caller.repeated();
        progress.begin_again();
        result = carry(caller, &mut progress, client, &mut line).await;
    }
    match result {
        Ok(keep_client) => finish(caller, keep_client, (line, &progress), client),
        Err(stopped) => stop(caller, stopped, &progress, client),
    }
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

/// Carries one request on one connection. It takes a checked endpoint to get here.
async fn carry<C, K>(
    caller: &K,
    progress: &mut Progress<'_>,
    client: &mut Client<C>,
    (connection, flight): &mut Line<K>,
) -> Result<Keep, Stopped>
where
    C: AsyncRead + AsyncWrite + Unpin,
    K: Caller,
{
    let Passage { .. } = connection.proof.as_ref();
    progress.keeps_decision = caller.is_meshed(&connection.proof);
    let begun = progress.begun.get();
    let Connection { reader, writer, proof, .. } = connection;
    let ended = tokio::select! {
        biased;
        ended = exchange(progress, client, (reader, writer), || caller.ending()) => ended,
        answer = caller.until_rejected(proof, flight) => return Err(Stopped::Rejected(answer)),
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
    ((connection, flight), progress): (Line<K>, &Progress<'_>),
    client: &Client<C>,
) -> Next
where
    C: AsyncRead + AsyncWrite + Unpin,
    K: Caller,
{
    if !connection.reader.bytes().is_empty() {
        // More than was asked for (G20): this connection is never used again.
        caller.failed(Failure::Desync);
    } else if keep.endpoint {
        caller.keep(connection, &flight);
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
            refusal_of_body(&fault, progress.request).map(|refusal| caller.refuse_body(&refusal))
        }
        Stopped::GivenUp(GivenUp::Answer(Broken::Client)) => None,
        Stopped::GivenUp(GivenUp::Answer(Broken::Unheard)) => {
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
