//! The application's answer to one request: read, judged, passed on.

use std::cell::Cell;
use std::io;

use engine::request::{CanonicalRequest, Version};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use super::head::HeadEnd;
use super::limits;
use super::response::AnswerHead;
use super::transfer::{Fault, transfer};
use super::upgrade;
use super::wire::{Reader, Writer};
use crate::exchange::Failure;

/// How far an exchange has come; both directions see it.
#[derive(Debug)]
pub(super) struct Progress<'a> {
    pub(super) request: &'a CanonicalRequest,
    /// The request has gone out whole.
    pub(super) sent: Cell<bool>,
    /// Bytes of an answer are on their way to the client: there can't be another one.
    pub(super) answering: Cell<bool>,
}

/// How an exchange ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The answer was passed on whole.
    Answered { keep_client: bool, keep_upstream: bool },
    /// Both ends have left HTTP.
    Switched,
}

/// How the application's side of an exchange failed.
#[derive(Debug)]
pub(super) enum Broken {
    /// The connection ended before a byte of the answer.
    Unheard,
    /// The application is at fault.
    Application(Failure),
    /// The client can't be written to.
    Client,
}

const BAD: Broken = Broken::Application(Failure::BadAnswer);

/// Reads the answer and passes it on. `ending`: whether the client's connection shall end with it.
pub(super) async fn pass_on<R, W>(
    progress: &Progress<'_>,
    upstream: &mut Reader<R>,
    client: &mut Writer<W>,
    ending: impl Fn() -> bool,
) -> Result<Ended, Broken>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    for _ in 0..=limits::INTERIM_ANSWERS {
        let length = read_head(progress, upstream).await?;
        let bytes = upstream.bytes().get(..length).unwrap_or_default();
        let head = AnswerHead::parse(bytes).map_err(|_| BAD)?;
        match head.status {
            101 if progress.sent.get() && upgrade::is_valid(progress.request, &head) => {
                progress.answering.set(true);
                head.write_interim(client.out());
                upstream.consume(length);
                client.flush().await.map_err(|_| Broken::Client)?;
                return Ok(Ended::Switched);
            }
            101 => return Err(BAD),
            status @ 100..200 => {
                if passes(status, progress.request) {
                    progress.answering.set(true);
                    head.write_interim(client.out());
                    client.flush().await.map_err(|_| Broken::Client)?;
                    progress.answering.set(false);
                }
                upstream.consume(length);
            }
            _ => return final_answer(progress, upstream, client, (length, ending())).await,
        }
    }
    Err(BAD)
}

/// Which interim answers a client gets (G20): the proxy itself has sent `100`, and early hints are dropped.
fn passes(status: u16, request: &CanonicalRequest) -> bool {
    request.version() != Version::Http10 && !matches!(status, 100 | 103)
}

/// Passes on the final answer, whose head are the first `length` bytes.
async fn final_answer<R, W>(
    progress: &Progress<'_>,
    upstream: &mut Reader<R>,
    client: &mut Writer<W>,
    (length, ending): (usize, bool),
) -> Result<Ended, Broken>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let request = progress.request;
    let bytes = upstream.bytes().get(..length).unwrap_or_default();
    let head = AnswerHead::parse(bytes).map_err(|_| BAD)?;
    let mut body = head.body(request);
    let until_close = body.decoder.ends_with_connection();
    let early = !progress.sent.get();
    // An upgrade that wasn't granted closes, too: what the client sent behind it may not be HTTP.
    let last = ending || early || request.upgrade().is_some() || !request.keep_alive();
    let close = last || until_close || body.needs_close();
    let keep_upstream =
        head.keeps_alive() && !early && !until_close && request.version() != Version::Http10;
    progress.answering.set(true);
    head.write(request, &body, close, client.out());
    upstream.consume(length);
    let moved = transfer(upstream, client, (&mut body.decoder, body.encoder), None).await;
    match moved {
        Ok(()) => Ok(Ended::Answered { keep_client: !close, keep_upstream }),
        Err(Fault::Receiver(_)) => Err(Broken::Client),
        Err(Fault::Sender | Fault::Slow | Fault::Malformed(_)) => Err(BAD),
    }
}

/// Reads a head of an answer and gives its length. The application may take its time until the request is whole.
async fn read_head<R: AsyncRead + Unpin>(
    progress: &Progress<'_>,
    upstream: &mut Reader<R>,
) -> Result<usize, Broken> {
    let mut end = HeadEnd::default();
    let mut deadline = Instant::now() + limits::ANSWER;
    loop {
        if let Some(length) = end.find(upstream.bytes()) {
            return Ok(length);
        }
        if upstream.bytes().len() > limits::ANSWER_HEAD_BYTES {
            return Err(BAD);
        }
        let unheard = upstream.bytes().is_empty();
        match timeout_at(deadline, upstream.fill(limits::READ_BYTES)).await {
            Ok(filled) => ended(&filled, unheard)?,
            Err(_) if progress.sent.get() => return Err(Broken::Application(Failure::Silent)),
            Err(_) => deadline = Instant::now() + limits::ANSWER,
        }
    }
}

fn ended(filled: &io::Result<usize>, unheard: bool) -> Result<(), Broken> {
    match filled {
        Ok(1..) => Ok(()),
        _ if unheard => Err(Broken::Unheard),
        _ => Err(BAD),
    }
}
