//! What the HTTP codec and the rest of the proxy ask of each other.
//!
//! The codec reads heads, moves bodies and judges framing. Whether a request may go on is asked of a [`Decider`]; where it
//! goes, of an [`Upstream`]. Nothing reaches an application without a [`Permit`], which only the engine makes.

use std::cell::Cell;
use std::future::Future;
use std::io::{self, Write as _};
use std::rc::Rc;
use std::sync::Arc;

use engine::gate::{GateRule, Refusal};
use engine::request::CanonicalRequest;
use engine::{ClientView, Permit};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::metrics::Metrics;
use crate::shares::Share;

/// Decides the requests of one connection. Gate and engine see one table, the one in force at that moment (semantics T4).
pub trait Decider {
    /// Puts a whole head (first byte of the request line to the end of the blank line) through gate and engine.
    fn decide(&self, head: &[u8]) -> Verdict;
    /// Puts the field list of an HTTP/2 request, pseudo-header fields first, through gate and engine.
    fn decide_fields(&self, fields: &[(&[u8], &[u8])]) -> Verdict;
    /// Takes a request whose exchange is over, so that the next one can use its memory.
    fn give_back(&self, _request: Rc<CanonicalRequest>) {}
    /// What was refused before the gate could see it, with the rule that comes closest: counted and written down.
    fn refused_below(&self, rule: GateRule, what: &str);
    /// Ends when an allowed request, which is in flight, would be refused now: written down as cut, and answered so.
    /// For connections that carry several requests; those that carry one are cut as a whole.
    fn revoked(&self, _request: &CanonicalRequest) -> impl Future<Output = Answer> {
        std::future::pending()
    }
    /// A head that breaks a limit before it is whole; `so_far` is what was read of it.
    fn refuse_head(&self, so_far: &[u8], refusal: Refusal) -> Answer;
    /// What turned out wrong behind an allowed head: body, chunk lines, trailers. It is recorded as a denial.
    fn refuse_body(&self, request: &CanonicalRequest, refusal: Refusal) -> Answer;
    /// The application failed. No denial, but counted and answered.
    fn failed(&self, failure: Failure) -> Answer;
    /// Whether the connection should end after the present exchange (SIGTERM, memory is short, the peer's certificate ends).
    fn ending(&self) -> bool;
    /// Ends as soon as [`Decider::ending`] is true. Awaited between requests only.
    fn ended(&self) -> impl Future<Output = ()> {
        std::future::pending()
    }
}

/// Where allowed requests of a connection go.
pub trait Upstream {
    /// A connection to the application.
    type Io: AsyncRead + AsyncWrite + Unpin;
    /// Dials. The time this may take is bounded inside (`limits::CONNECT`).
    fn connect(&self) -> impl Future<Output = io::Result<Self::Io>>;
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Verdict {
    /// It goes on, and this is what goes on.
    Forward(Granted),
    /// It ends here: write the answer, read no further request, close.
    Answer(Answer),
    /// Policy refuses it; what belongs to it is known, so that another request may follow it.
    Deny(Denied),
    /// It ends here without a byte (semantics D5: status null).
    Close,
}

/// An allowed request. The session holds a weak hand on `request`: while it lives, the request is in flight and is decided
/// again whenever the table changes; so it is kept until the exchange is over, and dropped then.
#[derive(Debug)]
pub struct Granted {
    /// What was decided on, and what is serialised for the application.
    pub request: Rc<CanonicalRequest>,
    /// Taken by the function that forwards.
    pub permit: Permit,
    /// Counts as in flight until dropped.
    pub in_flight: InFlight,
}

/// A request that the gate has read and policy refused.
#[derive(Debug)]
pub struct Denied {
    /// What the client is told.
    pub answer: Answer,
    /// What was decided on; its framing says where it ends.
    pub request: Rc<CanonicalRequest>,
}

/// One of the requests in flight on this worker.
#[derive(Debug)]
pub struct InFlight {
    count: Rc<Cell<usize>>,
    of_peer: Option<Share>,
    metrics: Arc<Metrics>,
}

impl InFlight {
    /// Takes a place, if fewer than `most` are taken.
    pub fn take(count: &Rc<Cell<usize>>, most: usize, metrics: &Arc<Metrics>) -> Option<Self> {
        if count.get() >= most {
            return None;
        }
        count.set(count.get() + 1);
        metrics.in_flight.add(1);
        Some(Self { count: Rc::clone(count), of_peer: None, metrics: Arc::clone(metrics) })
    }

    /// Counts it as the peer's too.
    #[must_use]
    pub fn in_share(mut self, share: &Share) -> Self {
        share.set(share.get() + 1);
        self.of_peer = Some(Rc::clone(share));
        self
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.count.set(self.count.get().saturating_sub(1));
        if let Some(share) = &self.of_peer {
            share.set(share.get().saturating_sub(1));
        }
        self.metrics.in_flight.add(-1);
    }
}

/// How an application can fail a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It can't be reached: 502.
    Unreachable,
    /// It doesn't answer in time: 504.
    Silent,
    /// Its answer breaks the rules (G20): 502. Its connection is never used again.
    BadAnswer,
    /// The time that the client gave it is over (`grpc-timeout`): 504, gRPC 4. Not its fault.
    Deadline,
    /// Bytes after a complete answer on an idle connection: no answer to a client, the connection is dropped.
    Desync,
}

/// What the client sees of a refusal (semantics D5): a status, an id, a word; nothing of the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The decision's id.
    pub id: String,
    /// Status, gRPC status and word.
    pub view: ClientView,
    /// The request had a gRPC content type: answered trailers-only with HTTP status 200.
    pub grpc: bool,
}

/// Whether an answer is the last on its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// The connection ends with it.
    Yes,
    /// Another request may follow.
    No,
}

/// The usual size of an answer of ours, with room to spare.
const ANSWER_BYTES: usize = 320;

impl Answer {
    /// The body, `{"decision": id, "reason": category}`.
    pub fn body(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.body_length());
        // Writing to a Vec can't fail.
        let _ = self.write_body(&mut out);
        out
    }

    /// The whole answer over HTTP/1.1, where nothing follows it. `head_only` for an answer to HEAD.
    pub fn http1(&self, head_only: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(ANSWER_BYTES);
        self.write_http1(Last::Yes, head_only, &mut out);
        out
    }

    /// Appends the whole answer over HTTP/1.1. `head_only` for an answer to HEAD.
    pub fn write_http1(&self, last: Last, head_only: bool, out: &mut Vec<u8>) {
        let Self { id, view, grpc } = self;
        let close = if last == Last::Yes { "connection: close\r\n" } else { "" };
        // Writing to a Vec can't fail.
        let _ = if *grpc {
            write!(
                out,
                "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: {}\r\ngrpc-message: {}\r\n\
                 x-policyd-decision: {id}\r\ncontent-length: 0\r\n{close}\r\n",
                view.grpc_status, view.category
            )
        } else {
            write!(
                out,
                "HTTP/1.1 {} {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
                 x-policyd-decision: {id}\r\n{close}\r\n",
                view.status,
                phrase(view.status),
                self.body_length(),
            )
        };
        if !*grpc && !head_only {
            let _ = self.write_body(out);
        }
    }

    fn write_body(&self, out: &mut Vec<u8>) -> io::Result<()> {
        write!(out, "{{\"decision\":\"{}\",\"reason\":\"{}\"}}", self.id, self.view.category)
    }

    fn body_length(&self) -> usize {
        const AROUND: &str = r#"{"decision":"","reason":""}"#;
        AROUND.len() + self.id.len() + self.view.category.len()
    }
}

fn phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        429 => "Too Many Requests",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(grpc: bool) -> Answer {
        let view = ClientView { status: 403, grpc_status: 7, category: "denied" };
        Answer { id: "0197".to_owned(), view, grpc }
    }

    #[test]
    fn d5_the_client_sees_id_and_category_and_no_more() {
        let text = String::from_utf8(answer(false).http1(false)).unwrap();
        assert!(text.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{text}");
        assert!(text.contains("\r\nx-policyd-decision: 0197\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\n{\"decision\":\"0197\",\"reason\":\"denied\"}"), "{text}");
    }

    #[test]
    fn an_answer_has_the_length_that_it_says_and_ends_what_it_says() {
        for (last, close) in [(Last::Yes, true), (Last::No, false)] {
            for head_only in [false, true] {
                let mut out = Vec::new();
                answer(false).write_http1(last, head_only, &mut out);
                let text = String::from_utf8(out).unwrap();
                let (head, body) = text.split_once("\r\n\r\n").unwrap();
                let length = format!("content-length: {}", answer(false).body().len());
                assert!(head.contains(&length), "{text}");
                assert_eq!(head.contains("connection: close"), close);
                let whole = if head_only { Vec::new() } else { answer(false).body() };
                assert_eq!(body.as_bytes(), whole);
            }
        }
    }

    #[test]
    fn d5_grpc_is_answered_as_grpc() {
        let text = String::from_utf8(answer(true).http1(false)).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("\r\ngrpc-status: 7\r\n"),
            "{text}"
        );
    }

    #[test]
    fn a_place_in_flight_is_given_back() {
        let count = Rc::new(Cell::new(0));
        let metrics = Arc::default();
        let one = InFlight::take(&count, 1, &metrics);
        assert!(one.is_some() && InFlight::take(&count, 1, &metrics).is_none());
        drop(one);
        assert_eq!((count.get(), metrics.in_flight.get()), (0, 0));
    }
}
