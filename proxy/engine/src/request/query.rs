//! The pairs of a query (semantics V4).

use std::borrow::Cow;

/// The decoded pairs of `query`: split at `&`, then at the first `=`; empty pairs are dropped.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, [u8]>, Cow<'_, [u8]>)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key), decode(value))
    })
}

/// `+` is a space, triplets are decoded once. The gate has refused malformed triplets; one that is found nevertheless
/// (a request that is forwarded unread) stands for itself.
fn decode(text: &str) -> Cow<'_, [u8]> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match (byte, triplet(tail)) {
            (b'%', Some(value)) => {
                decoded.push(value);
                rest = tail.get(2..).unwrap_or_default();
            }
            (b'+', _) => decoded.push(b' '),
            _ => decoded.push(byte),
        }
    }
    Cow::Owned(decoded)
}

/// The byte that the two hexadecimal digits at the start of `digits` stand for.
fn triplet(digits: &[u8]) -> Option<u8> {
    let [high, low, ..] = digits else { return None };
    let value = char::from(*high).to_digit(16)? * 16 + char::from(*low).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::pairs;

    fn decoded(query: &str) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        pairs(query).map(|(key, value)| (text(&key), text(&value))).collect()
    }

    #[test]
    fn v4_pairs_are_split_and_decoded_once() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(decoded("a=1&a=2&&b"), [pair("a", "1"), pair("a", "2"), pair("b", "")]);
        assert_eq!(decoded("a=b=c&=x"), [pair("a", "b=c"), pair("", "x")]);
        assert_eq!(decoded("a+b=%41%2526+"), [pair("a b", "A%26 ")]);
        assert_eq!(decoded(""), []);
    }
}
