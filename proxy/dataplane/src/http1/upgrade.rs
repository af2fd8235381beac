//! Leaving HTTP: only after a valid `101`, and then every byte goes both ways.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use engine::request::CanonicalRequest;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::response::AnswerHead;
use super::wire::{Reader, Writer};
use crate::limits::HALF_CLOSED;

/// What RFC 6455 §1.3 appends to a key.
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Whether a `101` is the answer to what the client asked for (§4.5): the protocol it named, and for `websocket` the
/// proof that the application read this very request.
pub(super) fn is_valid(request: &CanonicalRequest, answer: &AnswerHead<'_>) -> bool {
    let (Some(asked), Some(given)) = (request.upgrade(), answer.upgrade()) else { return false };
    let mut listed = asked.split(',').map(|protocol| protocol.trim().as_bytes());
    if !listed.any(|protocol| protocol.eq_ignore_ascii_case(given)) {
        return false;
    }
    if !given.eq_ignore_ascii_case(b"websocket") {
        return true;
    }
    let key = request.header_values("sec-websocket-key").next().unwrap_or_default();
    answer.only("sec-websocket-accept").is_some_and(|accept| accept == accept_value(key).as_bytes())
}

/// The base64 of the SHA-1 of the key and the suffix: no secret, only proof of reading.
fn accept_value(key: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, KEY_SUFFIX].concat());
    let mut text = String::new();
    for group in hash.as_ref().chunks(3) {
        let bytes: [u8; 3] = std::array::from_fn(|index| group.get(index).copied().unwrap_or(0));
        let bits = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
        for place in 0..4 {
            let index = (bits >> (18 - 6 * place)) as usize & 63;
            text.push(if place <= group.len() { char::from(ALPHABET[index]) } else { '=' });
        }
    }
    text
}

/// Relays both directions until both have ended, or one has and the other doesn't in time.
pub(super) async fn tunnel<A, B, C, D>(
    client: (&mut Reader<A>, &mut Writer<B>),
    upstream: (&mut Reader<C>, &mut Writer<D>),
) where
    A: AsyncRead + Unpin,
    B: AsyncWrite + Unpin,
    C: AsyncRead + Unpin,
    D: AsyncWrite + Unpin,
{
    let mut up = std::pin::pin!(relay(client.0, upstream.1));
    let mut down = std::pin::pin!(relay(upstream.0, client.1));
    tokio::select! {
        whole = &mut up => if whole { let _ = timeout(HALF_CLOSED, down).await; },
        whole = &mut down => if whole { let _ = timeout(HALF_CLOSED, up).await; },
    }
}

/// Relays one direction to its end and passes the end on; false where the connection failed.
async fn relay<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    reader: &mut Reader<R>,
    writer: &mut Writer<W>,
) -> bool {
    loop {
        let count = reader.bytes().len();
        writer.out().extend_from_slice(reader.bytes());
        reader.consume(count);
        if writer.flush().await.is_err() {
            return false;
        }
        match reader.fill().await {
            Ok(0) => return writer.end().await.is_ok(),
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_example_of_rfc_6455() {
        assert_eq!(
            super::accept_value(b"dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }
}
