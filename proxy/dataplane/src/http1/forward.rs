//! One allowed request: to the application and back. The one way to an application, and it asks for a permit.

use engine::Permit;
use engine::gate::{GateRule, Refusal};
use engine::request::{CanonicalRequest, Framing, Version};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::yield_now;
use tokio::time::Instant;

use super::answer::{Broken, Ended, Progress, pass_on};
use super::body::{Decoder, Encoder};
use super::halves::{ReadHalf, WriteHalf};
use super::limits;
use super::pool::{Connection, Pool};
use super::transfer::{Fault, Pace, transfer};
use super::upgrade::tunnel;
use super::wire::{Reader, Writer};
use crate::exchange::{Answer, Decider, Failure, Upstream};

/// Both halves of a client's connection.
pub(super) struct Client<C> {
    pub(super) reader: Reader<ReadHalf<C>>,
    pub(super) writer: Writer<WriteHalf<C>>,
}

/// What happens to the client's connection after an exchange.
#[derive(Debug)]
pub(super) enum Next {
    /// Another request may follow.
    Again,
    /// It ends; all is said.
    Close,
    /// The answer is written, the connection ends, but the client may still be sending.
    Linger,
    /// This answer is still to be written; then as before.
    Answer(Answer),
    /// It is cut, so that the client can't take what it got for the whole.
    Abort,
}

/// Why an exchange was given up.
pub(crate) enum GivenUp {
    /// The client's body.
    Body(Fault),
    /// The application, or writing to the client.
    Answer(Broken),
}

/// Where requests of one client's connection go.
pub(super) struct Forwarder<'a, D, U: Upstream> {
    pub(super) decider: &'a D,
    pub(super) upstream: &'a U,
    pub(super) pool: &'a Pool<U::Io>,
}

impl<D: Decider, U: Upstream> Forwarder<'_, D, U> {
    /// Forwards `request`, which the engine allowed.
    pub(super) async fn forward<C: AsyncRead + AsyncWrite + Unpin>(
        &self,
        _permit: Permit,
        request: &CanonicalRequest,
        client: &mut Client<C>,
    ) -> Next {
        if request.upgrade().is_some() && client.reader.bytes().len() > limits::EARLY_UPGRADE_BYTES
        {
            return Next::Abort;
        }
        let Some(mut connection) = self.connect(request).await else {
            return Next::Answer(self.decider.failed(Failure::Unreachable));
        };
        if invite_body(request, client).await.is_err() {
            return Next::Abort;
        }
        let progress = Progress::new(request, client.writer.writes());
        let ending = || self.decider.ending();
        let mut result = exchange(&progress, client, connection.halves(), ending).await;
        if let Err(GivenUp::Answer(Broken::Unheard)) = result
            && connection.reused
            && is_repeatable(request)
            && let Ok(fresh) = Connection::open(self.upstream).await
        {
            connection = fresh;
            progress.begin_again();
            result = exchange(&progress, client, connection.halves(), ending).await;
        }
        match result {
            Err(given_up) => self.give_up(given_up, &progress, client),
            Ok(Ended::Switched) => {
                let Client { reader, writer } = client;
                tunnel((reader, writer), (&mut connection.reader, &mut connection.writer)).await;
                Next::Close
            }
            Ok(Ended::Answered { keep_client, keep_upstream }) => {
                self.give_back(connection, keep_upstream);
                match keep_client {
                    true => Next::Again,
                    false if progress.sent.get().is_some() && client.reader.bytes().is_empty() => {
                        Next::Close
                    }
                    false => Next::Linger,
                }
            }
        }
    }

    /// An idle connection, or a new one. A request of HTTP/1.0 never gets one that others use (G18).
    async fn connect(&self, request: &CanonicalRequest) -> Option<Connection<U::Io>> {
        if !is_repeatable(request) {
            // Nothing may go wrong with this one: let what the kernel knows of ended connections arrive first.
            yield_now().await;
        }
        if request.version() != Version::Http10
            && let Some(connection) = self.take()
        {
            return Some(connection);
        }
        Connection::open(self.upstream).await.ok()
    }

    fn take(&self) -> Option<Connection<U::Io>> {
        self.pool.take(|| {
            self.decider.failed(Failure::Desync);
        })
    }

    /// Keeps a connection for the next request, unless it has said more than it was asked (G20).
    fn give_back(&self, connection: Connection<U::Io>, keep: bool) {
        if !connection.reader.bytes().is_empty() {
            self.decider.failed(Failure::Desync);
        } else if keep {
            self.pool.put(connection);
        }
    }

    /// The upstream connection is dropped in the middle of the exchange: the application sees that it isn't whole. The
    /// client gets an answer, unless it has got a part of another.
    fn give_up<C: AsyncRead + AsyncWrite + Unpin>(
        &self,
        given_up: GivenUp,
        progress: &Progress<'_>,
        client: &mut Client<C>,
    ) -> Next {
        let answer = match given_up {
            GivenUp::Body(fault) => self.refuse_body(&fault, progress.request),
            GivenUp::Answer(Broken::Refused | Broken::Client) => None,
            GivenUp::Answer(Broken::Unheard | Broken::Unprocessed) => {
                Some(self.decider.failed(Failure::BadAnswer))
            }
            GivenUp::Answer(Broken::Application(failure)) => Some(self.decider.failed(failure)),
        };
        match answer {
            Some(answer) if client.writer.writes() == progress.expecting.get() => {
                client.writer.out().clear();
                Next::Answer(answer)
            }
            _ => Next::Abort,
        }
    }

    /// The answer to a body that breaks a rule; none where the client is gone.
    fn refuse_body(&self, fault: &Fault, request: &CanonicalRequest) -> Option<Answer> {
        let refusal = refusal_of_body(fault, request)?;
        Some(self.decider.refuse_body(request, refusal))
    }
}

/// Both directions at the same time, until the answer is complete or one of them fails.
pub(super) async fn exchange<C, Io>(
    progress: &Progress<'_>,
    client: &mut Client<C>,
    (reader, writer): (&mut Reader<ReadHalf<Io>>, &mut Writer<WriteHalf<Io>>),
    ending: impl Fn() -> bool,
) -> Result<Ended, GivenUp>
where
    C: AsyncRead + AsyncWrite + Unpin,
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let mut send = std::pin::pin!(send(progress, &mut client.reader, writer));
    let mut answer = std::pin::pin!(pass_on(progress, reader, &mut client.writer, ending));
    let mut sending = true;
    loop {
        tokio::select! {
            biased;
            sent = &mut send, if sending => match sent {
                // The application may have answered early and closed; the answer decides.
                Ok(()) | Err(Fault::Receiver) => sending = false,
                Err(fault) => return Err(GivenUp::Body(fault)),
            },
            ended = &mut answer => return ended.map_err(GivenUp::Answer),
        }
    }
}

/// What to say of a client's body that breaks a rule; none where the client is gone.
pub(super) fn refusal_of_body(fault: &Fault, request: &CanonicalRequest) -> Option<Refusal> {
    let (rule, offset) = match fault {
        Fault::Malformed(flaw) => (flaw.rule, flaw.offset),
        Fault::Slow => (GateRule::Limits, 0),
        Fault::Sender | Fault::Receiver => return None,
    };
    Some(Refusal {
        rule,
        offset,
        field: Some("body".to_owned()),
        grpc: request.is_grpc_content_type(),
        version: request.version(),
    })
}

/// Tells a client that waits for it to send its body (G19): only now, because the request is allowed.
pub(super) async fn invite_body<C: AsyncRead + AsyncWrite + Unpin>(
    request: &CanonicalRequest,
    client: &mut Client<C>,
) -> std::io::Result<()> {
    if !request.expects_continue() || !request.has_body() || !client.reader.bytes().is_empty() {
        return Ok(());
    }
    client.writer.out().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
    client.writer.flush().await
}

/// Writes the canonical head, then the body in its own framing.
async fn send<R, W>(
    progress: &Progress<'_>,
    client: &mut Reader<R>,
    upstream: &mut Writer<W>,
) -> Result<(), Fault>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let request = progress.request;
    request.write_http1_head(upstream.out());
    let mut decoder = Decoder::of_request(request);
    let pace = matches!(request.framing(), Framing::Length(_)).then(Pace::default);
    transfer(client, upstream, (&mut decoder, Encoder::of_request(request)), pace).await?;
    progress.pipelined.set(!client.bytes().is_empty());
    // A request without a body has gone out as soon as its exchange began.
    progress.sent.set(Some(if request.has_body() { Instant::now() } else { progress.begun.get() }));
    Ok(())
}

/// Whether a request may be sent again on another connection when the first closed without a word (RFC 9110 §9.2.2).
pub(crate) fn is_repeatable(request: &CanonicalRequest) -> bool {
    !request.has_body()
        && request.framing() != Framing::Chunked
        && matches!(request.method(), "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE")
}

#[cfg(test)]
mod tests {
    use engine::gate::{GateProfile, http1};

    use super::is_repeatable;

    #[test]
    fn only_an_idempotent_request_without_a_body_is_repeated() {
        for (bytes, expected) in [
            ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", true),
            ("DELETE /1 HTTP/1.1\r\nhost: a\r\n\r\n", true),
            ("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n", true),
            ("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n", false),
            ("PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nhost: a\r\n\r\n", false),
        ] {
            let request = http1(bytes.as_bytes(), &GateProfile::default()).unwrap();
            assert_eq!(is_repeatable(&request), expected, "{bytes}");
        }
    }
}
