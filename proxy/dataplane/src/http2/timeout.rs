//! The deadline that a gRPC client gives (`grpc-timeout`): an upper bound of the exchange.

use std::time::Duration;

use engine::request::CanonicalRequest;
use tokio::time::sleep;

/// Digits of a value.
const DIGITS: usize = 8;

/// Ends when the time is over that the request's client gave it; never, where it gave none.
pub(super) fn over(request: &CanonicalRequest) -> impl Future<Output = ()> + use<> {
    let most = of(request);
    async move {
        match most {
            Some(most) => sleep(most).await,
            None => std::future::pending().await,
        }
    }
}

/// How long a request may take as a whole. What isn't of the form is no deadline; it goes on as it came.
fn of(request: &CanonicalRequest) -> Option<Duration> {
    if !request.is_grpc_content_type() {
        return None;
    }
    let mut values = request.header_values("grpc-timeout");
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    read(value)
}

fn read(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(count * 3_600)),
        b'M' => Some(Duration::from_secs(count * 60)),
        b'S' => Some(Duration::from_secs(count)),
        b'm' => Some(Duration::from_millis(count)),
        b'u' => Some(Duration::from_micros(count)),
        b'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gr_04_a_timeout_is_read_without_overflow_or_not_at_all() {
        assert_eq!(read(b"99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        assert_eq!(read(b"250m"), Some(Duration::from_millis(250)));
        assert_eq!(read(b"1n"), Some(Duration::from_nanos(1)));
        for bad in [&b"999999999S"[..], b"", b"S", b"1", b"-1S", b"+1S", b" 1S", b"1s", b"1.5S"] {
            assert_eq!(read(bad), None, "{}", bad.escape_ascii());
        }
    }
}
