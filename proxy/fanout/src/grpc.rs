//! gRPC over HTTP/2, as far as two bidirectional calls need it: messages in, messages out, and a status at the end.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use crate::status::{
    DEADLINE_EXCEEDED, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, Status, UNAVAILABLE, UNIMPLEMENTED,
};

const PREFIX: usize = 5;
const CONTENT_TYPE: &str = "application/grpc";

/// Why a call can't go on.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The peer is gone, or gave up.
    Gone,
    /// It must go.
    Refused(Status),
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

/// A message of the peer. The room it takes is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) bytes: Bytes,
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

/// The peer's side of a call.
#[derive(Debug)]
pub(crate) struct Incoming {
    body: RecvStream,
    buffer: BytesMut,
    most: usize,
    slow: Duration,
    room: Option<Arc<Semaphore>>,
    held: Option<OwnedSemaphorePermit>,
    due: Option<Instant>,
}

impl Incoming {
    /// `most`: of one message; `slow`: what its rest may take, once it has begun; `room`: for all that are long.
    pub(crate) fn new(
        body: RecvStream,
        most: usize,
        slow: Duration,
        room: Option<Arc<Semaphore>>,
    ) -> Self {
        Self { body, buffer: BytesMut::new(), most, slow, room, held: None, due: None }
    }

    /// The next message, none at the end. May be dropped and asked again at any time.
    pub(crate) async fn next(&mut self) -> Result<Option<Received>, Fault> {
        loop {
            if let Some(length) = self.announced()? {
                self.make_room(length).await?;
                if self.buffer.len() >= PREFIX + length {
                    return Ok(Some(self.split(length)));
                }
            }
            if !self.fill().await? {
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                return Err(invalid("the stream ends within a message").into());
            }
        }
    }

    /// The length of the message that begins in the buffer.
    fn announced(&self) -> Result<Option<usize>, Status> {
        let Some(&[compressed, a, b, c, d]) = self.buffer.first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        if compressed != 0 {
            return Err(Status::new(UNIMPLEMENTED, "REQUEST_INVALID: compressed messages"));
        }
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > self.most {
            let most = self.most;
            let detail =
                format!("REQUEST_INVALID: a message of {length} bytes; expected at most {most}");
            return Err(Status::new(RESOURCE_EXHAUSTED, detail));
        }
        Ok(Some(length))
    }

    /// Waits until so many bytes may be held; the peer's window stays closed meanwhile.
    async fn make_room(&mut self, length: usize) -> Result<(), Fault> {
        let Some(room) = self.room.as_ref().filter(|_| self.held.is_none()) else { return Ok(()) };
        let kibibytes = u32::try_from(length.div_ceil(1024)).unwrap_or(u32::MAX);
        let permit = room.clone().acquire_many_owned(kibibytes).await.map_err(|_| Fault::Gone)?;
        self.held = Some(permit);
        self.due = None;
        Ok(())
    }

    /// Reads a piece; false at the end.
    async fn fill(&mut self) -> Result<bool, Fault> {
        let piece = poll_fn(|context| self.body.poll_data(context));
        let piece = if self.buffer.is_empty() {
            piece.await
        } else {
            let due = *self.due.get_or_insert_with(|| Instant::now() + self.slow);
            timeout_at(due, piece).await.map_err(|_| {
                Status::new(DEADLINE_EXCEEDED, "MESSAGE_OVERDUE: the rest of it didn't come")
            })?
        };
        let Some(piece) = piece else { return Ok(false) };
        let piece = piece.map_err(|_| Fault::Gone)?;
        self.buffer.extend_from_slice(&piece);
        self.body.flow_control().release_capacity(piece.len()).map_err(|_| Fault::Gone)?;
        Ok(true)
    }

    fn split(&mut self, length: usize) -> Received {
        let bytes = self.buffer.split_to(PREFIX + length).freeze().slice(PREFIX..);
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        self.due = None;
        Received { bytes, room: self.held.take() }
    }
}

fn invalid(detail: &str) -> Status {
    Status::new(INVALID_ARGUMENT, format!("REQUEST_INVALID: {detail}"))
}

/// Our side of a call.
#[derive(Debug)]
pub(crate) struct Answer {
    head: SendResponse<Bytes>,
    body: Option<SendStream<Bytes>>,
    slow: Duration,
}

impl Answer {
    /// `slow`: how long the peer may read nothing while there is something to be read.
    pub(crate) fn new(head: SendResponse<Bytes>, slow: Duration) -> Self {
        Self { head, body: None, slow }
    }

    /// Sends the head, so that the peer knows that it is listened to.
    pub(crate) fn begin(&mut self) -> Result<(), Fault> {
        if self.body.is_none() {
            let head = head(HeaderMap::new());
            self.body = Some(self.head.send_response(head, false).map_err(|_| Fault::Gone)?);
        }
        Ok(())
    }

    /// Returns when the peer has given up.
    pub(crate) async fn given_up(&mut self) {
        let asked = poll_fn(|context| match &mut self.body {
            Some(body) => body.poll_reset(context),
            None => self.head.poll_reset(context),
        });
        drop(asked.await);
    }

    /// Sends one message, as its pieces. What the peer doesn't read isn't copied anywhere (CT-10).
    pub(crate) async fn send(&mut self, pieces: Vec<Bytes>) -> Result<(), Fault> {
        self.begin()?;
        let slow = self.slow;
        let body = self.body.as_mut().ok_or(Fault::Gone)?;
        timeout(slow, write(body, framed(pieces))).await.unwrap_or_else(|_| {
            let detail = format!("STREAM_NOT_READ: nothing read for {} s", slow.as_secs());
            Err(Status::new(DEADLINE_EXCEEDED, detail).into())
        })
    }

    /// Ends the call. What the peer doesn't read of that is dropped with its connection.
    pub(crate) fn finish(mut self, status: &Status) {
        let trailers = trailers(status);
        match self.body {
            Some(mut body) => drop(body.send_trailers(trailers)),
            None => drop(self.head.send_response(head(trailers), true)),
        }
    }

    /// Ends a call that isn't gRPC.
    pub(crate) fn refuse(mut self, status: http::StatusCode) {
        let mut response = Response::new(());
        *response.status_mut() = status;
        drop(self.head.send_response(response, true));
    }

    /// Ends the call at once; nothing more can be said.
    pub(crate) fn reset(mut self) {
        match &mut self.body {
            Some(body) => body.send_reset(Reason::CANCEL),
            None => self.head.send_reset(Reason::CANCEL),
        }
    }
}

async fn write(body: &mut SendStream<Bytes>, pieces: Vec<Bytes>) -> Result<(), Fault> {
    for mut piece in pieces {
        while !piece.is_empty() {
            body.reserve_capacity(piece.len());
            let mut room = body.capacity();
            if room == 0 {
                let more = poll_fn(|context| body.poll_capacity(context)).await;
                room = more.ok_or(Fault::Gone)?.map_err(|_| Fault::Gone)?;
            }
            let part = piece.split_to(room.min(piece.len()));
            if !part.is_empty() {
                body.send_data(part, false).map_err(|_| Fault::Gone)?;
            }
        }
    }
    body.reserve_capacity(0);
    Ok(())
}

/// Puts gRPC's prefix in front.
fn framed(mut pieces: Vec<Bytes>) -> Vec<Bytes> {
    let length: usize = pieces.iter().map(Bytes::len).sum();
    let first = pieces.first().cloned().unwrap_or_default();
    let mut head = BytesMut::with_capacity(PREFIX + first.len());
    head.put_u8(0);
    head.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    head.put(first);
    match pieces.first_mut() {
        Some(first) => *first = head.freeze(),
        None => pieces.push(head.freeze()),
    }
    pieces
}

fn head(mut headers: HeaderMap) -> Response<()> {
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    let mut response = Response::new(());
    *response.headers_mut() = headers;
    response
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(status.code));
    if let Ok(message) = HeaderValue::try_from(status.encoded()) {
        trailers.insert("grpc-message", message);
    }
    trailers
}

/// Whether a head asks for gRPC.
pub(crate) fn is_call(request: &http::Request<RecvStream>) -> bool {
    let kind = request.headers().get(http::header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let rest = kind.strip_prefix(CONTENT_TYPE);
    request.method() == http::Method::POST
        && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
}

/// What streams that are still open are told when policyd stops.
pub(crate) fn stopping() -> Status {
    Status::new(UNAVAILABLE, "STOPPING: policyd ends; connect again")
}
