//! The streams of the pod's own application: each finds an endpoint of its own, on a connection that many share.

use std::future::poll_fn;
use std::rc::Rc;

use bytes::Bytes;
use engine::gate::{GateRule, http2};
use engine::request::CanonicalRequest;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Method, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::yield_now;
use tokio::time::Instant;

use super::line::Place;
use super::relay::{Exchange, Seen};
use super::reply::Reply;
use super::server::{self, Service};
use super::stream::{Broken, Client, refusal};
use super::{fields, timeout};
use crate::caller::{Caller, READING};
use crate::endpoint::Passage;
use crate::exchange::{Answer, Failure};

/// Serves HTTP/2 on `client`, which begins with the preface, until the connection ends. Dropping the future cuts all of it.
pub async fn serve_calls<S, K>(client: S, caller: Rc<K>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    K: Caller + 'static,
{
    server::serve(client, &Calls(caller)).await;
}

/// Whose streams go to endpoints.
struct Calls<K>(Rc<K>);

impl<K: Caller + 'static> Service for Calls<K> {
    fn take_up(
        &self,
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
    ) -> Option<impl Future<Output = ()> + 'static> {
        let (parts, body) = request.into_parts();
        let mut reply = Reply::new(respond, parts.method == Method::HEAD);
        match http2(&fields::of_request(&parts), &READING) {
            Ok(request) => Some(Self(Rc::clone(&self.0)).carry(request, body, reply)),
            Err(refusal) => {
                let answer = self.0.refuse(&refusal);
                reply.refuse(&Answer { grpc: refusal.grpc, ..answer });
                None
            }
        }
    }

    fn refused_below(&self, rule: GateRule, what: &str) {
        self.0.refused_below(rule, what);
    }

    async fn ended(&self) {
        self.0.ended().await;
    }
}

/// How a proxy of ours refuses what its port doesn't take (semantics D5).
pub(super) fn is_without_a_word(reason: Reason) -> bool {
    reason == Reason::HTTP_1_1_REQUIRED
}

/// Why a call ended before its answer did.
enum Stopped {
    /// There is no endpoint for it, or the one it went to may no longer be talked to.
    Refused(Answer),
    Broken(Broken),
}

impl<K: Caller> Calls<K> {
    async fn carry(self, request: CanonicalRequest, mut body: RecvStream, mut reply: Reply) {
        let overdue = timeout::over(&request);
        tokio::select! {
            biased;
            ended = self.call(&request, (&mut body, &mut reply)) => match ended {
                Ok(()) => {}
                Err(Stopped::Refused(answer)) => reply.refuse(&answer),
                Err(Stopped::Broken(broken)) => self.give_up(&broken, &request, &mut reply),
            },
            () = overdue => reply.refuse(&self.failed(Failure::Deadline, &request)),
        }
    }

    /// To an endpoint and back. What that has surely not worked on goes out once more, if possible to another one.
    async fn call(
        &self,
        request: &CanonicalRequest,
        (body, reply): Client<'_>,
    ) -> Result<(), Stopped> {
        // What the kernel knows of ended connections arrives first.
        yield_now().await;
        let seen = Seen::default();
        let (place, flight) = self.place(request, None, reply).await?;
        let result = self.exchange(request, (&place, &flight), (body, reply), &seen).await;
        let Err(Stopped::Broken(Broken::Unprocessed)) = result else { return result };
        if !seen.sent.is_kept() || reply.has_begun() {
            return result;
        }
        drop(place);
        let (place, flight) = self.place(request, Some(&flight), reply).await?;
        self.0.repeated();
        self.exchange(request, (&place, &flight), (body, reply), &seen).await
    }

    /// A place at an endpoint; waiting for one ends when the application gives up.
    async fn place(
        &self,
        request: &CanonicalRequest,
        broken: Option<&K::Flight>,
        reply: &mut Reply,
    ) -> Result<(Place<K::Proof>, K::Flight), Stopped> {
        tokio::select! {
            biased;
            found = self.0.place(request, broken) => found.map_err(Stopped::Refused),
            () = poll_fn(|task| reply.poll_gone(task)) => Err(Stopped::Broken(Broken::Client)),
        }
    }

    /// Carries the request on one connection. It takes a checked endpoint to get here.
    async fn exchange(
        &self,
        request: &CanonicalRequest,
        (place, flight): (&Place<K::Proof>, &K::Flight),
        client: Client<'_>,
        seen: &Seen,
    ) -> Result<(), Stopped> {
        let Passage { .. } = place.proof().as_ref();
        let head = fields::to_endpoint(request);
        let head = head.ok_or(Stopped::Broken(Broken::Malformed(GateRule::G3, "target")))?;
        let begun = Instant::now();
        let from_proxy = self.0.is_meshed(place.proof());
        let exchange = Exchange { request, from_proxy, seen };
        let ended = tokio::select! {
            biased;
            ended = exchange.run(place, head, client) => ended.map_err(Stopped::Broken),
            answer = self.0.until_rejected(request, place.proof(), flight) => {
                place.retire();
                Err(Stopped::Refused(answer))
            }
        };
        if let Some((at, status)) = seen.answered.take() {
            self.0.answered(flight, at.saturating_duration_since(begun), status);
        }
        ended
    }

    fn give_up(&self, broken: &Broken, request: &CanonicalRequest, reply: &mut Reply) {
        let failure = match *broken {
            Broken::Client => return reply.reset(Reason::CANCEL),
            Broken::Reset(reason) if reply.has_begun() || is_without_a_word(reason) => {
                return reply.reset(reason);
            }
            Broken::Malformed(rule, field) => {
                let answer = self.0.refuse(&refusal(request, rule, field));
                let grpc = request.is_grpc_content_type();
                return reply.refuse(&Answer { grpc, ..answer });
            }
            Broken::Reset(_) => Failure::BadAnswer,
            Broken::Unprocessed | Broken::Lost => Failure::Unreachable,
            Broken::Application(failure) => failure,
        };
        reply.give_up(&self.failed(failure, request));
    }

    fn failed(&self, failure: Failure, request: &CanonicalRequest) -> Answer {
        Answer { grpc: request.is_grpc_content_type(), ..self.0.failed(failure) }
    }
}
