//! The streams of those who call the pod: each is decided, and an allowed one forwarded, watched and answered.

use std::rc::Rc;

use bytes::Bytes;
use engine::gate::{GateRule, Refusal};
use engine::request::{CanonicalRequest, Version};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Method, Request};
use tokio::io::{AsyncRead, AsyncWrite};

use super::reply::Reply;
use super::server::{self, Service};
use super::{downgrade, fields, relay, timeout};
use crate::exchange::{Answer, Decider, Failure, Granted, Upstream, Verdict};
use crate::onward::Onward;

/// Serves HTTP/2 on `client`, which begins with the preface, until the connection ends. Requests are decided by `decider`;
/// those with a permit go `onward`. Dropping the future cuts all of it.
pub async fn serve<S, D, U>(client: S, decider: Rc<D>, onward: Rc<Onward<U>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    D: Decider + 'static,
    U: Upstream + 'static,
{
    server::serve(client, &Decided { decider, onward }).await;
}

/// How an exchange can fail.
#[derive(Debug)]
pub(super) enum Broken {
    /// The other side has not worked on the request, and never will: it may be sent once more.
    Unprocessed,
    /// The connection ended before a byte of the answer: nobody knows what became of the request.
    Lost,
    /// The application is at fault.
    Application(Failure),
    /// The application ended its answer with this code.
    Reset(Reason),
    /// The client's body or trailers break a rule; or the request can't go on as what it is.
    Malformed(GateRule, &'static str),
    /// The client is gone, or takes nothing.
    Client,
}

/// Whose streams are decided one by one.
struct Decided<D, U: Upstream> {
    decider: Rc<D>,
    onward: Rc<Onward<U>>,
}

impl<D: Decider + 'static, U: Upstream + 'static> Service for Decided<D, U> {
    fn take_up(
        &self,
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
    ) -> Option<impl Future<Output = ()> + 'static> {
        let (parts, body) = request.into_parts();
        let verdict = self.decider.decide_fields(&fields::of_request(&parts));
        let mut reply = Reply::new(respond, parts.method == Method::HEAD);
        match verdict {
            Verdict::Answer(answer) => reply.refuse(&answer),
            // The stream ends with its answer, and with it all that belongs to the request.
            Verdict::Deny(denied) => {
                reply.refuse(&denied.answer);
                self.decider.give_back(denied.request);
            }
            // Semantics D5: without a word.
            Verdict::Close => reply.reset(Reason::HTTP_1_1_REQUIRED),
            Verdict::Forward(granted) => {
                let (decider, onward) = (Rc::clone(&self.decider), Rc::clone(&self.onward));
                return Some(Self { decider, onward }.carry(granted, body, reply));
            }
        }
        None
    }

    fn refused_below(&self, rule: GateRule, what: &str) {
        self.decider.refused_below(rule, what);
    }

    async fn ended(&self) {
        self.decider.ended().await;
    }
}

impl<D: Decider, U: Upstream + 'static> Decided<D, U> {
    /// Carries an allowed request and its answer. It ends early when its grant is gone or its client's deadline over.
    async fn carry(self, granted: Granted, mut body: RecvStream, mut reply: Reply) {
        let Granted { request, permit, in_flight } = granted;
        let overdue = timeout::over(&request);
        let exchange = async {
            let client = (&mut body, &mut reply);
            match request.version() {
                Version::Http2 => relay::forward(permit, &request, &self.onward, client).await,
                Version::Http10 | Version::Http11 => {
                    downgrade::forward(permit, &request, (&*self.decider, &self.onward), client)
                        .await
                }
            }
        };
        tokio::select! {
            biased;
            ended = exchange => if let Err(broken) = ended {
                self.give_up(&broken, &request, &mut reply);
            },
            answer = self.decider.revoked(&request) => reply.refuse(&answer),
            () = overdue => reply.refuse(&self.failed(Failure::Deadline, &request)),
        }
        drop(in_flight);
        self.decider.give_back(request);
    }

    fn give_up(&self, broken: &Broken, request: &CanonicalRequest, reply: &mut Reply) {
        match *broken {
            Broken::Client => reply.reset(Reason::CANCEL),
            Broken::Reset(reason) if reply.has_begun() => reply.reset(reason),
            Broken::Malformed(rule, field) => {
                reply.refuse(&self.decider.refuse_body(request, refusal(request, rule, field)));
            }
            Broken::Reset(_) | Broken::Lost => {
                let answer = self.failed(Failure::BadAnswer, request);
                reply.give_up(&answer);
            }
            Broken::Unprocessed => reply.refuse(&self.failed(Failure::Unreachable, request)),
            Broken::Application(failure) => {
                let answer = self.failed(failure, request);
                reply.give_up(&answer);
            }
        }
    }

    fn failed(&self, failure: Failure, request: &CanonicalRequest) -> Answer {
        Answer { grpc: request.is_grpc_content_type(), ..self.decider.failed(failure) }
    }
}

/// What to say of a part of a request that breaks a rule.
pub(super) fn refusal(request: &CanonicalRequest, rule: GateRule, field: &str) -> Refusal {
    Refusal {
        rule,
        offset: 0,
        field: Some(field.to_owned()),
        grpc: request.is_grpc_content_type(),
        version: request.version(),
    }
}

/// The client's side of an exchange.
pub(super) type Client<'a> = (&'a mut RecvStream, &'a mut Reply);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbound::Application;
    use crate::session::Session;

    /// What `start` returns takes so many bytes.
    fn size<D, U: Upstream, F>(
        _start: impl FnOnce(Decided<D, U>, Granted, RecvStream, Reply) -> F,
    ) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_stream_takes_little_memory_of_its_own() {
        let bytes = size::<Session, Application, _>(Decided::carry);
        assert!(bytes <= 4 * 1024, "{bytes} bytes");
    }
}
