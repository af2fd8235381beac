//! The client's side of one stream: one answer goes out on it, whoever it is from.

use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Response, StatusCode};

use super::fields::speaks_grpc;
use crate::exchange::Answer;

/// A stream that is still to be answered, or is being.
pub(super) struct Reply {
    respond: SendResponse<Bytes>,
    body: Option<SendStream<Bytes>>,
    head_only: bool,
    /// The answer that has begun ends with the trailers of gRPC.
    grpc: bool,
}

impl Reply {
    /// `head_only`: answers have no body, because it is a HEAD.
    pub(super) fn new(respond: SendResponse<Bytes>, head_only: bool) -> Self {
        Self { respond, body: None, head_only, grpc: false }
    }

    /// Whether the head of an answer is out.
    pub(super) fn has_begun(&self) -> bool {
        self.body.is_some()
    }

    /// Passes an interim answer on. Whoever doesn't take it will be seen to be gone.
    pub(super) fn interim(&mut self, head: Response<()>) {
        let _ = self.respond.send_informational(head);
    }

    /// Begins the answer, and ends it with its head where nothing follows.
    ///
    /// # Errors
    /// The client is gone.
    pub(super) fn begin(
        &mut self,
        head: Response<()>,
        ended: bool,
    ) -> Result<&mut SendStream<Bytes>, h2::Error> {
        self.grpc = speaks_grpc(head.headers());
        let body = self.respond.send_response(head, ended)?;
        Ok(self.body.insert(body))
    }

    /// Says of a refusal what its client may know (semantics D5). Where another answer has begun, that one ends badly: with
    /// the trailers of gRPC, or with a reset.
    pub(super) fn refuse(&mut self, answer: &Answer) {
        match &mut self.body {
            None => self.answer(answer),
            Some(body) if self.grpc => {
                let _ = body.send_trailers(end_of_grpc(answer));
            }
            Some(body) => body.send_reset(Reason::CANCEL),
        }
    }

    /// Says that an exchange failed. Where an answer has begun that isn't one of gRPC, what came so far must not be taken
    /// for the whole.
    pub(super) fn give_up(&mut self, answer: &Answer) {
        if self.has_begun() && !self.grpc {
            return self.reset(Reason::INTERNAL_ERROR);
        }
        self.refuse(answer);
    }

    fn answer(&mut self, answer: &Answer) {
        let mut head = Response::new(());
        if answer.grpc {
            *head.headers_mut() = end_of_grpc(answer);
            head.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            // Where that fails the client is gone, here and below.
            let _ = self.respond.send_response(head, true);
            return;
        }
        let body = Bytes::from(answer.body());
        *head.status_mut() =
            StatusCode::from_u16(answer.view.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let headers = head.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        name_decision(headers, answer);
        if let Ok(mut stream) = self.respond.send_response(head, self.head_only)
            && !self.head_only
        {
            // What a closed window holds back would be kept for a client that needn't ever open it: there status and id
            // must do.
            stream.reserve_capacity(body.len());
            let fits = stream.capacity() >= body.len();
            let _ = stream.send_data(if fits { body } else { Bytes::new() }, true);
        }
    }

    /// Ends the stream without a word, or in the middle of one.
    pub(super) fn reset(&mut self, reason: Reason) {
        match &mut self.body {
            Some(body) => body.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }

    /// Ready when the client has given the stream up.
    pub(super) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.body {
            Some(body) => body.poll_reset(context).map(drop),
            None => self.respond.poll_reset(context).map(drop),
        }
    }
}

/// The trailers that say to a gRPC client what a refusal is.
fn end_of_grpc(answer: &Answer) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(4);
    fields.insert("grpc-status", HeaderValue::from(u16::from(answer.view.grpc_status)));
    fields.insert("grpc-message", HeaderValue::from_static(answer.view.category));
    name_decision(&mut fields, answer);
    fields
}

/// Names the decision. No other answer has this id, so that neither end needs to remember it (RFC 7541 §6.2.3).
fn name_decision(fields: &mut HeaderMap, answer: &Answer) {
    if let Ok(mut id) = HeaderValue::from_str(&answer.id) {
        id.set_sensitive(true);
        fields.insert("x-policyd-decision", id);
    }
}
