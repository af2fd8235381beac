//! A request that policy refused, answered; and whether the client's connection may carry another.
//!
//! It may, where it is beyond doubt that what comes next is the next request (H1-11): the gate has read the head in one way,
//! there is no body or it was read to its end, the client was not asked for it and doesn't ask to leave HTTP, and
//! nothing has come behind it yet. Anything else ends the connection, and nothing more of it is read.

use engine::request::{CanonicalRequest, Framing, Version};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::body::Decoder;
use super::chunked::Step;
use super::forward::{Client, Next};
use super::limits;
use super::wire::Reader;
use crate::exchange::{Denied, Last};

/// Answers it. `ending`: whether the client's connection shall end with it.
pub(super) async fn answer<C: AsyncRead + AsyncWrite + Unpin>(
    Denied { answer, request }: &Denied,
    client: &mut Client<C>,
    ending: impl Fn() -> bool,
) -> Next {
    let mut decoder = Decoder::of_request(request);
    let keeps = may_continue(request) && drained(&mut decoder, &mut client.reader).await;
    if !keeps || !client.reader.bytes().is_empty() || ending() {
        return Next::Answer(answer.clone());
    }
    answer.write_http1(Last::No, request.method() == "HEAD", client.writer.out());
    match client.writer.flush().await {
        Ok(()) => Next::Again,
        Err(_) => Next::Abort,
    }
}

/// Whether the head leaves no doubt about what follows it, and its body is worth reading.
pub(crate) fn may_continue(request: &CanonicalRequest) -> bool {
    // A client that waits to be asked for its body may send it, or may not: both are right once it is refused.
    let waits = request.expects_continue() && request.has_body();
    let too_long = |length| length > limits::DENIED_BODY_BYTES as u64;
    request.version() == Version::Http11
        && request.keep_alive()
        && request.upgrade().is_none()
        && request.unread().is_none()
        && !waits
        && !matches!(request.framing(), Framing::Length(length) if too_long(length))
}

/// Reads what is left of a body to its end and drops it; false where it is more than is worth the while, or breaks a rule.
pub(crate) async fn drained<R: AsyncRead + Unpin>(
    decoder: &mut Decoder,
    reader: &mut Reader<R>,
) -> bool {
    let (mut taken, mut due) = (0, None);
    while taken <= limits::DENIED_BODY_BYTES {
        let count = match decoder.next(reader.bytes()) {
            Ok(Step::End) => return true,
            Ok(Step::Framing(count)) => count,
            Ok(Step::Data(data)) => data.len(),
            Ok(Step::More) => {
                let due = *due.get_or_insert_with(|| Instant::now() + limits::DENIED_BODY);
                if !matches!(reader.fill_before(due).await, Some(Ok(1..))) {
                    return false;
                }
                0
            }
            Err(_) => return false,
        };
        reader.consume(count);
        taken += count;
    }
    false
}
