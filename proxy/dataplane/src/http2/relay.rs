//! One allowed request to an application that speaks HTTP/2, and its answer back.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use engine::Permit;
use engine::gate::GateRule;
use engine::request::CanonicalRequest;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::Response;
use tokio::time::{Instant, sleep_until};

use super::body::{Fault, transfer};
use super::channel::Place;
use super::reply::Reply;
use super::stream::{Broken, Client};
use super::{fields, limits};
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
    let taken = Cell::new(false);
    let mut result = attempt(request, onward, (body, reply), &taken).await;
    if matches!(result, Err(Broken::Unprocessed)) && !taken.get() && !reply.has_begun() {
        result = attempt(request, onward, (body, reply), &taken).await;
    }
    result
}

async fn attempt<U: Upstream>(
    request: &CanonicalRequest,
    onward: &Onward<U>,
    (body, reply): Client<'_>,
    taken: &Cell<bool>,
) -> Result<(), Broken>
where
    U::Io: 'static,
{
    let head = fields::to_application(request).ok_or(Broken::Malformed(GateRule::G3, "target"))?;
    let mut place = place(onward, reply).await?;
    let whole = body.is_end_stream();
    let Ok((response, send)) = place.sender.send_request(head, whole) else {
        place.retire();
        return Err(Broken::Unprocessed);
    };
    if request.expects_continue() && !whole {
        reply.interim(interim(http::StatusCode::CONTINUE));
    }
    let grpc = request.is_grpc_content_type();
    let exchange = Exchange { place: &place, taken, grpc, begun: Cell::new(false) };
    exchange.run((response, send), (body, reply)).await
}

/// A place on a connection; waiting for one ends when the client gives up.
async fn place<U: Upstream>(onward: &Onward<U>, reply: &mut Reply) -> Result<Place, Broken>
where
    U::Io: 'static,
{
    tokio::select! {
        biased;
        place = onward.channel.place(&onward.upstream) => {
            place.map_err(|_| Broken::Application(Failure::Unreachable))
        }
        () = poll_fn(|context| reply.poll_gone(context)) => Err(Broken::Client),
    }
}

fn interim(status: http::StatusCode) -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = status;
    head
}

struct Exchange<'a> {
    place: &'a Place,
    taken: &'a Cell<bool>,
    grpc: bool,
    begun: Cell<bool>,
}

impl Exchange<'_> {
    /// Both directions at the same time, until the answer is complete or one of them fails.
    async fn run(
        &self,
        (response, mut send): (ResponseFuture, SendStream<Bytes>),
        (body, reply): Client<'_>,
    ) -> Result<(), Broken> {
        let mut sending = !body.is_end_stream();
        let mut silent_from = (!sending).then(Instant::now);
        let mut upload = std::pin::pin!(transfer(body, &mut send, self.taken, self.grpc));
        let mut answer = std::pin::pin!(self.answer(response, reply));
        loop {
            let patience = silent_from.map(|since| since + limits::ANSWER);
            tokio::select! {
                biased;
                sent = &mut upload, if sending => match sent {
                    // The application may have answered early and wants no more; the answer decides.
                    Ok(()) | Err(Fault::Receiver) => {
                        sending = false;
                        silent_from = Some(Instant::now());
                    }
                    Err(Fault::Sender(_)) => return Err(Broken::Client),
                    Err(Fault::Stalled) => return Err(Broken::Application(Failure::Silent)),
                    Err(Fault::Malformed(rule)) => return Err(Broken::Malformed(rule, "trailers")),
                },
                ended = &mut answer => return ended,
                () = until(patience), if !self.grpc && !self.begun.get() && patience.is_some() => {
                    if !self.begun.get() {
                        return Err(Broken::Application(Failure::Silent));
                    }
                    silent_from = None;
                }
            }
        }
    }

    async fn answer(&self, mut response: ResponseFuture, reply: &mut Reply) -> Result<(), Broken> {
        let (head, mut body) = self.head(&mut response, reply).await?;
        self.begun.set(true);
        let ended = body.is_end_stream();
        let head = fields::of_answer(head, ended).ok_or(BAD)?;
        let grpc = fields::speaks_grpc(head.headers());
        let to_client = reply.begin(head, ended).map_err(|_| Broken::Client)?;
        if ended {
            return Ok(());
        }
        match transfer(&mut body, to_client, &Cell::new(false), grpc).await {
            Ok(()) => Ok(()),
            Err(Fault::Receiver | Fault::Stalled) => Err(Broken::Client),
            Err(Fault::Sender(error)) if error.is_reset() => {
                Err(error.reason().map_or(BAD, Broken::Reset))
            }
            Err(Fault::Sender(_) | Fault::Malformed(_)) => Err(BAD),
        }
    }

    /// The head of the final answer. Interim ones pass as over HTTP/1.1.
    async fn head(
        &self,
        response: &mut ResponseFuture,
        reply: &mut Reply,
    ) -> Result<(Response<()>, RecvStream), Broken> {
        for _ in 0..=limits::INTERIM_ANSWERS {
            match self.step(response, reply).await? {
                Step::Final(head, body) => return Ok((head, body)),
                Step::Interim(head) => match head.status().as_u16() {
                    101 => return Err(BAD),
                    // G20: the proxy itself has sent `100`, and early hints are dropped.
                    100 | 103 => {}
                    _ => reply.interim(fields::of_answer(head, false).ok_or(BAD)?),
                },
            }
        }
        Err(BAD)
    }

    async fn step(&self, response: &mut ResponseFuture, reply: &mut Reply) -> Result<Step, Broken> {
        let head = poll_fn(|context| {
            if reply.poll_gone(context).is_ready() {
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
                Err(error) => Err(self.unanswered(&error)),
            })
        });
        head.await
    }

    /// What an error before the answer means. The application says of which streams it has not taken notice.
    fn unanswered(&self, error: &h2::Error) -> Broken {
        let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
        let goodbye = error.is_go_away() && error.reason() == Some(Reason::NO_ERROR);
        if !error.is_reset() {
            self.place.retire();
        }
        if error.is_remote() && (refused || goodbye) { Broken::Unprocessed } else { BAD }
    }
}

const BAD: Broken = Broken::Application(Failure::BadAnswer);

enum Step {
    Interim(Response<()>),
    Final(Response<()>, RecvStream),
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
