//! A netlink socket to `nf_tables`: a batch that is taken whole or not at all, and lists of what is there.

use std::io::{self, ErrorKind, Read as _};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::attributes::Attribute;
#[allow(clippy::wildcard_imports, reason = "the kernel's numbers, under the kernel's names")]
use super::nf_tables::*;

/// `struct nlmsghdr`: length, kind, flags, sequence, port.
const HEADER: usize = 16;
/// `struct nfgenmsg`: family, version, resource.
const GENERIC: usize = 4;
const ALIGNMENT: usize = 4;
/// How long the kernel may take for an answer; it has it when the call returns.
const ANSWER: Duration = Duration::from_secs(5);
/// More than a kernel puts into one answer of ours (it aims at a page or two).
const ANSWER_BYTES: usize = 64 * 1024;
/// Messages of one list; our table has seven rules.
const MOST_LISTED: usize = 1_024;

/// One message to `nf_tables`.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// What it is, in words.
    pub(super) what: &'static str,
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) attributes: Vec<Attribute>,
}

/// What the kernel refused, and how.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) what: &'static str,
    pub(super) problem: io::Error,
}

/// A message of the kernel: its kind, the number of the question, and what follows the header.
struct Answer<'a> {
    kind: u16,
    sequence: u32,
    body: &'a [u8],
}

/// A socket to `nf_tables` of our network namespace.
#[derive(Debug)]
pub(super) struct NfTables(Socket);

impl NfTables {
    pub(super) fn open() -> io::Result<Self> {
        let netfilter = Some(Protocol::from(NETLINK_NETFILTER));
        let socket = Socket::new(Domain::from(AF_NETLINK), Type::RAW.cloexec(), netfilter)?;
        socket.set_read_timeout(Some(ANSWER))?;
        Ok(Self(socket))
    }

    /// All messages as one transaction.
    pub(super) fn commit(&self, messages: &[Message]) -> Result<(), Refused> {
        let refused = |problem| Refused { what: "the transaction", problem };
        let bytes = batch(messages);
        // What was never connected goes to the kernel (netlink(7)).
        let sent = self.0.send(&bytes).map_err(refused)?;
        if sent != bytes.len() {
            return Err(refused(io::Error::other("the kernel took only a part of it")));
        }
        let mut first: Option<Refused> = None;
        let mut open = messages.len();
        // The kernel acknowledges or refuses each; the first refusal is the cause of the others. Where the batch as such is
        // refused, that is all it says.
        while open > 0 {
            let received = self.receive().map_err(refused)?;
            for answer in answers(&received) {
                let at = usize::try_from(answer.sequence).unwrap_or_default().checked_sub(1);
                let what = at.and_then(|at| messages.get(at)).map(|message| message.what);
                match (answer.kind, error_of(answer.body)) {
                    (NLMSG_ERROR, None) => open = open.saturating_sub(1),
                    (NLMSG_ERROR, Some(problem)) => {
                        open = open.saturating_sub(1);
                        let whole = what.is_none();
                        let refused = Refused { what: what.unwrap_or("the transaction"), problem };
                        if whole {
                            return Err(refused);
                        }
                        first.get_or_insert(refused);
                    }
                    _ => {}
                }
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// All objects of a kind: the attributes of each, in the kernel's order.
    pub(super) fn list(&self, question: &Message) -> Result<Vec<Vec<u8>>, Refused> {
        let refused = |problem| Refused { what: question.what, problem };
        let flags = NLM_F_REQUEST | NLM_F_DUMP;
        let mut bytes = Vec::new();
        write(&mut bytes, (nft(question.kind), flags), 1, (NFPROTO_INET, 0), &question.attributes);
        self.0.send(&bytes).map_err(refused)?;
        let mut listed = Vec::new();
        loop {
            let received = self.receive().map_err(refused)?;
            for answer in answers(&received) {
                match answer.kind {
                    NLMSG_DONE => return Ok(listed),
                    NLMSG_ERROR => {
                        return match error_of(answer.body) {
                            Some(problem) => Err(refused(problem)),
                            None => Ok(listed),
                        };
                    }
                    _ if listed.len() < MOST_LISTED => {
                        listed.push(answer.body.get(GENERIC..).unwrap_or_default().to_vec());
                    }
                    _ => return Err(refused(io::Error::other("more than could be ours"))),
                }
            }
        }
    }

    /// One answer of the kernel; nobody else without its capabilities can write to this socket.
    fn receive(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; ANSWER_BYTES];
        let count = match (&self.0).read(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(io::Error::new(ErrorKind::TimedOut, "the kernel doesn't answer"));
            }
            received => received?,
        };
        bytes.truncate(count);
        Ok(bytes)
    }
}

fn nft(kind: u16) -> u16 {
    NFNL_SUBSYS_NFTABLES << 8 | kind
}

/// The bytes of a transaction: message n has the sequence n + 1, what frames it 0.
pub(super) fn batch(messages: &[Message]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let frame = |bytes: &mut Vec<u8>, kind| {
        write(bytes, (kind, NLM_F_REQUEST), 0, (NFPROTO_UNSPEC, NFNL_SUBSYS_NFTABLES), &[]);
    };
    frame(&mut bytes, NFNL_MSG_BATCH_BEGIN);
    for (sequence, message) in (1..).zip(messages) {
        let flags = NLM_F_REQUEST | NLM_F_ACK | message.flags;
        let kind = (nft(message.kind), flags);
        write(&mut bytes, kind, sequence, (NFPROTO_INET, 0), &message.attributes);
    }
    frame(&mut bytes, NFNL_MSG_BATCH_END);
    bytes
}

fn write(
    out: &mut Vec<u8>,
    (kind, flags): (u16, u16),
    sequence: u32,
    (family, resource): (u8, u16),
    attributes: &[Attribute],
) {
    let mut body = vec![family, NFNETLINK_V0];
    body.extend(resource.to_be_bytes());
    for attribute in attributes {
        attribute.write(&mut body);
    }
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    out.extend(length.to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(flags.to_ne_bytes());
    out.extend(sequence.to_ne_bytes());
    // The kernel knows whose socket it is.
    out.extend(0_u32.to_ne_bytes());
    out.extend(body);
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
}

/// The messages in what was received; what is cut off is left out.
fn answers(mut bytes: &[u8]) -> Vec<Answer<'_>> {
    let mut found = Vec::new();
    while let Some((answer, rest)) = answer(bytes) {
        found.push(answer);
        bytes = rest;
    }
    found
}

fn answer(bytes: &[u8]) -> Option<(Answer<'_>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (kind, rest) = rest.split_first_chunk()?;
    let (_flags, rest) = rest.split_first_chunk::<2>()?;
    let (sequence, _) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_ne_bytes(*length)).ok()?;
    let body = bytes.get(HEADER..length)?;
    let (kind, sequence) = (u16::from_ne_bytes(*kind), u32::from_ne_bytes(*sequence));
    let rest = bytes.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
    Some((Answer { kind, sequence, body }, rest))
}

/// Of a `struct nlmsgerr`; none: it is an acknowledgement.
fn error_of(body: &[u8]) -> Option<io::Error> {
    let Some((code, _)) = body.split_first_chunk() else {
        return Some(ErrorKind::InvalidData.into());
    };
    match i32::from_ne_bytes(*code) {
        0 => None,
        code => Some(io::Error::from_raw_os_error(code.saturating_neg())),
    }
}
