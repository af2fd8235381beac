//! Many short strings side by side in one piece of memory, found by number; and names, kept as the parts they share.
//!
//! A table is mostly text: what its rules are called, where they were written, which paths they are about. A string of its
//! own costs forty bytes more than what is in it, so none has one.

use std::hash::BuildHasher;

use hashbrown::HashTable;

use crate::table::TableError;

type Hasher = foldhash::fast::RandomState;

/// Strings by number.
#[derive(Debug, Default)]
pub(crate) struct Strings {
    bytes: String,
    ends: Vec<u32>,
}

impl Strings {
    pub(crate) fn push(&mut self, text: &str) -> Result<u32, TableError> {
        let number = index(self.ends.len())?;
        self.bytes.push_str(text);
        self.ends.push(index(self.bytes.len())?);
        Ok(number)
    }

    pub(crate) fn get(&self, number: u32) -> &str {
        let number = number as usize;
        let start = number.checked_sub(1).and_then(|before| self.ends.get(before)).copied();
        let end = self.ends.get(number).copied().unwrap_or(0);
        self.bytes.get(start.unwrap_or(0) as usize..end as usize).unwrap_or_default()
    }

    pub(crate) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
    }
}

/// As an index of 32 bits. FAIL-CLOSED: what can't be pointed to makes no table.
pub(crate) fn index(position: usize) -> Result<u32, TableError> {
    u32::try_from(position).ok().filter(|index| index & HIGH == 0).ok_or(TableError::TooLarge)
}

/// Left free in every index, for those who need to tell two kinds apart.
pub(crate) const HIGH: u32 = 1 << 31;

/// A name in [`Names`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name(u32);

/// Names like `kind.group/namespace/name` and `group/kind/namespace/name:field`. Those of ten thousand objects differ in a
/// part or two: each part is kept once, a name is a list of parts. Read only to tell somebody.
#[derive(Debug, Default)]
pub(crate) struct Names {
    parts: Strings,
    /// One after the other: how many parts, then their numbers, seven bits to the byte.
    lists: Vec<u8>,
}

impl Names {
    pub(crate) fn get(&self, name: Name) -> String {
        let mut list = self.lists.get(name.0 as usize..).unwrap_or_default();
        let count = read_number(&mut list);
        (0..count).map(|_| self.parts.get(read_number(&mut list))).collect()
    }
}

/// Makes [`Names`].
#[derive(Debug, Default)]
pub(crate) struct NamesBuilder {
    names: Names,
    known_parts: HashTable<u32>,
    known: HashTable<u32>,
    hasher: Hasher,
    list: Vec<u8>,
}

impl NamesBuilder {
    pub(crate) fn add(&mut self, text: &str) -> Result<Name, TableError> {
        let mut list = std::mem::take(&mut self.list);
        list.clear();
        write_number(&mut list, index(parts(text).count())?);
        for part in parts(text) {
            write_number(&mut list, self.part(part)?);
        }
        let name = self.listed(&list);
        self.list = list;
        name
    }

    pub(crate) fn finish(self) -> Names {
        let mut names = self.names;
        names.parts.shrink();
        names.lists.shrink_to_fit();
        names
    }

    fn part(&mut self, part: &str) -> Result<u32, TableError> {
        let Self { names: Names { parts, .. }, known_parts, hasher, .. } = self;
        let hash = hasher.hash_one(part);
        if let Some(known) = known_parts.find(hash, |known| parts.get(*known) == part) {
            return Ok(*known);
        }
        let new = parts.push(part)?;
        known_parts.insert_unique(hash, new, |known| hasher.hash_one(parts.get(*known)));
        Ok(new)
    }

    fn listed(&mut self, list: &[u8]) -> Result<Name, TableError> {
        let Self { names: Names { lists, .. }, known, hasher, .. } = self;
        let hash = hasher.hash_one(list);
        let is_same =
            |start: &u32| lists.get(*start as usize..).is_some_and(|at| at.starts_with(list));
        if let Some(start) = known.find(hash, is_same) {
            return Ok(Name(*start));
        }
        let start = index(lists.len())?;
        lists.extend_from_slice(list);
        known.insert_unique(hash, start, |start| hasher.hash_one(list_at(lists, *start)));
        Ok(Name(start))
    }
}

/// The bytes of the list that begins there.
fn list_at(lists: &[u8], start: u32) -> &[u8] {
    let from = lists.get(start as usize..).unwrap_or_default();
    let mut rest = from;
    for _ in 0..read_number(&mut rest) {
        read_number(&mut rest);
    }
    from.get(..from.len() - rest.len()).unwrap_or_default()
}

/// `a.b`, `/c`, `/d`, `:e`: a part begins where a `/` or a `:` is.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let inside = rest.as_bytes().get(1..).unwrap_or_default();
        let end = memchr::memchr2(b'/', b':', inside).map_or(rest.len(), |at| at + 1);
        let (part, after) = rest.split_at(end);
        rest = after;
        Some(part)
    })
}

fn write_number(list: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        list.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    list.push(number.to_le_bytes()[0]);
}

fn read_number(list: &mut &[u8]) -> u32 {
    let mut number = 0;
    let mut shift = 0;
    while let Some((byte, rest)) = list.split_first() {
        *list = rest;
        number |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 || shift > 21 {
            break;
        }
        shift += 7;
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_out_as_it_went_in_and_is_kept_once() {
        let long = "/".repeat(300);
        let texts = [
            "",
            "a",
            "/",
            "::",
            "policyd.dev/AuthorizationPolicy/ns/one:spec.rules[0]",
            "policyd.dev/AuthorizationPolicy/ns/two:spec.rules[0]",
            "authorizationpolicy.policyd.dev/ns/one",
            "é/ü:ö",
            &long,
        ];
        let mut builder = NamesBuilder::default();
        let many: Vec<String> = (0..20_000).map(|number| format!("k/ns/n{number}")).collect();
        let all: Vec<&str> = texts.into_iter().chain(many.iter().map(String::as_str)).collect();
        let first: Vec<_> = all.iter().map(|text| builder.add(text).unwrap()).collect();
        let again: Vec<_> = all.iter().map(|text| builder.add(text).unwrap()).collect();
        assert_eq!(first, again);
        let names = builder.finish();
        for (text, name) in all.iter().zip(first) {
            assert_eq!(names.get(name), **text);
        }
        // `k`, `/ns` and twenty thousand others, of six bytes each, and as many lists of six.
        assert!(names.lists.len() < 130_000 && names.parts.bytes.len() < 150_000);
    }

    #[test]
    fn strings_are_found_by_number() {
        let mut strings = Strings::default();
        for text in ["a", "", "bc"] {
            strings.push(text).unwrap();
        }
        strings.shrink();
        assert_eq!((0..4).map(|at| strings.get(at)).collect::<Vec<_>>(), ["a", "", "bc", ""]);
        assert_eq!(index(1 << 31), Err(TableError::TooLarge));
    }
}
