//! One allowed stream to its end: forwarded, watched, answered.

use std::rc::Rc;

use engine::gate::{GateRule, Refusal};
use engine::request::{CanonicalRequest, Version};
use h2::{Reason, RecvStream};
use tokio::time::sleep;

use super::reply::Reply;
use super::{downgrade, relay, timeout};
use crate::exchange::{Answer, Decider, Failure, Granted, Upstream};
use crate::onward::Onward;

/// How an exchange can fail.
#[derive(Debug)]
pub(super) enum Broken {
    /// The application has not worked on the request, and never will: it may be sent once more.
    Unprocessed,
    /// The application is at fault.
    Application(Failure),
    /// The application ended its answer with this code.
    Reset(Reason),
    /// The client's body or trailers break a rule; or the request can't go on as what it is.
    Malformed(GateRule, &'static str),
    /// The client is gone, or takes nothing.
    Client,
}

/// What a stream needs of its connection.
pub(super) struct Context<D, U: Upstream> {
    pub(super) decider: Rc<D>,
    pub(super) onward: Rc<Onward<U>>,
}

impl<D: Decider, U: Upstream> Context<D, U>
where
    U::Io: 'static,
{
    /// Carries an allowed request and its answer. It ends early when its grant is gone or its client's deadline over.
    pub(super) async fn carry(self, granted: Granted, mut body: RecvStream, mut reply: Reply) {
        let Granted { request, permit, in_flight } = granted;
        let deadline = timeout::of(&request);
        let overdue = async {
            match deadline {
                Some(most) => sleep(most).await,
                None => std::future::pending().await,
            }
        };
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
                let refusal = Refusal {
                    rule,
                    offset: 0,
                    field: Some(field.to_owned()),
                    grpc: request.is_grpc_content_type(),
                    version: request.version(),
                };
                reply.refuse(&self.decider.refuse_body(request, refusal));
            }
            Broken::Reset(_) => reply.refuse(&self.failed(Failure::BadAnswer, request)),
            Broken::Unprocessed => reply.refuse(&self.failed(Failure::Unreachable, request)),
            Broken::Application(failure) => {
                let answer = self.failed(failure, request);
                if reply.has_begun() && !reply.speaks_grpc() {
                    // What came so far must not be taken for the whole.
                    return reply.reset(Reason::INTERNAL_ERROR);
                }
                reply.refuse(&answer);
            }
        }
    }

    fn failed(&self, failure: Failure, request: &CanonicalRequest) -> Answer {
        Answer { grpc: request.is_grpc_content_type(), ..self.decider.failed(failure) }
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
        _start: impl FnOnce(Context<D, U>, Granted, RecvStream, Reply) -> F,
    ) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_stream_takes_little_memory_of_its_own() {
        let bytes = size::<Session, Application, _>(Context::carry);
        assert!(bytes <= 3 * 1024, "{bytes} bytes");
    }
}
