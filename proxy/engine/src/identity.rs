//! Who a peer is, and the sets of identities that rules name.
//!
//! Source: SPIFFE-ID §2 (syntax), semantics I1–I4 (forms).

use std::fmt;

use hashbrown::HashSet;

/// The longest SPIFFE ID that is read (SPIFFE-ID §2.3).
pub const MAX_BYTES: usize = 2048;

const SCHEME: &str = "spiffe://";

/// A string that is no SPIFFE ID, or no form of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not {expected}: {problem}")]
pub struct IdentityError {
    value: String,
    expected: &'static str,
    problem: &'static str,
}

/// A valid SPIFFE ID with a path, compared byte for byte.
///
/// Holds beside itself the two forms that would cover it, so that looking it up in a set costs no formatting.
#[derive(Clone, PartialEq, Eq)]
pub struct SpiffeId {
    text: Box<str>,
    namespace_form: Option<Box<str>>,
    trust_domain_form: Box<str>,
}

impl SpiffeId {
    /// Reads `spiffe://<trust domain>/<path>`; a trust domain alone is no identity of a workload.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let (trust_domain, path) =
            split(text).map_err(|problem| error(text, "a SPIFFE ID", problem))?;
        let Some(path) = path else {
            return Err(error(text, "a SPIFFE ID", "it has no path"));
        };
        check_path(path).map_err(|problem| error(text, "a SPIFFE ID", problem))?;
        Ok(Self {
            text: text.into(),
            namespace_form: namespace_of(path)
                .map(|namespace| format!("{SCHEME}{trust_domain}/ns/{namespace}/sa/*").into()),
            trust_domain_form: format!("{SCHEME}{trust_domain}/*").into(),
        })
    }

    /// The whole ID, as it stands in the certificate.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain alone.
    pub fn trust_domain(&self) -> &str {
        self.trust_domain_form
            .strip_prefix(SCHEME)
            .and_then(|rest| rest.strip_suffix("/*"))
            .unwrap_or_default()
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a rule may write where it names identities: a whole ID, `spiffe://td/ns/<ns>/sa/*`, `spiffe://td/*`, or `*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdentityForm(Box<str>);

impl IdentityForm {
    /// Reads a form; `*` stands only for one whole part (semantics I1).
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        const EXPECTED: &str =
            "a SPIFFE ID, `spiffe://<td>/ns/<ns>/sa/*`, `spiffe://<td>/*` or `*`";
        if text == "*" {
            return Ok(Self(text.into()));
        }
        let (_, path) = split(text).map_err(|problem| error(text, EXPECTED, problem))?;
        let path = path.ok_or_else(|| error(text, EXPECTED, "it has no path"))?;
        let literal = match path.strip_suffix('*') {
            None => path,
            Some("") => return Ok(Self(text.into())),
            Some(front) if namespace_of(path).is_some() && front.ends_with('/') => {
                front.trim_end_matches('/')
            }
            Some(_) => return Err(error(text, EXPECTED, "`*` stands only for one whole part")),
        };
        check_path(literal).map_err(|problem| error(text, EXPECTED, problem))?;
        Ok(Self(text.into()))
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A set of identities: what is listed, less what is excepted. An empty list matches nobody (INV-4).
#[derive(Debug, Clone, Default)]
pub struct IdentitySet {
    any_of: HashSet<Box<str>, foldhash::fast::RandomState>,
    except: HashSet<Box<str>, foldhash::fast::RandomState>,
}

impl IdentitySet {
    /// Builds the set from forms.
    pub fn new(
        any_of: impl IntoIterator<Item = IdentityForm>,
        except: impl IntoIterator<Item = IdentityForm>,
    ) -> Self {
        Self {
            any_of: any_of.into_iter().map(|form| form.0).collect(),
            except: except.into_iter().map(|form| form.0).collect(),
        }
    }

    /// Whether the set holds this identity.
    pub fn contains(&self, identity: &SpiffeId) -> bool {
        covers(&self.any_of, identity) && !covers(&self.except, identity)
    }

    /// Whether nothing at all is listed (`except` isn't looked at; semantics D3).
    pub fn is_empty(&self) -> bool {
        self.any_of.is_empty()
    }

    /// The listed forms, in no order, where nothing is excepted.
    pub(crate) fn plain_forms(&self) -> Option<impl Iterator<Item = &str>> {
        self.except.is_empty().then(|| self.any_of.iter().map(AsRef::as_ref))
    }
}

/// The forms that cover an identity, the nearest first.
pub(crate) fn covering(identity: &SpiffeId) -> impl Iterator<Item = &str> {
    [
        Some(identity.text.as_ref()),
        identity.namespace_form.as_deref(),
        Some(identity.trust_domain_form.as_ref()),
        Some("*"),
    ]
    .into_iter()
    .flatten()
}

fn covers(forms: &HashSet<Box<str>, foldhash::fast::RandomState>, identity: &SpiffeId) -> bool {
    !forms.is_empty() && covering(identity).any(|form| forms.contains(form))
}

fn error(value: &str, expected: &'static str, problem: &'static str) -> IdentityError {
    IdentityError { value: value.chars().take(200).collect(), expected, problem }
}

/// Splits into trust domain and the path behind the slash, the trust domain checked.
fn split(text: &str) -> Result<(&str, Option<&str>), &'static str> {
    if text.len() > MAX_BYTES {
        return Err("it is longer than 2048 bytes");
    }
    let rest = text.strip_prefix(SCHEME).ok_or("it does not begin with `spiffe://`")?;
    let (trust_domain, path) = match rest.split_once('/') {
        Some((trust_domain, path)) => (trust_domain, Some(path)),
        None => (rest, None),
    };
    let legal =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    if trust_domain.is_empty() || trust_domain.len() > 255 {
        return Err("its trust domain is empty or longer than 255 bytes");
    }
    if !trust_domain.bytes().all(legal) {
        return Err("its trust domain may hold a-z, 0-9, `.`, `-` and `_` only");
    }
    Ok((trust_domain, path))
}

fn check_path(path: &str) -> Result<(), &'static str> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    for segment in path.split('/') {
        if segment.is_empty() {
            return Err("a part of its path is empty");
        }
        if segment == "." || segment == ".." {
            return Err("a part of its path is `.` or `..`");
        }
        if !segment.bytes().all(legal) {
            return Err("its path may hold letters, digits, `.`, `-`, `_` and `/` only");
        }
    }
    Ok(())
}

/// The namespace of a path `ns/<namespace>/sa/<service account>`.
fn namespace_of(path: &str) -> Option<&str> {
    let mut parts = path.split('/');
    match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("ns"), Some(namespace), Some("sa"), Some(_), None) if !namespace.is_empty() => {
            Some(namespace)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(any_of: &[&str], except: &[&str]) -> IdentitySet {
        let forms = |list: &[&str]| -> Vec<IdentityForm> {
            list.iter().map(|form| IdentityForm::parse(form).unwrap()).collect()
        };
        IdentitySet::new(forms(any_of), forms(except))
    }

    #[test]
    fn i1_a_star_stands_for_one_whole_part() {
        for good in [
            "*",
            "spiffe://td/*",
            "spiffe://td/ns/a/sa/*",
            "spiffe://td/ns/a/sa/b",
            "spiffe://td/x",
        ] {
            assert!(IdentityForm::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "**",
            "spiffe://*",
            "spiffe://td",
            "spiffe://td/",
            "spiffe://td/ns/*/sa/b",
            "spiffe://td/ns/a/sa/b*",
            "spiffe://td/ns/*",
            "spiffe://td/ns/a/*",
            "spiffe://td/a//b",
            "spiffe://td/a/../b",
            "spiffe://TD/a",
            "spiffe://td/a%2f",
            "spiffe://td:1/a",
            "spiffe://u@td/a",
            "spiffe://td/a?b",
            "spiffe://td/a#b",
            "https://td/a",
            "spiffe://td/ns/a/sa/é",
        ] {
            assert!(IdentityForm::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn i4_except_removes() {
        let id = SpiffeId::parse("spiffe://td/ns/a/sa/b").unwrap();
        assert!(set(&["spiffe://td/ns/a/sa/*"], &[]).contains(&id));
        assert!(!set(&["spiffe://td/*"], &["spiffe://td/ns/a/sa/b"]).contains(&id));
        assert!(!set(&["spiffe://other/*"], &[]).contains(&id));
    }

    #[test]
    fn i7_empty_matches_nobody() {
        assert!(!set(&[], &[]).contains(&SpiffeId::parse("spiffe://td/a").unwrap()));
    }

    #[test]
    fn i1_an_identity_has_bounds() {
        let id = |domain: usize, path: usize| {
            format!("spiffe://{}/{}", "d".repeat(domain), "p".repeat(path))
        };
        let whole = |domain: usize| MAX_BYTES - "spiffe:///".len() - domain;
        assert!(SpiffeId::parse(&id(255, 1)).is_ok());
        assert!(SpiffeId::parse(&id(256, 1)).is_err());
        assert!(SpiffeId::parse(&id(0, 1)).is_err());
        assert!(SpiffeId::parse(&id(2, whole(2))).is_ok());
        assert!(SpiffeId::parse(&id(2, whole(2) + 1)).is_err());
    }

    #[test]
    fn i1_an_identity_is_shown_as_it_was_written() {
        let text = "spiffe://td/ns/a/sa/b";
        let id = SpiffeId::parse(text).unwrap();
        assert_eq!((id.as_str(), id.trust_domain()), (text, "td"));
        assert_eq!((id.to_string(), format!("{id:?}")), (text.into(), text.into()));
        assert_eq!(IdentityForm::parse("spiffe://td/*").unwrap().as_str(), "spiffe://td/*");
    }
}
