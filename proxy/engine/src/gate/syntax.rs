//! The characters of HTTP's grammar (RFC 9110 §5.6, RFC 3986 §2 and §3), as one table of bit sets.

/// `tchar`: method and field names.
const TOKEN: u8 = 1;
/// `pchar` without triplets, and `/`.
const PATH: u8 = 2;
/// What may also stand in a query: `?`, and `[ ] { } | ^` and backquote, which browsers send (semantics T7).
const QUERY: u8 = 4;
/// The characters of a host name.
const HOST: u8 = 8;
/// Unreserved characters, which mean the same encoded or not (G6).
const UNRESERVED: u8 = 16;
/// Control characters but HTAB.
const CONTROL: u8 = 32;

const CLASSES: [u8; 256] = classes();

const fn mark(mut table: [u8; 256], characters: &[u8], class: u8) -> [u8; 256] {
    let mut index = 0;
    while index < characters.len() {
        table[characters[index] as usize] |= class;
        index += 1;
    }
    table
}

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut character = 0u8;
    while character.is_ascii() {
        if character.is_ascii_alphanumeric() {
            table[character as usize] = TOKEN | PATH | HOST | UNRESERVED;
        }
        if character.is_ascii_control() && character != b'\t' {
            table[character as usize] = CONTROL;
        }
        character += 1;
    }
    table = mark(table, b"!#$%&'*+-.^_`|~", TOKEN);
    table = mark(table, b"-._~!$&'()*+,;=:@/", PATH);
    table = mark(table, b"?[]{}|^`", QUERY);
    table = mark(table, b"-._", HOST);
    mark(table, b"-._~", UNRESERVED)
}

fn is(byte: u8, class: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

/// Whether `name` is a `token`, and not empty.
#[must_use]
pub fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| is(*byte, TOKEN))
}

pub(super) fn is_path(byte: u8) -> bool {
    is(byte, PATH)
}

pub(super) fn is_query(byte: u8) -> bool {
    is(byte, PATH | QUERY)
}

pub(super) fn is_host(byte: u8) -> bool {
    is(byte, HOST)
}

pub(super) fn is_unreserved(byte: u8) -> bool {
    is(byte, UNRESERVED)
}

/// Whether there is a control character but HTAB. Without table and early exit, so that it looks at many bytes at a time.
#[must_use]
pub fn has_control(text: &[u8]) -> bool {
    let is_control = |byte: u8| matches!(byte, 0..=8 | 10..=31 | 127);
    text.iter().fold(false, |found, byte| found | is_control(*byte))
}

/// The position of the first control character but HTAB.
pub(super) fn find_control(text: &[u8]) -> Option<usize> {
    has_control(text).then(|| text.iter().position(|byte| is(*byte, CONTROL))).flatten()
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// `text` without spaces and tabs around it (OWS).
#[must_use]
pub fn trim_blanks(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_blank(*first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && is_blank(*last)
    {
        text = rest;
    }
    text
}

/// The elements of a comma-separated list, blanks around them removed, empty ones left out.
pub(super) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim_blanks).filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{CONTROL, has_control, is};

    #[test]
    fn has_control_says_of_each_byte_what_the_table_does() {
        for byte in 0..=u8::MAX {
            assert_eq!(has_control(&[b'a', byte, b'b']), is(byte, CONTROL), "{byte}");
        }
        assert!(!has_control(b""));
    }
}
