//! One request on a connection of HTTP/2 whose client speaks HTTP/2 too, and its answer back.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use engine::Permit;
use engine::gate::GateRule;
use engine::request::CanonicalRequest;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream};
use http::{Request, Response};
use tokio::time::{Instant, sleep_until};

use super::body::{Fault, Sent, transfer};
use super::channel::NoPlace;
use super::fields::{self, Passing};
use super::limits;
use super::line::{Manner, Place};
use super::reply::Reply;
use super::stream::{Broken, Client};
use crate::exchange::{Failure, Upstream};
use crate::onward::Onward;

/// Forwards `request`, which the engine allowed. What the application has surely not worked on is sent once more.
pub(super) async fn forward<U: Upstream>(
    _permit: Permit,
    request: &CanonicalRequest,
    onward: &Onward<U>,
    (body, reply): Client<'_>,
) -> Result<(), Broken>
where
    U::Io: 'static,
{
    let seen = Seen::default();
    let mut result = attempt(request, onward, (body, reply), &seen).await;
    if matches!(result, Err(Broken::Unprocessed)) && seen.sent.is_kept() && !reply.has_begun() {
        result = attempt(request, onward, (body, reply), &seen).await;
    }
    result
}

async fn attempt<U: Upstream>(
    request: &CanonicalRequest,
    onward: &Onward<U>,
    (body, reply): Client<'_>,
    seen: &Seen,
) -> Result<(), Broken>
where
    U::Io: 'static,
{
    let head = fields::to_application(request).ok_or(Broken::Malformed(GateRule::G3, "target"))?;
    let place = place(onward, reply).await?;
    Exchange { request, from_proxy: false, seen }.run(&place, head, (body, reply)).await
}

/// A place on a connection; waiting for one ends when the client gives up.
async fn place<U: Upstream>(onward: &Onward<U>, reply: &mut Reply) -> Result<Place<()>, Broken>
where
    U::Io: 'static,
{
    let dial = async || -> io::Result<_> {
        let io = onward.upstream.connect().await?;
        onward.channel.open(io, (), Manner::default()).await
    };
    let dial = async || dial().await.map_err(|error| error.kind());
    tokio::select! {
        biased;
        place = onward.channel.place(|()| true, dial, limits::ANSWER) => {
            place.map_err(|problem| Broken::Application(match problem {
                NoPlace::Failed(_) => Failure::Unreachable,
                NoPlace::Full => Failure::Silent,
            }))
        }
        () = poll_fn(|context| reply.poll_gone(context)) => Err(Broken::Client),
    }
}

fn interim(status: http::StatusCode) -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = status;
    head
}

/// How far a request has come, on all its ways.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// What has gone out of its body.
    pub(super) sent: Sent,
    /// When its answer began, and with which status.
    pub(super) answered: Cell<Option<(Instant, u16)>>,
}

/// One request to the other end of a connection.
pub(super) struct Exchange<'a> {
    pub(super) request: &'a CanonicalRequest,
    /// It is a proxy of ours that answers.
    pub(super) from_proxy: bool,
    pub(super) seen: &'a Seen,
}

impl Exchange<'_> {
    /// Both directions at the same time, until the answer is complete or one of them fails. `head` says what the request
    /// does.
    pub(super) async fn run<P>(
        &self,
        place: &Place<P>,
        head: Request<()>,
        (body, reply): Client<'_>,
    ) -> Result<(), Broken> {
        let whole = body.is_end_stream() && !self.seen.sent.has_begun();
        let Ok((response, mut send)) = place.send(head, whole) else {
            place.retire();
            return Err(Broken::Unprocessed);
        };
        if self.request.expects_continue() && !whole {
            reply.interim(interim(http::StatusCode::CONTINUE));
        }
        let grpc = self.request.is_grpc_content_type();
        let passing = Passing { grpc, decision: false };
        let mut sending = !whole;
        let mut silent_from = whole.then(Instant::now);
        let mut upload = std::pin::pin!(transfer(body, &mut send, Some(&self.seen.sent), passing));
        let mut answer = std::pin::pin!(self.answer(place, response, reply));
        loop {
            let patience = silent_from.map(|since| since + limits::ANSWER);
            let waits = !grpc && patience.is_some();
            tokio::select! {
                biased;
                sent = &mut upload, if sending => match sent {
                    // It may have answered early and want no more; the answer decides.
                    Ok(()) | Err(Fault::Receiver) => {
                        sending = false;
                        silent_from = Some(Instant::now());
                    }
                    Err(Fault::Sender(_)) => return Err(Broken::Client),
                    Err(Fault::Stalled) => return Err(Broken::Application(Failure::Silent)),
                    Err(Fault::Malformed(rule)) => return Err(Broken::Malformed(rule, "trailers")),
                },
                ended = &mut answer => return ended,
                () = until(patience), if waits && self.seen.answered.get().is_none() => {
                    if self.seen.answered.get().is_none() {
                        return Err(Broken::Application(Failure::Silent));
                    }
                    silent_from = None;
                }
            }
        }
    }

    async fn answer<P>(
        &self,
        place: &Place<P>,
        mut response: ResponseFuture,
        reply: &mut Reply,
    ) -> Result<(), Broken> {
        let (head, mut body) = self.head(place, &mut response, reply).await?;
        let ended = body.is_end_stream();
        self.seen.sent.forget();
        self.seen.answered.set(Some((Instant::now(), fields::outcome_of(&head, ended))));
        let head = fields::of_answer(head, ended, self.from_proxy).ok_or(BAD)?;
        let grpc = fields::speaks_grpc(head.headers());
        let to_client = reply.begin(head, ended).map_err(|_| Broken::Client)?;
        if ended {
            return Ok(());
        }
        let passing = Passing { grpc, decision: self.from_proxy };
        match transfer(&mut body, to_client, None, passing).await {
            Ok(()) => Ok(()),
            Err(Fault::Receiver | Fault::Stalled) => Err(Broken::Client),
            Err(Fault::Sender(error)) if error.is_reset() && error.is_remote() => {
                Err(error.reason().map_or(BAD, Broken::Reset))
            }
            Err(Fault::Sender(_) | Fault::Malformed(_)) => Err(BAD),
        }
    }

    /// The head of the final answer. Interim ones pass as over HTTP/1.1.
    async fn head<P>(
        &self,
        place: &Place<P>,
        response: &mut ResponseFuture,
        reply: &mut Reply,
    ) -> Result<(Response<()>, RecvStream), Broken> {
        for heads in 0..=limits::INTERIM_ANSWERS {
            let gone = |context: &mut Context<'_>| reply.poll_gone(context);
            match step(response, gone, place).await.map_err(|broken| seen(broken, heads))? {
                Step::Final(head, body) => return Ok((head, body)),
                Step::Interim(head) => match head.status().as_u16() {
                    101 => return Err(BAD),
                    // G20: the proxy itself has sent `100`, and early hints are dropped.
                    100 | 103 => {}
                    _ => {
                        let head = fields::of_answer(head, false, self.from_proxy);
                        reply.interim(head.ok_or(BAD)?);
                    }
                },
            }
        }
        Err(BAD)
    }
}

/// An interim answer is an answer: whoever gave one has seen the request.
pub(super) fn seen(broken: Broken, heads: usize) -> Broken {
    match broken {
        Broken::Unprocessed | Broken::Lost if heads > 0 => BAD,
        broken => broken,
    }
}

/// The next head of an answer. `gone` is ready when its client has given up.
pub(super) async fn step<P>(
    response: &mut ResponseFuture,
    mut gone: impl FnMut(&mut Context<'_>) -> Poll<()>,
    place: &Place<P>,
) -> Result<Step, Broken> {
    let head = poll_fn(|context| {
        if gone(context).is_ready() {
            return Poll::Ready(Err(Broken::Client));
        }
        if let Poll::Ready(Some(Ok(head))) = response.poll_informational(context) {
            return Poll::Ready(Ok(Step::Interim(head)));
        }
        Pin::new(&mut *response).poll(context).map(|answer| match answer {
            Ok(answer) => {
                let (parts, body) = answer.into_parts();
                Ok(Step::Final(Response::from_parts(parts, ()), body))
            }
            Err(error) => Err(unanswered(&error, place)),
        })
    });
    head.await
}

/// What an error before the answer means. Of a reset with `REFUSED_STREAM`, and of streams above the last one that a
/// goodbye names, nothing was worked on (RFC 9113 §8.7, §6.8).
fn unanswered<P>(error: &h2::Error, place: &Place<P>) -> Broken {
    if !error.is_reset() {
        place.retire();
    }
    let reset = error.reason().filter(|_| error.is_reset() && error.is_remote());
    let goodbye = error.is_remote() && error.is_go_away();
    if goodbye || reset == Some(Reason::REFUSED_STREAM) {
        Broken::Unprocessed
    } else if let Some(code) = reset {
        Broken::Reset(code)
    } else if error.is_io() && place.flaw().is_none() {
        Broken::Lost
    } else {
        BAD
    }
}

const BAD: Broken = Broken::Application(Failure::BadAnswer);

/// One head of an answer.
pub(super) enum Step {
    /// The last, and what follows it.
    Final(Response<()>, RecvStream),
    /// Another one follows.
    Interim(Response<()>),
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
