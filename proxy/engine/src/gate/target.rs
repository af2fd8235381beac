//! The target: characters (G3), triplets (G4), ambiguous paths (G5), the normal form (G6).

use std::borrow::Cow;

use super::PathMode;
use super::limits;
use super::refusal::{Flaw, GateRule};
use super::syntax::{is_path, is_query, is_unreserved};

/// A target in normal form.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) path: Cow<'a, str>,
    pub(super) query: Option<&'a str>,
}

fn flaw(rule: GateRule, offset: usize) -> Flaw {
    Flaw { rule, offset }
}

/// Reads a target in origin form, `path[?query]`.
pub(super) fn read_target(raw: &[u8], mode: PathMode) -> Result<Target<'_>, Flaw> {
    if raw.len() > limits::TARGET_BYTES {
        return Err(flaw(GateRule::Limits, limits::TARGET_BYTES));
    }
    let end = memchr::memchr(b'?', raw).unwrap_or(raw.len());
    let (path, query) = raw.split_at(end);
    check(path, is_path, 0)?;
    let query = query.split_first().map(|(_, query)| query);
    if let Some(query) = query {
        check(query, is_query, end + 1)?;
    }
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| flaw(GateRule::G3, 0));
    Ok(Target { path: normal(text(path)?, mode)?, query: query.map(text).transpose()? })
}

/// G3 and G4: the characters of one part, which begins at `start`.
fn check(part: &[u8], allowed: fn(u8) -> bool, start: usize) -> Result<(), Flaw> {
    if let Some(at) = part.iter().position(|byte| !allowed(*byte) && *byte != b'%') {
        return Err(flaw(GateRule::G3, start + at));
    }
    for at in memchr::memchr_iter(b'%', part) {
        let decoded = part.get(at + 1..).and_then(triplet);
        if decoded.is_none_or(|byte| byte.is_ascii_control()) {
            return Err(flaw(GateRule::G4, start + at));
        }
    }
    Ok(())
}

/// The byte that the two hexadecimal digits at the start of `digits` stand for.
fn triplet(digits: &[u8]) -> Option<u8> {
    let [high, low, ..] = digits else { return None };
    let value = char::from(*high).to_digit(16)? * 16 + char::from(*low).to_digit(16)?;
    u8::try_from(value).ok()
}

/// The normal form of a path whose characters have been checked.
fn normal(path: &str, mode: PathMode) -> Result<Cow<'_, str>, Flaw> {
    if !path.starts_with('/') {
        return Err(flaw(GateRule::G3, 0));
    }
    if mode == PathMode::Opaque || is_plain(path.as_bytes()) {
        return Ok(Cow::Borrowed(path));
    }
    let mut out = Normal { path: String::with_capacity(path.len()), mode };
    let mut offset = 1;
    let mut segments = path.get(1..).unwrap_or_default().split('/').peekable();
    while let Some(segment) = segments.next() {
        let decoded = decode_unreserved(segment);
        out.push(&decoded, segments.peek().is_none()).map_err(|rule| flaw(rule, offset))?;
        offset += segment.len() + 1;
    }
    Ok(if out.path == path { Cow::Borrowed(path) } else { Cow::Owned(out.path) })
}

/// Whether nothing of the path needs a closer look, which is nearly always so.
fn is_plain(path: &[u8]) -> bool {
    let pair = path.windows(2).any(|pair| matches!(pair, b"//" | b"/."));
    !pair && memchr::memchr2(b'%', b';', path).is_none()
}

/// A path that is being built from segments in normal form.
struct Normal {
    path: String,
    mode: PathMode,
}

impl Normal {
    /// The next segment; `last` if none follows.
    fn push(&mut self, segment: &str, last: bool) -> Result<(), GateRule> {
        let bare = without_parameters(segment);
        let merge = self.mode == PathMode::Merge;
        match segment {
            _ if is_ambiguous(segment) => return Err(GateRule::G5),
            "" if !last && !merge => return Err(GateRule::G5),
            "." | ".." if !merge => return Err(GateRule::G5),
            "" | "." => {}
            ".." => self.path.truncate(self.path.rfind('/').unwrap_or(0)),
            // Servers that drop parameters see another segment here: none, this one or the one above.
            _ if matches!(bare, "." | "..") || (bare.is_empty() && !last) => {
                return Err(GateRule::G5);
            }
            _ => {
                self.path.push('/');
                self.path.push_str(segment);
                return Ok(());
            }
        }
        if last {
            self.path.push('/');
        }
        Ok(())
    }
}

fn without_parameters(segment: &str) -> &str {
    let end = segment.find(';').into_iter().chain(segment.find("%3B")).min();
    end.and_then(|end| segment.get(..end)).unwrap_or(segment)
}

/// Encoded separators, and triplets that decode to the beginning of a triplet. `segment` is in normal form.
fn is_ambiguous(segment: &str) -> bool {
    segment.match_indices('%').any(|(at, _)| {
        let rest = segment.as_bytes().get(at + 1..).unwrap_or_default();
        match rest {
            [b'2', b'F', ..] | [b'5', b'C', ..] => true,
            [b'2', b'5', rest @ ..] => triplet(rest).is_some(),
            _ => false,
        }
    })
}

/// G6: unreserved characters decoded, the digits of other triplets in upper case.
fn decode_unreserved(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    let mut out = String::with_capacity(segment.len());
    let mut pieces = segment.split('%');
    out.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2).unwrap_or((piece, ""));
        match triplet(digits.as_bytes()) {
            Some(byte) if is_unreserved(byte) => out.push(char::from(byte)),
            _ => {
                out.push('%');
                out.extend(digits.chars().map(|digit| digit.to_ascii_uppercase()));
            }
        }
        out.push_str(rest);
    }
    Cow::Owned(out)
}

/// The normal form of a policy's path. The same string, borrowed, where it is in that form already.
///
/// # Errors
/// The rule that a request with this path would break in mode `strict`; G3 at a `?`.
pub fn normal_path(path: &str) -> Result<Cow<'_, str>, Flaw> {
    let target = read_target(path.as_bytes(), PathMode::Strict)?;
    match target.query {
        None => Ok(target.path),
        Some(_) => Err(flaw(GateRule::G3, path.find('?').unwrap_or_default())),
    }
}

/// The folded form of a path (semantics V5): of each segment everything from `;` on dropped, ASCII letters in lower
/// case, the trailing `/` dropped, but not that of `/` itself.
#[must_use]
pub fn fold_path(path: &str) -> String {
    let mut folded = String::with_capacity(path.len());
    for (index, segment) in path.split('/').enumerate() {
        if index > 0 {
            folded.push('/');
        }
        let bare = segment.split_once(';').map_or(segment, |(bare, _)| bare);
        folded.extend(bare.chars().map(|character| character.to_ascii_lowercase()));
    }
    if folded.len() > 1 && folded.ends_with('/') {
        folded.pop();
    }
    folded
}
