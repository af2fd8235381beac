//! The transaction's bytes as the kernel's headers describe them. That a kernel takes them and does what they say is shown in
//! network namespaces (`tests/process/test_redirect.py`).

use super::attributes::Attribute;
use super::netlink::batch;
use super::table::{chains, compare, transaction};
use super::{RedirectError, Redirection};

/// Length, kind, flags and sequence of each message.
fn headers(mut bytes: &[u8]) -> Vec<(usize, u16, u16, u32)> {
    let mut found = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_ne_bytes(*length)).unwrap();
        let two = |at: usize| u16::from_ne_bytes(rest[at..at + 2].try_into().unwrap());
        let sequence = u32::from_ne_bytes(rest[4..8].try_into().unwrap());
        found.push((length, two(0), two(2), sequence));
        bytes = &bytes[length.next_multiple_of(4)..];
    }
    found
}

#[test]
fn the_transaction_is_one_batch_that_replaces_what_was_there() {
    let found = headers(&batch(&transaction(Redirection::default())));
    let kinds: Vec<_> = found.iter().map(|(_, kind, _, _)| *kind).collect();
    let nft = |kind: u16| 10 << 8 | kind;
    // NEWTABLE, DELTABLE, NEWTABLE; a NEWCHAIN and its NEWRULEs, twice; framed by BATCH_BEGIN and BATCH_END.
    let ours = [0, 2, 0, 3, 6, 6, 6, 6, 6, 3, 6, 6].map(nft);
    assert_eq!(kinds, [&[16], &ours[..], &[17]].concat());
    let sequences: Vec<_> = found.iter().map(|(_, _, _, sequence)| *sequence).collect();
    assert_eq!(sequences, [(0..=12).collect::<Vec<_>>(), vec![0]].concat());
    // Each is acknowledged; CREATE, and APPEND for rules.
    assert_eq!(found[1].2, 0x405);
    assert_eq!(found[5].2, 0xc05);
    // Header, nfgenmsg, and the name `policyd` in twelve bytes.
    assert_eq!(found[2].0, 16 + 4 + 12);
}

#[test]
fn a_uid_and_a_port_are_written_as_the_kernel_compares_them() {
    let redirection =
        Redirection { uid: 0x0102_0304, inbound: 0x1213, outbound: 0x1415, iptables: false };
    let bytes = batch(&transaction(redirection));
    let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    // NFTA_DATA_VALUE: a uid in the machine's order, ports in the network's, padded.
    let value = |bytes: &[u8]| {
        let mut out = Vec::new();
        Attribute::bytes(1, bytes).write(&mut out);
        out
    };
    assert!(holds(&value(&0x0102_0304_u32.to_ne_bytes())));
    assert!(holds(&value(&[0x12, 0x13])) && holds(&value(&[0x14, 0x15])));
    assert!(holds(b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0") && holds(b"prerouting\0"));
}

fn listed(redirection: Redirection) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let written = |attributes: &[Attribute]| {
        let mut out = Vec::new();
        for attribute in attributes {
            attribute.write(&mut out);
        }
        out
    };
    let messages = transaction(redirection);
    let of = |kind: u16| {
        let of_kind = messages.iter().filter(|message| message.kind == kind);
        of_kind.map(|message| written(&message.attributes)).collect()
    };
    (of(3), of(6))
}

#[test]
fn every_difference_is_noticed() {
    let ours = Redirection::default();
    let expected = chains(ours);
    let (there, rules) = listed(ours);
    assert_eq!(compare(&expected, &there, &rules), Ok(()));
    for other in [
        Redirection { uid: 2103, ..ours },
        Redirection { inbound: 1, ..ours },
        Redirection { outbound: 1, ..ours },
    ] {
        let (there, rules) = listed(other);
        assert!(compare(&expected, &there, &rules).is_err(), "{other:?}");
    }
    for at in 0..rules.len() {
        let mut fewer = rules.clone();
        let taken = fewer.remove(at);
        assert!(compare(&expected, &there, &fewer).is_err(), "without rule {at}");
        fewer.insert(0, taken);
        assert_eq!(compare(&expected, &there, &fewer).is_err(), at != 0 && at != 5, "moved {at}");
    }
    assert!(compare(&expected, &there[..1], &rules).is_err());
    assert!(compare(&expected, &[&there[..], &there[..1]].concat(), &rules).is_err());
}

#[test]
fn root_and_missing_ports_are_no_redirection() {
    let ours = Redirection::default();
    for broken in [
        Redirection { uid: 0, ..ours },
        Redirection { inbound: 0, ..ours },
        Redirection { outbound: ours.inbound, ..ours },
    ] {
        assert!(matches!(broken.install(), Err(RedirectError::Usage(_))), "{broken:?}");
    }
}
