//! The body of a request of HTTP/1.1, sent on a stream of HTTP/2.

use bytes::Bytes;
use engine::request::Framing;
use h2::SendStream;
use tokio::io::AsyncRead;
use tokio::time::Instant;

use super::body::{self, room};
use super::downgrade::end;
use crate::exchange::Failure;
use crate::http1::answer::{Broken, Progress};
use crate::http1::body::Decoder;
use crate::http1::chunked::Step;
use crate::http1::denied::drained;
use crate::http1::forward::GivenUp;
use crate::http1::transfer::{Fault, Pace};
use crate::http1::wire::Reader;

/// Sends the body, as its client framed it and as the window allows. Where the other side wants no more of it, a short rest is
/// dropped, so that another request may follow.
pub(super) async fn upload<R: AsyncRead + Unpin>(
    progress: &Progress<'_>,
    reader: &mut Reader<R>,
    to: &mut SendStream<Bytes>,
) -> Result<(), GivenUp> {
    let mut decoder = Decoder::of_request(progress.request);
    match send(progress, (&mut decoder, reader), to).await {
        Err(GivenUp::Body(Fault::Receiver)) if drained(&mut decoder, reader).await => {}
        result => result?,
    }
    progress.pipelined.set(!reader.bytes().is_empty());
    progress.sent.set(Some(Instant::now()));
    Ok(())
}

async fn send<R: AsyncRead + Unpin>(
    progress: &Progress<'_>,
    (decoder, reader): (&mut Decoder, &mut Reader<R>),
    to: &mut SendStream<Bytes>,
) -> Result<(), GivenUp> {
    let framing = progress.request.framing();
    let mut pace = matches!(framing, Framing::Length(_)).then(Pace::default);
    let malformed = |flaw| GivenUp::Body(Fault::Malformed(flaw));
    loop {
        match decoder.next(reader.bytes()).map_err(malformed)? {
            Step::Framing(count) => reader.consume(count),
            Step::Data(data) => {
                progress.body_taken.set(true);
                let piece = Bytes::copy_from_slice(data);
                reader.consume(piece.len());
                let last = matches!(decoder, Decoder::Length(0));
                pass(piece, last, to).await?;
                if last {
                    return Ok(());
                }
            }
            Step::End => {
                return end(decoder.trailers(), to).map_err(|_| GivenUp::Body(Fault::Receiver));
            }
            Step::More => fill(reader, &mut pace).await.map_err(GivenUp::Body)?,
        }
    }
}

async fn fill<R: AsyncRead + Unpin>(
    reader: &mut Reader<R>,
    pace: &mut Option<Pace>,
) -> Result<(), Fault> {
    let count = match pace {
        Some(pace) => pace.fill(reader).await?,
        None => reader.fill().await.map_err(|_| Fault::Sender)?,
    };
    if count == 0 { Err(Fault::Sender) } else { Ok(()) }
}

async fn pass(mut piece: Bytes, last: bool, to: &mut SendStream<Bytes>) -> Result<(), GivenUp> {
    while !piece.is_empty() {
        let room = room(to, piece.len()).await.map_err(|fault| match fault {
            body::Fault::Stalled => GivenUp::Answer(Broken::Application(Failure::Silent)),
            _ => GivenUp::Body(Fault::Receiver),
        })?;
        let part = piece.split_to(room.min(piece.len()));
        let ended = last && piece.is_empty();
        to.send_data(part, ended).map_err(|_| GivenUp::Body(Fault::Receiver))?;
    }
    Ok(())
}
