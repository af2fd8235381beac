//! One allowed request that came over HTTP/2 to an application that is spoken to in HTTP/1.1, and its answer back.

use std::future::poll_fn;

use bytes::Bytes;
use engine::Permit;
use engine::gate::GateRule;
use engine::request::{CanonicalRequest, Framing};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::body::{Fault, room};
use super::fields::{self, Passing};
use super::limits;
use super::reply::Reply;
use super::stream::{Broken, Client};
use crate::exchange::{Decider, Failure, Upstream};
use crate::http1::answer::{self, Progress, read_head};
use crate::http1::body::{Decoder, Encoder};
use crate::http1::chunked::Step;
use crate::http1::is_repeatable;
use crate::http1::pool::Connection;
use crate::http1::response::AnswerHead;
use crate::http1::wire::{Reader, Writer};
use crate::onward::Onward;

const BAD: Broken = Broken::Application(Failure::BadAnswer);

/// Forwards `request`, which the engine allowed, on a connection of its own. What an idle connection lost unheard is sent
/// once more, where that is safe.
pub(super) async fn forward<D: Decider, U: Upstream>(
    _permit: Permit,
    request: &CanonicalRequest,
    (decider, onward): (&D, &Onward<U>),
    (body, reply): Client<'_>,
) -> Result<(), Broken> {
    let desync = || drop(decider.failed(Failure::Desync));
    let whole = body.is_end_stream();
    let mut connection = match onward.pool.take(desync) {
        Some(connection) => connection,
        None => open(onward).await?,
    };
    let mut result = exchange(request, &mut connection, (body, reply)).await;
    if matches!(result, Err(Broken::Unprocessed)) {
        if !(connection.reused && whole && is_repeatable(request)) {
            return Err(BAD);
        }
        connection = open(onward).await?;
        result = exchange(request, &mut connection, (body, reply)).await;
    }
    let keep = result?;
    if !connection.reader.bytes().is_empty() {
        desync();
    } else if keep {
        onward.pool.put(connection);
    }
    Ok(())
}

async fn open<U: Upstream>(onward: &Onward<U>) -> Result<Connection<U::Io>, Broken> {
    let opened = Connection::open(&onward.upstream).await;
    opened.map_err(|_| Broken::Application(Failure::Unreachable))
}

/// Both directions at the same time, until the answer is complete or one of them fails. Whether the connection may be kept.
async fn exchange<Io: AsyncRead + AsyncWrite + Unpin>(
    request: &CanonicalRequest,
    connection: &mut Connection<Io>,
    (body, reply): Client<'_>,
) -> Result<bool, Broken> {
    let progress = Progress::new(request, 0);
    if request.expects_continue() && !body.is_end_stream() {
        let mut head = Response::new(());
        *head.status_mut() = StatusCode::CONTINUE;
        reply.interim(head);
    }
    let mut upload = std::pin::pin!(upload(&progress, body, &mut connection.writer));
    let mut answer = std::pin::pin!(pass_back(&progress, &mut connection.reader, reply));
    let mut sending = true;
    loop {
        tokio::select! {
            biased;
            sent = &mut upload, if sending => match sent {
                // The application may have answered early and closed; the answer decides.
                Ok(()) | Err(Fault::Receiver) => sending = false,
                Err(Fault::Sender(_)) => return Err(Broken::Client),
                Err(Fault::Stalled) => return Err(Broken::Application(Failure::Silent)),
                Err(Fault::Malformed(rule)) => return Err(Broken::Malformed(rule, "trailers")),
            },
            ended = &mut answer => return ended,
        }
    }
}

/// Writes the canonical head, then the body in the framing of HTTP/1.1.
async fn upload<W: AsyncWrite + Unpin>(
    progress: &Progress<'_>,
    body: &mut RecvStream,
    writer: &mut Writer<W>,
) -> Result<(), Fault> {
    let request = progress.request;
    let whole = body.is_end_stream();
    if whole {
        request.write_http1_head(writer.out());
    } else {
        request.write_http1_head_with_body(writer.out());
        let length = matches!(request.framing(), Framing::Length(_));
        let encoder = if length { Encoder::Plain } else { Encoder::Chunked };
        writer.flush().await.map_err(|_| Fault::Receiver)?;
        while let Some(piece) = body.data().await {
            let piece = piece.map_err(Fault::Sender)?;
            encoder.data(&piece, writer.out());
            writer.flush().await.map_err(|_| Fault::Receiver)?;
            body.flow_control().release_capacity(piece.len()).map_err(Fault::Sender)?;
        }
        let trailers = body.trailers().await.map_err(Fault::Sender)?.unwrap_or_default();
        let passing = Passing { grpc: request.is_grpc_content_type(), decision: false };
        let trailers = fields::trailers(trailers, passing);
        encoder.end(&lines(&trailers.map_err(Fault::Malformed)?), writer.out());
    }
    writer.flush().await.map_err(|_| Fault::Receiver)?;
    progress.sent.set(Some(if whole { progress.begun.get() } else { Instant::now() }));
    Ok(())
}

/// Trailers as lines of HTTP/1.1.
pub(super) fn lines(trailers: &HeaderMap) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in trailers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    out
}

/// Reads the answer and passes it on. Whether the connection may carry another request.
async fn pass_back<R: AsyncRead + Unpin>(
    progress: &Progress<'_>,
    reader: &mut Reader<R>,
    reply: &mut Reply,
) -> Result<bool, Broken> {
    for heads in 0..=limits::INTERIM_ANSWERS {
        let length = tokio::select! {
            biased;
            read = read_head(progress, reader) => read.map_err(|broken| match broken {
                // An interim answer is an answer: the application has seen the request.
                answer::Broken::Unheard if heads == 0 => Broken::Unprocessed,
                answer::Broken::Application(failure) => Broken::Application(failure),
                _ => BAD,
            })?,
            () = poll_fn(|context| reply.poll_gone(context)) => return Err(Broken::Client),
        };
        let bytes = Bytes::copy_from_slice(reader.bytes().get(..length).unwrap_or_default());
        let head = AnswerHead::parse(&bytes, false).map_err(|_| BAD)?;
        let response = response(&head, &bytes).ok_or(BAD)?;
        let mut decoder = head.body(progress.request).decoder;
        let keep = head.keeps_alive() && !decoder.ends_with_connection();
        drop(head);
        reader.consume(length);
        match response.status().as_u16() {
            101 => return Err(BAD),
            // G20: the proxy itself has sent `100`, and early hints are dropped.
            100 | 103 => {}
            102..200 => reply.interim(response),
            _ => {
                let ended = matches!(decoder, Decoder::Length(0));
                let to = reply.begin(response, ended).map_err(|_| Broken::Client)?;
                if !ended {
                    move_body(reader, to, &mut decoder).await?;
                }
                return Ok(keep && progress.sent.get().is_some());
            }
        }
    }
    Err(BAD)
}

/// The head in terms of HTTP/2, without what belongs to the hop. Its values are parts of `bytes`, the head itself.
fn response(head: &AnswerHead<'_>, bytes: &Bytes) -> Option<Response<()>> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.status).ok()?;
    let fields = response.headers_mut();
    fields.reserve(head.fields().count());
    for (name, value) in head.fields() {
        let name = HeaderName::from_bytes(name).ok()?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(value)).ok()?;
        fields.append(name, value);
    }
    Some(response)
}

async fn move_body<R: AsyncRead + Unpin>(
    reader: &mut Reader<R>,
    to: &mut SendStream<Bytes>,
    decoder: &mut Decoder,
) -> Result<(), Broken> {
    loop {
        match decoder.next(reader.bytes()).map_err(|_| BAD)? {
            Step::Framing(count) => reader.consume(count),
            Step::Data(data) => {
                let piece = Bytes::copy_from_slice(data);
                reader.consume(piece.len());
                let last = matches!(decoder, Decoder::Length(0));
                pass(piece, last, to).await?;
                if last {
                    return Ok(());
                }
            }
            Step::End => return end(decoder.trailers(), to).map_err(|fault| unended(&fault)),
            Step::More => {
                let filled = tokio::select! {
                    biased;
                    filled = reader.fill() => filled,
                    _ = poll_fn(|context| to.poll_reset(context)) => return Err(Broken::Client),
                };
                match (filled.map_err(|_| BAD)?, decoder.ends_with_connection()) {
                    (0, true) => return end(b"", to).map_err(|fault| unended(&fault)),
                    (0, false) => return Err(BAD),
                    _ => {}
                }
            }
        }
    }
}

fn unended(fault: &Fault) -> Broken {
    if matches!(fault, Fault::Receiver) { Broken::Client } else { BAD }
}

async fn pass(mut piece: Bytes, last: bool, to: &mut SendStream<Bytes>) -> Result<(), Broken> {
    while !piece.is_empty() {
        let room = room(to, piece.len()).await.map_err(|_| Broken::Client)?;
        let part = piece.split_to(room.min(piece.len()));
        to.send_data(part, last && piece.is_empty()).map_err(|_| Broken::Client)?;
    }
    Ok(())
}

/// Ends a body with the trailer lines that pass.
///
/// # Errors
/// The receiver is gone, or a line can't be said in HTTP/2.
pub(super) fn end(lines: &[u8], to: &mut SendStream<Bytes>) -> Result<(), Fault> {
    let trailers = fields_of(lines).ok_or(Fault::Malformed(GateRule::G20))?;
    let sent = if trailers.is_empty() {
        to.send_data(Bytes::new(), true)
    } else {
        to.send_trailers(trailers)
    };
    sent.map_err(|_| Fault::Receiver)
}

fn fields_of(lines: &[u8]) -> Option<HeaderMap> {
    let mut fields = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let at = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at(at);
        let value = engine::gate::trim_blanks(value.get(1..).unwrap_or_default());
        let name = HeaderName::from_bytes(name).ok()?;
        fields.append(name, HeaderValue::from_bytes(value).ok()?);
    }
    Some(fields)
}
