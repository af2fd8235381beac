//! Netlink attributes: written in order, and compared with what a kernel says is there.
//!
//! Layout: `include/uapi/linux/netlink.h` (`struct nlattr`: length with the header, type, both in the machine's order; each
//! attribute begins at a multiple of four).

const ALIGNMENT: usize = 4;
const HEADER: usize = 4;
/// Of `nla_type`: the flags `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER` aside.
const KIND_MASK: u16 = 0x3fff;

/// One attribute: its number, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attribute {
    kind: u16,
    value: Value,
}

/// What an attribute holds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Bytes(Vec<u8>),
    /// Attributes, each kind once.
    Set(Vec<Attribute>),
    /// Elements in an order that counts: sets, each in an attribute of the same kind.
    List(u16, Vec<Vec<Attribute>>),
}

impl Attribute {
    /// Bytes as they are.
    pub(super) fn bytes(kind: u16, bytes: impl Into<Vec<u8>>) -> Self {
        Self { kind, value: Value::Bytes(bytes.into()) }
    }

    /// A number in network order, as `nf_tables` has all of its own.
    pub(super) fn number(kind: u16, number: u32) -> Self {
        Self::bytes(kind, number.to_be_bytes())
    }

    /// A name, ended by a zero byte.
    pub(super) fn name(kind: u16, name: &str) -> Self {
        let mut bytes = name.as_bytes().to_vec();
        bytes.push(0);
        Self::bytes(kind, bytes)
    }

    /// Attributes inside an attribute.
    pub(super) fn set(kind: u16, attributes: impl Into<Vec<Self>>) -> Self {
        Self { kind, value: Value::Set(attributes.into()) }
    }

    /// Sets in order, each in an attribute of kind `element`.
    pub(super) fn list(kind: u16, element: u16, sets: Vec<Vec<Self>>) -> Self {
        Self { kind, value: Value::List(element, sets) }
    }

    /// Appends it.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let payload = match &self.value {
            Value::Bytes(bytes) => bytes.clone(),
            Value::Set(attributes) => written(attributes),
            Value::List(element, sets) => {
                let mut payload = Vec::new();
                for set in sets {
                    frame(*element, &written(set), &mut payload);
                }
                payload
            }
        };
        frame(self.kind, &payload, out);
    }

    /// Whether `found`, the payload of an attribute of this kind, says the same. What a kernel adds to a set of its own
    /// accord (handles, counters) is passed over; a list has no more and no fewer elements.
    fn is(&self, found: &[u8]) -> bool {
        match &self.value {
            Value::Bytes(bytes) => bytes == found,
            Value::Set(attributes) => all_in(attributes, found),
            Value::List(element, sets) => {
                let Some(read) = read(found) else { return false };
                read.len() == sets.len()
                    && sets
                        .iter()
                        .zip(read)
                        .all(|(set, (kind, payload))| kind == *element && all_in(set, payload))
            }
        }
    }
}

fn written(attributes: &[Attribute]) -> Vec<u8> {
    let mut out = Vec::new();
    for attribute in attributes {
        attribute.write(&mut out);
    }
    out
}

fn frame(kind: u16, payload: &[u8], out: &mut Vec<u8>) {
    // Ours are a few hundred bytes; a longer one would be refused by the kernel, not cut.
    let length = u16::try_from(HEADER + payload.len()).unwrap_or(u16::MAX);
    out.extend(length.to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(payload);
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
}

/// Whether every one of `expected` is in `found`, the bytes of a set, with the same value.
pub(super) fn all_in(expected: &[Attribute], found: &[u8]) -> bool {
    let Some(read) = read(found) else { return false };
    expected.iter().all(|attribute| {
        read.iter().any(|(kind, payload)| *kind == attribute.kind && attribute.is(payload))
    })
}

/// The attributes in `bytes`, in their order; none where they aren't attributes to the end.
fn read(mut bytes: &[u8]) -> Option<Vec<(u16, &[u8])>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk()?;
        let (kind, _) = rest.split_first_chunk()?;
        let length = usize::from(u16::from_ne_bytes(*length));
        found.push((u16::from_ne_bytes(*kind) & KIND_MASK, bytes.get(HEADER..length)?));
        bytes = bytes.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Attribute> {
        vec![
            Attribute::name(1, "abc"),
            Attribute::list(2, 1, vec![vec![Attribute::number(7, 9)], vec![]]),
            Attribute::set(3, [Attribute::bytes(1, [6])]),
        ]
    }

    #[test]
    fn what_was_written_is_found_again_and_every_cut_is_noticed() {
        let bytes = written(&sample());
        assert!(bytes.len().is_multiple_of(ALIGNMENT) && all_in(&sample(), &bytes));
        for length in 0..bytes.len() - ALIGNMENT {
            assert!(!all_in(&sample(), bytes.get(..length).unwrap()), "{length}");
        }
    }

    #[test]
    fn a_kernels_additions_are_passed_over_and_other_elements_are_not() {
        let mut more = written(&sample());
        Attribute::number(99, 1).write(&mut more);
        assert!(all_in(&sample(), &more));
        let other = [Attribute::list(2, 1, vec![vec![Attribute::number(7, 8)], vec![]])];
        assert!(!all_in(&other, &more));
        let longer = [Attribute::list(2, 1, vec![vec![Attribute::number(7, 9)]])];
        assert!(!all_in(&longer, &more));
    }
}
