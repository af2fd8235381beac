//! One request of HTTP/1.1 on a shared connection of HTTP/2, and its answer back to its client, which speaks HTTP/1.1.

use std::future::poll_fn;
use std::task::Poll;

use engine::request::Framing;
use h2::RecvStream;
use h2::client::ResponseFuture;
use http::header::{CONTENT_LENGTH, HeaderValue};
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use super::calls::is_without_a_word;
use super::downgrade::lines;
use super::fields::{self, DECISION, Passing};
use super::limits;
use super::line::Place;
use super::relay::{self, step};
use super::stream;
use super::upload::upload;
use crate::exchange::Failure;
use crate::http1;
use crate::http1::answer::{self, Broken, Ended, Progress, judge};
use crate::http1::body::{Decoder, Encoder};
use crate::http1::denied::may_continue;
use crate::http1::forward::GivenUp;
use crate::http1::response::AnswerHead;
use crate::http1::transfer::Fault;
use crate::http1::wire::{Reader, Writer};

const BAD: Broken = Broken::Application(Failure::BadAnswer);

/// Carries the request of `progress`, whose head is `head`, and passes the answer on. `ending`: whether the client's
/// connection shall end with it.
pub(crate) async fn carry<R, W, P>(
    place: &Place<P>,
    head: Request<()>,
    progress: &Progress<'_>,
    (reader, writer): (&mut Reader<R>, &mut Writer<W>),
    ending: impl Fn() -> bool,
) -> Result<Ended, GivenUp>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let whole = !progress.request.has_body() && progress.request.framing() != Framing::Chunked;
    let Ok((response, mut send)) = place.send(head, whole) else {
        place.retire();
        return Err(GivenUp::Answer(Broken::Unprocessed));
    };
    if whole {
        progress.pipelined.set(!reader.bytes().is_empty());
        progress.sent.set(Some(progress.begun.get()));
    }
    let uploaded = Notify::new();
    let mut upload = std::pin::pin!(async {
        let result = upload(progress, reader, &mut send).await;
        uploaded.notify_one();
        result
    });
    let mut answer =
        std::pin::pin!(pass_back((place, response), (progress, &uploaded), writer, ending));
    let mut sending = !whole;
    loop {
        tokio::select! {
            biased;
            sent = &mut upload, if sending => match sent {
                // It may have answered early and want no more; the answer decides.
                Ok(()) | Err(GivenUp::Body(Fault::Receiver)) => sending = false,
                Err(given_up) => return Err(given_up),
            },
            ended = &mut answer => return ended.map_err(GivenUp::Answer),
        }
    }
}

/// Reads the answer and passes it on.
async fn pass_back<W, P>(
    (place, mut response): (&Place<P>, ResponseFuture),
    (progress, uploaded): (&Progress<'_>, &Notify),
    client: &mut Writer<W>,
    ending: impl Fn() -> bool,
) -> Result<Ended, Broken>
where
    W: AsyncWrite + Unpin,
{
    for heads in 0..=limits::INTERIM_ANSWERS {
        let found = next_head(place, &mut response, progress).await;
        let (head, body) = match found.map_err(|broken| of_stream(&relay::seen(broken, heads)))? {
            relay::Step::Final(mut head, mut body) => {
                let ours = progress.keeps_decision;
                let refusal = if ours { refusal(&mut head, &mut body).await? } else { None };
                (head, Some((body, refusal)))
            }
            relay::Step::Interim(head) => (head, None),
        };
        let answer = read(&head, progress.keeps_decision)?;
        if answer.refuses && progress.sent.get().is_none() && may_continue(progress.request) {
            // The refusal came before the body, which is dropped: only then another request may follow.
            let _ = timeout(http1::limits::DENIED_BODY, uploaded.notified()).await;
        }
        match (judge(progress, &answer, &ending)?, body) {
            (answer::Step::Dropped, None) => {}
            (answer::Step::Interim, None) => {
                answer.write_interim(client.out());
                client.flush().await.map_err(|_| Broken::Client)?;
                progress.expecting.set(client.writes());
            }
            (answer::Step::Final { body: framing, close, .. }, Some((body, refusal))) => {
                progress.answered.set(Some((Instant::now(), answer.status)));
                answer.write(progress.request, &framing, close, client.out());
                let passing = Passing { grpc: answer.is_grpc(), decision: progress.keeps_decision };
                if let Some(refusal) = refusal {
                    client.out().extend_from_slice(&refusal);
                    client.flush().await.map_err(|_| Broken::Client)?;
                } else if matches!(framing.decoder, Decoder::Length(0)) {
                    client.flush().await.map_err(|_| Broken::Client)?;
                } else {
                    move_body(body, client, framing.encoder, passing).await?;
                }
                return Ok(Ended::Answered { keep_client: !close, keep_upstream: true });
            }
            _ => return Err(BAD),
        }
    }
    Err(BAD)
}

/// The next head of the answer. The endpoint may take its time until the request is whole.
async fn next_head<P>(
    place: &Place<P>,
    response: &mut ResponseFuture,
    progress: &Progress<'_>,
) -> Result<relay::Step, stream::Broken> {
    let mut deadline = Instant::now() + limits::ANSWER;
    loop {
        if let Ok(found) = timeout_at(deadline, step(response, |_| Poll::Pending, place)).await {
            return found;
        }
        deadline = progress.sent.get().unwrap_or_else(Instant::now) + limits::ANSWER;
        if deadline <= Instant::now() {
            return Err(stream::Broken::Application(Failure::Silent));
        }
    }
}

fn of_stream(broken: &stream::Broken) -> Broken {
    match *broken {
        stream::Broken::Unprocessed => Broken::Unprocessed,
        stream::Broken::Lost => Broken::Unheard,
        stream::Broken::Client => Broken::Client,
        stream::Broken::Application(failure) => Broken::Application(failure),
        stream::Broken::Reset(reason) if is_without_a_word(reason) => Broken::Refused,
        stream::Broken::Reset(_) | stream::Broken::Malformed(..) => BAD,
    }
}

/// The head in terms of HTTP/1.1.
fn read(head: &Response<()>, keeps_decision: bool) -> Result<AnswerHead<'_>, Broken> {
    let fields = head.headers().iter();
    let fields = fields.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    AnswerHead::of_fields(head.status(), fields, keeps_decision).map_err(|_| BAD)
}

/// The body of a refusal by a proxy of ours, which is short and doesn't say how short; the head says it then.
async fn refusal(
    head: &mut Response<()>,
    body: &mut RecvStream,
) -> Result<Option<Vec<u8>>, Broken> {
    let headers = head.headers_mut();
    let refuses = headers.contains_key(DECISION) && !headers.contains_key(CONTENT_LENGTH);
    if !refuses || body.is_end_stream() {
        return Ok(None);
    }
    let mut whole = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.map_err(|_| BAD)?;
        whole.extend_from_slice(&piece);
        body.flow_control().release_capacity(piece.len()).map_err(|_| BAD)?;
        if whole.len() > limits::REFUSAL_BYTES {
            return Err(BAD);
        }
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(whole.len()));
    Ok(Some(whole))
}

/// Moves the body on, its beginning together with the head. The window is given back as the client takes the bytes.
async fn move_body<W: AsyncWrite + Unpin>(
    mut from: RecvStream,
    client: &mut Writer<W>,
    encoder: Encoder,
    passing: Passing,
) -> Result<(), Broken> {
    loop {
        let piece = match poll_fn(|task| Poll::Ready(from.poll_data(task))).await {
            Poll::Ready(piece) => piece,
            Poll::Pending => {
                client.flush().await.map_err(|_| Broken::Client)?;
                from.data().await
            }
        };
        let Some(piece) = piece else { break };
        let piece = piece.map_err(|_| BAD)?;
        encoder.data(&piece, client.out());
        client.relieve().await.map_err(|_| Broken::Client)?;
        from.flow_control().release_capacity(piece.len()).map_err(|_| BAD)?;
    }
    let trailers = from.trailers().await.map_err(|_| BAD)?.unwrap_or_default();
    let trailers = fields::trailers(trailers, passing).map_err(|_| BAD)?;
    encoder.end(&lines(&trailers), client.out());
    client.flush().await.map_err(|_| Broken::Client)
}
