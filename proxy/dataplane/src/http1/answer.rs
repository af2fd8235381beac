//! The application's answer to one request: read, judged, passed on.

use std::cell::Cell;
use std::io;

use engine::request::{CanonicalRequest, Version};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::head::HeadEnd;
use super::limits;
use super::response::{AnswerHead, Body};
use super::transfer::{Fault, transfer};
use super::upgrade;
use super::wire::{Reader, Writer};
use crate::exchange::Failure;

/// How far an exchange has come; both directions see it.
#[derive(Debug)]
pub(crate) struct Progress<'a> {
    pub(crate) request: &'a CanonicalRequest,
    /// When the exchange began, or else the wait for the next head of its answer.
    pub(crate) begun: Cell<Instant>,
    /// When the request had gone out whole.
    pub(crate) sent: Cell<Option<Instant>>,
    /// Something had come behind the request when it had gone out: the client doesn't wait for answers.
    pub(crate) pipelined: Cell<bool>,
    /// What the client's [`Writer::writes`] were when it last expected a new answer.
    pub(crate) expecting: Cell<u64>,
    /// The answer comes from a proxy of ours: the id of its decision stays.
    pub(crate) keeps_decision: bool,
    /// When the final answer began, and its status.
    pub(crate) answered: Cell<Option<(Instant, u16)>>,
    /// Something of the request's body has gone out, where that matters.
    pub(crate) body_taken: Cell<bool>,
}

impl<'a> Progress<'a> {
    /// At the beginning; `writes` of the client.
    pub(crate) fn new(request: &'a CanonicalRequest, writes: u64) -> Self {
        Self {
            request,
            begun: Cell::new(Instant::now()),
            sent: Cell::new(None),
            pipelined: Cell::new(false),
            expecting: Cell::new(writes),
            keeps_decision: false,
            answered: Cell::new(None),
            body_taken: Cell::new(false),
        }
    }

    /// The request goes out once more.
    pub(super) fn begin_again(&self) {
        self.sent.set(None);
        self.begun.set(Instant::now());
    }
}

/// How an exchange ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The answer was passed on whole.
    Answered { keep_client: bool, keep_upstream: bool },
    /// Both ends have left HTTP.
    Switched,
}

/// How the application's side of an exchange failed.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The connection ended before a byte of the answer.
    Unheard,
    /// The other side has not worked on the request, and never will.
    Unprocessed,
    /// It has refused it without a word.
    Refused,
    /// The application is at fault.
    Application(Failure),
    /// The client can't be written to.
    Client,
}

const BAD: Broken = Broken::Application(Failure::BadAnswer);

/// What one head of an answer is.
pub(crate) enum Step {
    /// An interim answer that stays here.
    Dropped,
    /// An interim answer for the client.
    Interim,
    /// A valid `101`.
    Switch,
    /// The final answer.
    Final { body: Body, close: bool, keep_upstream: bool },
}

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
    for heads in 0..=limits::INTERIM_ANSWERS {
        let length = read_head(progress, upstream).await.map_err(|broken| match broken {
            // An interim answer is an answer: the application has seen the request.
            Broken::Unheard if heads > 0 => BAD,
            broken => broken,
        })?;
        let bytes = upstream.bytes().get(..length).unwrap_or_default();
        let head = AnswerHead::parse(bytes, progress.keeps_decision).map_err(|_| BAD)?;
        let step = judge(progress, &head, &ending)?;
        match &step {
            Step::Dropped => {}
            Step::Interim | Step::Switch => head.write_interim(client.out()),
            Step::Final { body, close, .. } => {
                progress.answered.set(Some((Instant::now(), head.status)));
                head.write(progress.request, body, *close, client.out());
            }
        }
        drop(head);
        upstream.consume(length);
        if let Step::Final { body, close, keep_upstream } = step {
            move_body(upstream, client, body).await?;
            return Ok(Ended::Answered { keep_client: !close, keep_upstream });
        }
        client.flush().await.map_err(|_| Broken::Client)?;
        if matches!(step, Step::Switch) {
            return Ok(Ended::Switched);
        }
        progress.expecting.set(client.writes());
        progress.begun.set(Instant::now());
    }
    Err(BAD)
}

/// Says what a head is, and what becomes of both connections after a final one.
pub(crate) fn judge(
    progress: &Progress<'_>,
    head: &AnswerHead<'_>,
    ending: impl Fn() -> bool,
) -> Result<Step, Broken> {
    let request = progress.request;
    let sent = progress.sent.get().is_some();
    let old = request.version() == Version::Http10;
    match head.status {
        101 if sent && upgrade::is_valid(request, head) => Ok(Step::Switch),
        101 => Err(BAD),
        // G20: the proxy itself has sent `100`, early hints are dropped, and HTTP/1.0 knows no interim answers.
        100 | 103 => Ok(Step::Dropped),
        102..200 if old => Ok(Step::Dropped),
        102..200 => Ok(Step::Interim),
        _ => {
            let body = head.body(request);
            let until_close = body.decoder.ends_with_connection();
            // An upgrade that wasn't granted closes, too: what the client sent behind it may not be HTTP.
            let last = ending() || !sent || request.upgrade().is_some() || !request.keep_alive();
            // Who refused it and ended its own connection did so because it couldn't say what follows; and nothing that
            // was sent in a row with a refused request is read (H1-11).
            let doubtful = head.refuses
                // A refusal of the gate always does, and over HTTP/2 it can't say so.
                && (!head.keeps_alive() || head.status == 400 || progress.pipelined.get());
            let close = last || until_close || body.needs_close() || doubtful;
            let keep_upstream = head.keeps_alive() && sent && !until_close && !old;
            Ok(Step::Final { body, close, keep_upstream })
        }
    }
}

async fn move_body<R, W>(
    upstream: &mut Reader<R>,
    client: &mut Writer<W>,
    mut body: Body,
) -> Result<(), Broken>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    match transfer(upstream, client, (&mut body.decoder, body.encoder), None).await {
        Ok(()) => Ok(()),
        Err(Fault::Receiver) => Err(Broken::Client),
        Err(Fault::Sender | Fault::Slow | Fault::Malformed(_)) => Err(BAD),
    }
}

/// Reads a head of an answer and gives its length. The application may take its time until the request is whole.
pub(crate) async fn read_head<R: AsyncRead + Unpin>(
    progress: &Progress<'_>,
    upstream: &mut Reader<R>,
) -> Result<usize, Broken> {
    let mut end = HeadEnd::default();
    let mut deadline = progress.begun.get() + limits::ANSWER;
    loop {
        let found = end.find(upstream.bytes());
        if found.unwrap_or(upstream.bytes().len()) > limits::ANSWER_HEAD_BYTES {
            return Err(BAD);
        }
        if let Some(length) = found {
            return Ok(length);
        }
        let unheard = upstream.bytes().is_empty();
        if let Some(filled) = upstream.fill_before(deadline).await {
            ended(&filled, unheard)?;
            continue;
        }
        deadline = progress.sent.get().unwrap_or_else(Instant::now) + limits::ANSWER;
        if deadline <= Instant::now() {
            return Err(Broken::Application(Failure::Silent));
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
