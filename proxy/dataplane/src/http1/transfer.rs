//! Moving one body from one connection to the other.

use engine::gate::Flaw;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Duration, Instant};

use super::body::{Decoder, Encoder};
use super::chunked::Step;
use super::limits;
use super::wire::{Reader, Writer};

/// How a transfer can fail.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The sender failed, or ended before the body did.
    Sender,
    /// The sender is slower than the bounds of a body.
    Slow,
    /// The body breaks a rule.
    Malformed(Flaw),
    /// The receiver failed.
    Receiver,
}

/// The bounds of time of a body with a length: never idle for long, and a least rate of what was waited for.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// Waits for more of the body.
    pub(crate) async fn fill<R: AsyncRead + Unpin>(
        &mut self,
        reader: &mut Reader<R>,
    ) -> Result<usize, Fault> {
        let begin = Instant::now();
        let filled = reader.fill_before(begin + limits::BODY_IDLE).await;
        let count = filled.ok_or(Fault::Slow)?.map_err(|_| Fault::Sender)?;
        self.waited += begin.elapsed();
        self.bytes += count as u64;
        if self.waited >= limits::BODY_RATE_WINDOW {
            if self.bytes < limits::BODY_RATE_BYTES {
                return Err(Fault::Slow);
            }
            *self = Self::default();
        }
        Ok(count)
    }
}

/// Moves a body. What is gathered in `writer` before goes out together with its beginning.
pub(super) async fn transfer<R, W>(
    reader: &mut Reader<R>,
    writer: &mut Writer<W>,
    (decoder, encoder): (&mut Decoder, Encoder),
    mut pace: Option<Pace>,
) -> Result<(), Fault>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    loop {
        match decoder.next(reader.bytes()).map_err(Fault::Malformed)? {
            Step::Framing(count) => reader.consume(count),
            Step::Data(data) => {
                let count = data.len();
                encoder.data(data, writer.out());
                reader.consume(count);
                writer.relieve().await.map_err(|_| Fault::Receiver)?;
            }
            Step::End => break,
            Step::More => {
                writer.flush().await.map_err(|_| Fault::Receiver)?;
                let count = match &mut pace {
                    Some(pace) => pace.fill(reader).await?,
                    None => reader.fill().await.map_err(|_| Fault::Sender)?,
                };
                match (count, decoder.ends_with_connection()) {
                    (0, true) => break,
                    (0, false) => return Err(Fault::Sender),
                    _ => {}
                }
            }
        }
    }
    encoder.end(decoder.trailers(), writer.out());
    writer.flush().await.map_err(|_| Fault::Receiver)
}
