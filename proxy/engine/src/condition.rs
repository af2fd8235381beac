//! One item of `when` (semantics V1–V6).

use crate::{gate, request::CanonicalRequest};

/// How a predicate treats several values and two forms of a path (V2, V5).
///
/// A grant must be sure, so every value has to satisfy it; a refusal must not be dodged, so one value is enough, and the
/// folded path counts as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rigour {
    /// Allow, and the selection of a route.
    EveryValue,
    /// Deny, Require, Refuse.
    AnyValue,
}

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A header, by its name in lower case.
    Header(Box<str>),
    /// A query key, decoded.
    Query(Box<str>),
    /// The method.
    Method,
    /// The host.
    Host,
    /// The path.
    Path,
}

/// What is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// One of these values.
    In(Box<[Box<str>]>),
    /// None of these.
    NotIn(Box<[Box<str>]>),
    /// Begins with it; for a path: whole segments.
    Prefix(Box<str>),
    /// At least one value.
    Exists,
    /// No value.
    Absent,
}

/// A condition, ready to be evaluated.
#[derive(Debug, Clone)]
pub struct Condition {
    subject: Subject,
    test: Test,
    folded: Test,
}

impl Condition {
    /// Puts one together; the value lists of `In` and `NotIn` are not empty (I7), which the reader of the bytes checks.
    pub fn new(subject: Subject, test: Test) -> Self {
        let test = match test {
            Test::In(values) => Test::In(sorted(values.into_iter())),
            Test::NotIn(values) => Test::NotIn(sorted(values.into_iter())),
            other => other,
        };
        let folded = match (&subject, &test) {
            (Subject::Path, Test::In(values)) => {
                Test::In(sorted(values.iter().map(|value| fold(value))))
            }
            (Subject::Path, Test::NotIn(values)) => {
                Test::NotIn(sorted(values.iter().map(|value| fold(value))))
            }
            (Subject::Path, Test::Prefix(value)) => Test::Prefix(fold(value)),
            _ => test.clone(),
        };
        Self { subject, test, folded }
    }

    /// What is looked at.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Whether it holds for the request.
    pub fn holds(&self, request: &CanonicalRequest, rigour: Rigour) -> bool {
        match &self.subject {
            Subject::Header(name) => self.header_holds(request, name, rigour),
            Subject::Query(key) => {
                several(&self.test, rigour, request.query_values(key), |test, value| {
                    text_satisfies(test, value.as_ref())
                })
            }
            Subject::Method => text_satisfies(&self.test, request.method().as_bytes()),
            Subject::Host => host_satisfies(&self.test, request.host()),
            Subject::Path => {
                path_satisfies(&self.test, request.path())
                    || (rigour == Rigour::AnyValue
                        && path_satisfies(&self.folded, request.folded_path()))
            }
        }
    }

    fn header_holds(&self, request: &CanonicalRequest, name: &str, rigour: Rigour) -> bool {
        match rigour {
            Rigour::EveryValue => {
                several(&self.test, rigour, request.header_values(name), text_satisfies)
            }
            Rigour::AnyValue => several(
                &self.test,
                rigour,
                request.header_values(name).flat_map(with_elements),
                text_satisfies,
            ),
        }
    }
}

/// A header's value itself, then each of its comma-separated elements (V2).
pub(crate) fn with_elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let elements = value.contains(&b',').then(|| value.split(|byte| *byte == b','));
    std::iter::once(value).chain(elements.into_iter().flatten().map(<[u8]>::trim_ascii))
}

fn several<V>(
    test: &Test,
    rigour: Rigour,
    values: impl Iterator<Item = V>,
    satisfies: impl Fn(&Test, V) -> bool,
) -> bool {
    let mut values = values.peekable();
    if values.peek().is_none() {
        return matches!(test, Test::NotIn(_) | Test::Absent);
    }
    match rigour {
        Rigour::EveryValue => values.all(|value| satisfies(test, value)),
        Rigour::AnyValue => values.any(|value| satisfies(test, value)),
    }
}

/// For a value that is there.
fn text_satisfies(test: &Test, value: &[u8]) -> bool {
    match test {
        Test::In(list) => listed(list, value),
        Test::NotIn(list) => !listed(list, value),
        Test::Prefix(prefix) => value.starts_with(prefix.as_bytes()),
        Test::Exists => true,
        Test::Absent => false,
    }
}

fn host_satisfies(test: &Test, host: &str) -> bool {
    match test {
        Test::In(list) => list.iter().any(|pattern| host_matches(pattern, host)),
        Test::NotIn(list) => !list.iter().any(|pattern| host_matches(pattern, host)),
        other => text_satisfies(other, host.as_bytes()),
    }
}

/// `*.a.b` stands for one or more labels in front of `.a.b` (V6).
pub(crate) fn host_matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => pattern == host,
    }
}

fn path_satisfies(test: &Test, path: &str) -> bool {
    match test {
        Test::Prefix(prefix) => path_has_prefix(path, prefix),
        other => text_satisfies(other, path.as_bytes()),
    }
}

/// Whole segments; the prefix carries no trailing `/` unless it is `/` (V5).
pub(crate) fn path_has_prefix(path: &str, prefix: &str) -> bool {
    prefix == "/"
        || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn listed(list: &[Box<str>], value: &[u8]) -> bool {
    list.binary_search_by(|item| item.as_bytes().cmp(value)).is_ok()
}

fn sorted(values: impl Iterator<Item = Box<str>>) -> Box<[Box<str>]> {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable();
    values.into_boxed_slice()
}

fn fold(path: &str) -> Box<str> {
    gate::fold_path(path).into()
}

#[cfg(test)]
mod tests {
    use super::host_matches;

    #[test]
    fn v6_a_star_stands_for_one_label_or_more() {
        for (pattern, host, expected) in [
            ("*.a.b", "x.a.b", true),
            ("*.a.b", "x.y.a.b", true),
            ("*.a.b", "a.b", false),
            ("*.a.b", ".a.b", false),
            ("*.a.b", "xa.b", false),
            ("a.b", "a.b", true),
            ("a.b", "x.a.b", false),
        ] {
            assert_eq!(host_matches(pattern, host), expected, "{pattern} {host}");
        }
    }
}
