//! Regular expressions that policies write: RE2's syntax with ASCII classes, matched against the whole value (semantics V7).
//!
//! The `regex` crate knows a little more than RE2. What only it knows is refused, so that a policy means the same
//! wherever RE2 is spoken.

use regex_syntax::ast::{self, Ast, ClassSet, ClassSetItem, Flag, FlagsItemKind};

/// The longest pattern, in bytes.
pub const MAX_PATTERN_BYTES: usize = 1024;
/// The largest compiled pattern, in bytes.
pub const MAX_COMPILED_BYTES: usize = 1 << 20;
/// How often RE2 repeats at most.
const MAX_REPEAT: u32 = 1000;
/// How many patterns may hang on one Server.
pub const MAX_PATTERNS_PER_SERVER: usize = 64;

/// Why a pattern is unreadable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Longer than [`MAX_PATTERN_BYTES`].
    #[error("the regular expression has {0} bytes, at most {MAX_PATTERN_BYTES} are allowed")]
    TooLong(usize),
    /// Something that RE2 doesn't know.
    #[error("the regular expression uses {0}, which RE2 does not know")]
    NotRe2(&'static str),
    /// It doesn't parse, or is too large when compiled.
    #[error("the regular expression `{0}` does not compile: {1}")]
    Invalid(String, String),
}

/// A compiled pattern.
#[derive(Debug, Clone)]
pub struct Pattern {
    whole: regex::bytes::Regex,
    length: usize,
}

impl Pattern {
    /// Compiles; the match is anchored at both ends here, not searched and measured afterwards.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.len() > MAX_PATTERN_BYTES {
            return Err(PatternError::TooLong(text.len()));
        }
        let ast = ast::parse::ParserBuilder::new()
            .nest_limit(64)
            .build()
            .parse(text)
            .map_err(|error| PatternError::Invalid(text.into(), error.kind().to_string()))?;
        ast::visit(&ast, Re2 { text })?;
        let whole = regex::bytes::RegexBuilder::new(&format!(r"\A(?:{text})\z"))
            .unicode(false)
            .size_limit(MAX_COMPILED_BYTES)
            .dfa_size_limit(MAX_COMPILED_BYTES)
            .build()
            .map_err(|error| PatternError::Invalid(text.into(), last_line(&error.to_string())))?;
        Ok(Self { whole, length: text.len() })
    }

    /// Whether the whole value matches.
    pub fn matches(&self, value: &[u8]) -> bool {
        self.whole.is_match(value)
    }

    /// Bytes of the pattern as written (ranks a route, semantics R3).
    pub fn length(&self) -> usize {
        self.length
    }
}

fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().trim().into()
}

/// Refuses what RE2 doesn't know.
struct Re2<'a> {
    text: &'a str,
}

impl ast::Visitor for Re2<'_> {
    type Output = ();
    type Err = PatternError;

    fn finish(self) -> Result<(), PatternError> {
        Ok(())
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), PatternError> {
        match ast {
            Ast::Flags(flags) => check_flags(&flags.flags),
            Ast::Group(group) => match &group.kind {
                ast::GroupKind::NonCapturing(flags) => check_flags(flags),
                _ => Ok(()),
            },
            Ast::Assertion(assertion) => match assertion.kind {
                ast::AssertionKind::StartLine
                | ast::AssertionKind::EndLine
                | ast::AssertionKind::StartText
                | ast::AssertionKind::EndText
                | ast::AssertionKind::WordBoundary
                | ast::AssertionKind::NotWordBoundary => Ok(()),
                _ => Err(PatternError::NotRe2("a word boundary of its own kind")),
            },
            Ast::ClassUnicode(_) => {
                Err(PatternError::NotRe2("a Unicode class (classes are ASCII here)"))
            }
            Ast::Repetition(repetition) => self.check_repetition(&repetition.op),
            _ => Ok(()),
        }
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), PatternError> {
        match item {
            ClassSetItem::Bracketed(_) => Err(PatternError::NotRe2("a class within a class")),
            ClassSetItem::Unicode(_) => {
                Err(PatternError::NotRe2("a Unicode class (classes are ASCII here)"))
            }
            _ => Ok(()),
        }
    }

    fn visit_class_set_binary_op_pre(
        &mut self,
        _: &ast::ClassSetBinaryOp,
    ) -> Result<(), PatternError> {
        Err(PatternError::NotRe2("set operations in a class"))
    }
}

impl Re2<'_> {
    fn check_repetition(&self, operator: &ast::RepetitionOp) -> Result<(), PatternError> {
        let ast::RepetitionKind::Range(range) = &operator.kind else { return Ok(()) };
        let (ast::RepetitionRange::Exactly(most)
        | ast::RepetitionRange::AtLeast(most)
        | ast::RepetitionRange::Bounded(_, most)) = range;
        if *most > MAX_REPEAT {
            return Err(PatternError::NotRe2("a repetition of more than 1000"));
        }
        // To RE2 these braces are ordinary characters.
        let written = self.text.get(operator.span.start.offset..).unwrap_or_default();
        if !written.as_bytes().get(1).is_some_and(u8::is_ascii_digit) {
            return Err(PatternError::NotRe2("a repetition without a lower bound"));
        }
        Ok(())
    }
}

fn check_flags(flags: &ast::Flags) -> Result<(), PatternError> {
    for item in &flags.items {
        match item.kind {
            FlagsItemKind::Flag(Flag::IgnoreWhitespace | Flag::Unicode | Flag::CRLF) => {
                return Err(PatternError::NotRe2("one of the flags x, u, R"));
            }
            FlagsItemKind::Flag(_) | FlagsItemKind::Negation => {}
        }
    }
    Ok(())
}

// `ClassSet` is visited through its items; named here so that a new variant is looked at.
const _: fn(&ClassSet) = |set| match set {
    ClassSet::Item(_) | ClassSet::BinaryOp(_) => {}
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v7_the_whole_value_must_match() {
        let pattern = Pattern::parse("/a|/ab").unwrap();
        assert!(pattern.matches(b"/ab"));
        assert!(!pattern.matches(b"/abc"));
        assert!(!pattern.matches(b"x/a"));
    }

    #[test]
    fn v7_what_only_one_dialect_knows_is_unreadable() {
        for bad in [
            "(?x) a",
            "[a&&b]",
            "[a--b]",
            "[[a]b]",
            r"\p{L}",
            r"[\p{L}]",
            r"\b{start}",
            "(?=a)",
            r"(a)\1",
            "a{1001}",
            "a{0,1001}",
            "a{1001,}",
            "a{,2}",
            "a)(b",
            "[",
        ] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
        for good in
            ["a{1000}", "a{2,}", "a{0,3}b", r"[[:alpha:]]+", r"(?i)a\d{2}", "(?P<n>a)", r"\w+\b"]
        {
            assert!(Pattern::parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn pc_04_large_patterns_are_refused() {
        assert!(Pattern::parse(&"a".repeat(1025)).is_err());
        assert!(Pattern::parse("((a{99}){99}){99}").is_err());
    }

    #[test]
    fn v7_the_error_says_what_is_wrong() {
        let dialect = [r"\p{L}", r"[\p{L}]", "(?x:a b)", "(?u)a", r"\b{start}", "[a&&b]"];
        for text in dialect {
            let error = Pattern::parse(text).unwrap_err();
            assert!(matches!(error, PatternError::NotRe2(_)), "{text}: {error}");
        }
        let large = Pattern::parse("((a{99}){99}){99}").unwrap_err().to_string();
        assert!(large.ends_with("exceeds size limit of 1048576 bytes."), "{large}");
    }

    #[test]
    fn r3_a_pattern_is_as_long_as_it_was_written() {
        assert_eq!(Pattern::parse("/a[0-9]").unwrap().length(), 7);
        assert!(Pattern::parse(&"a".repeat(MAX_PATTERN_BYTES)).is_ok());
    }
}
