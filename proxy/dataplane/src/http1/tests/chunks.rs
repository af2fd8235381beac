//! The chunk decoder as a function of its bytes.

use engine::gate::Flaw;
use proptest::prelude::*;

use super::super::chunked::{Decoder, Step, encode, encode_end};

/// Data, trailer lines, and where the body ended if it did.
type Decoded = (Vec<u8>, Vec<u8>, Option<usize>);

/// Decodes `bytes`, of which at first only the first of `pieces` is there, and so on.
fn decode(bytes: &[u8], pieces: &[usize]) -> Result<Decoded, Flaw> {
    let mut decoder = Decoder::new(false);
    let (mut at, mut data) = (0, Vec::new());
    for end in pieces.iter().copied().chain([bytes.len()]) {
        let end = end.min(bytes.len()).max(at);
        loop {
            match decoder.next(&bytes[at..end])? {
                Step::More => break,
                Step::Framing(count) => at += count,
                Step::Data(piece) => {
                    data.extend_from_slice(piece);
                    at += piece.len();
                }
                Step::End => return Ok((data, decoder.trailers().to_vec(), Some(at))),
            }
        }
    }
    Ok((data, decoder.trailers().to_vec(), None))
}

#[test]
fn a_body_ends_where_it_ends() {
    let body = b"5\r\nhello\r\n0\r\nEtag: a\r\nx: y\r\n\r\nGET /";
    let expected = (b"hello".to_vec(), b"Etag: a\r\n".to_vec(), Some(body.len() - 5));
    assert_eq!(decode(body, &[]), Ok(expected));
    assert_eq!(decode(b"A;x\r\n0123456789\r\n00\r\n\r\n", &[]).unwrap().2, Some(23));
    assert_eq!(decode(b"5\r\nhel", &[]).unwrap().2, None);
}

#[test]
fn h1_21_trailers_have_their_bounds() {
    let many = format!("0\r\n{}\r\n", "a: b\r\n".repeat(101));
    assert!(decode(many.as_bytes(), &[]).is_err());
    let long = format!("0\r\na: {}\r\n\r\n", "b".repeat(17 * 1024));
    assert!(decode(long.as_bytes(), &[]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_encoded_decodes_however_it_is_cut(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
        mut pieces in prop::collection::vec(0..300_usize, 0..12),
    ) {
        let mut bytes = Vec::new();
        for chunk in &chunks {
            encode(chunk, &mut bytes);
        }
        encode_end(b"Etag: a\r\n", &mut bytes);
        let length = bytes.len();
        bytes.extend_from_slice(b"next");
        pieces.sort_unstable();
        prop_assert_eq!(decode(&bytes, &pieces), Ok((chunks.concat(), b"Etag: a\r\n".to_vec(), Some(length))));
    }

    #[test]
    fn any_bytes_mean_the_same_however_they_are_cut(
        bytes in "[0-9a-f;\r\n x]{0,40}(\r\n){0,3}",
        mut pieces in prop::collection::vec(0..40_usize, 0..8),
    ) {
        pieces.sort_unstable();
        let whole = decode(bytes.as_bytes(), &[]);
        let cut = decode(bytes.as_bytes(), &pieces);
        prop_assert_eq!(whole.is_ok(), cut.is_ok());
        if let (Ok(whole), Ok(cut)) = (whole, cut) {
            prop_assert_eq!(whole, cut);
        }
    }
}
