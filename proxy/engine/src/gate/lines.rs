//! The lines of a head, exactly: each ends with CRLF, the empty one is the last (G9).

use super::refusal::{Flaw, GateRule};
use super::syntax::{find_control, trim_blanks};

/// One line without its CRLF.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// Where it begins in the head.
    pub offset: usize,
    /// Its bytes: no CR and no LF among them.
    pub bytes: &'a [u8],
}

/// The lines of a head without the empty one. After the first flaw there are no more.
#[derive(Debug)]
pub struct Lines<'a> {
    head: &'a [u8],
    at: usize,
    done: bool,
}

impl<'a> Lines<'a> {
    /// The lines of `head`, which must end with its empty line.
    #[must_use]
    pub fn new(head: &'a [u8]) -> Self {
        Self { head, at: 0, done: false }
    }

    fn read(&mut self) -> Result<Option<Line<'a>>, Flaw> {
        let flaw = |offset| Flaw { rule: GateRule::G9, offset };
        let offset = self.at;
        let rest = self.head.get(offset..).unwrap_or_default();
        let (bytes, after) = match first_line(rest) {
            Some(parts) => parts,
            None => flawed_line(rest).map_err(|at| flaw(offset + at))?,
        };
        self.at = self.head.len() - after.len();
        match (bytes.is_empty(), after.is_empty()) {
            (true, true) if offset > 0 => Ok(None),
            (true, _) => Err(flaw(offset)),
            (false, _) => Ok(Some(Line { offset, bytes })),
        }
    }
}

/// The first line without its CRLF, and what follows; none where the first CR or LF isn't a CRLF.
fn first_line(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr2(b'\r', b'\n', rest)?;
    let (line, after) = rest.split_at(end);
    Some((line, after.strip_prefix(b"\r\n")?))
}

/// The same, slowly, to say what is wrong with it and where.
fn flawed_line(rest: &[u8]) -> Result<(&[u8], &[u8]), usize> {
    let end = memchr::memchr(b'\n', rest).ok_or(rest.len())?;
    let (line, after) = rest.split_at(end + 1);
    let bytes = line.strip_suffix(b"\r\n").ok_or(end)?;
    match memchr::memchr(b'\r', bytes) {
        Some(bare) => Err(bare),
        None => Ok((bytes, after)),
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Result<Line<'a>, Flaw>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let line = self.read();
        self.done = !matches!(line, Ok(Some(_)));
        line.transpose()
    }
}

/// Splits a field line at its colon; the value without blanks around it.
///
/// # Errors
/// G11 where it isn't a field line at all: folded (it begins with a blank), without a colon, without a name; G11 and
/// G12 where there is a control character in the name or the value. Whether the name is a token is left to the caller.
pub fn split_field(line: Line<'_>) -> Result<(&[u8], &[u8]), Flaw> {
    let flaw = |rule, at: usize| Flaw { rule, offset: line.offset + at };
    let colon = memchr::memchr(b':', line.bytes).ok_or(flaw(GateRule::G11, 0))?;
    if let Some(at) = find_control(line.bytes) {
        return Err(flaw(if at < colon { GateRule::G11 } else { GateRule::G12 }, at));
    }
    let (name, value) = line.bytes.split_at(colon);
    if matches!(name.first(), None | Some(b' ' | b'\t')) {
        return Err(flaw(GateRule::G11, 0));
    }
    Ok((name, trim_blanks(value.get(1..).unwrap_or_default())))
}
