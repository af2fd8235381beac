//! The table as it must be: two chains and their rules, in the kernel's words; written whole, and compared with what is there.

use std::io;

use super::attributes::{Attribute, all_in};
use super::netlink::{Message, NfTables, Refused};
#[allow(clippy::wildcard_imports, reason = "the kernel's numbers, under the kernel's names")]
use super::nf_tables::*;
use super::{RedirectError, Redirection};

/// Our table; `inet`: for IPv4 and IPv6.
pub const TABLE: &str = "policyd";
/// For what the pod sends.
const OUTPUT: &str = "output";
/// For what is sent to the pod.
const PREROUTING: &str = "prerouting";
const LOOPBACK_DEVICE: &str = "lo";
const IPPROTO_TCP: u8 = 6;
/// `errno`s that mean: this kernel can't, not: you may not. ENOENT (no such chain type or expression), ENODEV, EPROTONOSUPPORT
/// (no netlink for netfilter), EOPNOTSUPP (no `nf_tables`), EAFNOSUPPORT (no table for both families).
const KERNEL_CANNOT: [i32; 5] = [2, 19, 93, 95, 97];

type Rule = Vec<Vec<Attribute>>;

/// A chain: its hook, and its rules in order.
pub(super) struct Chain {
    name: &'static str,
    hook: u32,
    rules: Vec<Rule>,
}

/// What the table holds. First come the ways around the proxy, each as narrow as it can be; then all else on TCP goes to it.
pub(super) fn chains(redirection: Redirection) -> [Chain; 2] {
    let output = vec![
        // Compared in the machine's order, as the register has it.
        skipping(vec![meta(NFT_META_SKUID), equals(redirection.uid.to_ne_bytes())]),
        skipping(vec![meta(NFT_META_OIFNAME), equals(device())]),
        // 127.0.0.0/8 is its first byte. Offsets: `struct iphdr`, `struct ipv6hdr`.
        skipping([family(NFPROTO_IPV4), vec![network_header(16, 1), equals([127])]].concat()),
        skipping(
            [family(NFPROTO_IPV6), vec![network_header(24, 16), equals(ipv6_loopback())]].concat(),
        ),
        redirecting(redirection.outbound),
    ];
    let prerouting = vec![
        skipping(vec![meta(NFT_META_IIFNAME), equals(device())]),
        redirecting(redirection.inbound),
    ];
    [
        Chain { name: OUTPUT, hook: NF_INET_LOCAL_OUT, rules: output },
        Chain { name: PREROUTING, hook: NF_INET_PRE_ROUTING, rules: prerouting },
    ]
}

fn skipping(mut matches: Rule) -> Rule {
    let verdict = Attribute::set(
        NFTA_DATA_VERDICT,
        [Attribute::bytes(NFTA_VERDICT_CODE, NFT_RETURN.to_be_bytes())],
    );
    matches.push(immediate(NFT_REG_VERDICT, verdict));
    matches
}

fn redirecting(port: u16) -> Rule {
    vec![
        meta(NFT_META_L4PROTO),
        equals([IPPROTO_TCP]),
        immediate(NFT_REG_1, Attribute::bytes(NFTA_DATA_VALUE, port.to_be_bytes())),
        expression(
            "redir",
            vec![
                Attribute::number(NFTA_REDIR_REG_PROTO_MIN, NFT_REG_1),
                Attribute::number(NFTA_REDIR_FLAGS, NF_NAT_RANGE_PROTO_SPECIFIED),
            ],
        ),
    ]
}

fn family(number: u8) -> Rule {
    vec![meta(NFT_META_NFPROTO), equals([number])]
}

fn expression(name: &str, data: Vec<Attribute>) -> Vec<Attribute> {
    vec![Attribute::name(NFTA_EXPR_NAME, name), Attribute::set(NFTA_EXPR_DATA, data)]
}

fn meta(key: u32) -> Vec<Attribute> {
    let to = Attribute::number(NFTA_META_DREG, NFT_REG_1);
    expression("meta", vec![to, Attribute::number(NFTA_META_KEY, key)])
}

fn network_header(offset: u32, length: u32) -> Vec<Attribute> {
    expression(
        "payload",
        vec![
            Attribute::number(NFTA_PAYLOAD_DREG, NFT_REG_1),
            Attribute::number(NFTA_PAYLOAD_BASE, NFT_PAYLOAD_NETWORK_HEADER),
            Attribute::number(NFTA_PAYLOAD_OFFSET, offset),
            Attribute::number(NFTA_PAYLOAD_LEN, length),
        ],
    )
}

fn equals(value: impl Into<Vec<u8>>) -> Vec<Attribute> {
    expression(
        "cmp",
        vec![
            Attribute::number(NFTA_CMP_SREG, NFT_REG_1),
            Attribute::number(NFTA_CMP_OP, NFT_CMP_EQ),
            Attribute::set(NFTA_CMP_DATA, [Attribute::bytes(NFTA_DATA_VALUE, value)]),
        ],
    )
}

fn immediate(register: u32, data: Attribute) -> Vec<Attribute> {
    expression(
        "immediate",
        vec![
            Attribute::number(NFTA_IMMEDIATE_DREG, register),
            Attribute::set(NFTA_IMMEDIATE_DATA, [data]),
        ],
    )
}

fn device() -> Vec<u8> {
    let mut name = LOOPBACK_DEVICE.as_bytes().to_vec();
    name.resize(IFNAMSIZ, 0);
    name
}

fn ipv6_loopback() -> [u8; 16] {
    std::net::Ipv6Addr::LOCALHOST.octets()
}

fn in_table() -> Attribute {
    Attribute::name(NFTA_CHAIN_TABLE, TABLE)
}

/// What says that the table is whole: its name, and that it is awake.
fn table() -> Vec<Attribute> {
    vec![Attribute::name(NFTA_TABLE_NAME, TABLE), Attribute::number(NFTA_TABLE_FLAGS, 0)]
}

impl Chain {
    fn attributes(&self) -> Vec<Attribute> {
        let priority = Attribute::bytes(NFTA_HOOK_PRIORITY, NF_IP_PRI_NAT_DST.to_be_bytes());
        vec![
            in_table(),
            Attribute::name(NFTA_CHAIN_NAME, self.name),
            Attribute::set(
                NFTA_CHAIN_HOOK,
                [Attribute::number(NFTA_HOOK_HOOKNUM, self.hook), priority],
            ),
            Attribute::number(NFTA_CHAIN_POLICY, NF_ACCEPT),
            Attribute::name(NFTA_CHAIN_TYPE, "nat"),
        ]
    }

    fn rule(&self, rule: &Rule) -> Vec<Attribute> {
        vec![
            Attribute::name(NFTA_RULE_TABLE, TABLE),
            Attribute::name(NFTA_RULE_CHAIN, self.name),
            Attribute::list(NFTA_RULE_EXPRESSIONS, NFTA_LIST_ELEM, rule.clone()),
        ]
    }
}

/// The transaction: what may be there of ours goes, all of ours comes.
pub(super) fn transaction(redirection: Redirection) -> Vec<Message> {
    let message = |what, kind, flags, attributes| Message { what, kind, flags, attributes };
    let mut messages = removal();
    messages.push(message("creating the table", NFT_MSG_NEWTABLE, NLM_F_CREATE, table()));
    for chain in chains(redirection) {
        let attributes = chain.attributes();
        messages.push(message("creating a chain", NFT_MSG_NEWCHAIN, NLM_F_CREATE, attributes));
        for rule in &chain.rules {
            let flags = NLM_F_CREATE | NLM_F_APPEND;
            messages.push(message("adding a rule", NFT_MSG_NEWRULE, flags, chain.rule(rule)));
        }
    }
    messages
}

/// Created first, so that there is something to delete.
fn removal() -> Vec<Message> {
    let message = |what, kind, flags| Message { what, kind, flags, attributes: table() };
    let name = vec![Attribute::name(NFTA_TABLE_NAME, TABLE)];
    vec![
        message("creating the table", NFT_MSG_NEWTABLE, NLM_F_CREATE),
        Message { attributes: name, ..message("deleting the table", NFT_MSG_DELTABLE, 0) },
    ]
}

/// Writes the table, and reads it back: the kernel's word is good, what it lists is better.
pub(super) fn install(redirection: Redirection) -> Result<(), RedirectError> {
    open()?.commit(&transaction(redirection)).map_err(error)?;
    check(redirection)
}

/// Deletes it, where it is there.
pub(super) fn remove() -> Result<(), RedirectError> {
    open()?.commit(&removal()).map_err(error)
}

/// Whether the table is there just as [`install`] writes it.
pub(super) fn check(redirection: Redirection) -> Result<(), RedirectError> {
    let nf_tables = open()?;
    let list = |what, kind, attributes| {
        nf_tables.list(&Message { what, kind, flags: 0, attributes }).map_err(error)
    };
    let of_ours = |found: Vec<Vec<u8>>| -> Vec<Vec<u8>> {
        // The table's name has the same number in a chain and in a rule.
        found.into_iter().filter(|each| all_in(&[in_table()], each)).collect()
    };
    let there = of_ours(list("listing the chains", NFT_MSG_GETCHAIN, Vec::new())?);
    if there.is_empty() {
        return Err(RedirectError::NotInPlace(format!("there is no table `{TABLE}`")));
    }
    let expected = chains(redirection);
    let rules = of_ours(list("listing the rules", NFT_MSG_GETRULE, vec![in_table()])?);
    compare(&expected, &there, &rules).map_err(RedirectError::NotInPlace)
}

pub(super) fn compare(
    expected: &[Chain],
    chains: &[Vec<u8>],
    rules: &[Vec<u8>],
) -> Result<(), String> {
    for chain in expected {
        if !chains.iter().any(|found| all_in(&chain.attributes(), found)) {
            return Err(format!("the chain `{}` is missing, or is another", chain.name));
        }
        let own = Attribute::name(NFTA_RULE_CHAIN, chain.name);
        let of_chain = |found: &&Vec<u8>| all_in(std::slice::from_ref(&own), found);
        let found: Vec<_> = rules.iter().filter(of_chain).collect();
        let same = |(rule, found): (&Rule, &&Vec<u8>)| all_in(&chain.rule(rule), found);
        if found.len() != chain.rules.len() || !chain.rules.iter().zip(&found).all(same) {
            let (name, found) = (chain.name, found.len());
            let there = chain.rules.len();
            return Err(format!(
                "the rules of `{name}` are others ({found} found, {there} written)"
            ));
        }
    }
    match chains.len() {
        count if count == expected.len() => Ok(()),
        count => Err(format!("the table has {count} chains, ours has {}", expected.len())),
    }
}

fn open() -> Result<NfTables, RedirectError> {
    let what = "opening a netlink socket";
    NfTables::open().map_err(|problem| error(Refused { what, problem }))
}

fn error(Refused { what, problem }: Refused) -> RedirectError {
    let what = what.to_owned();
    match problem.raw_os_error() {
        _ if problem.kind() == io::ErrorKind::PermissionDenied => {
            RedirectError::NotPermitted { what }
        }
        Some(code) if KERNEL_CANNOT.contains(&code) => {
            let nf_tables = format!("{what}: {problem}");
            RedirectError::NoWay { nf_tables, iptables: "not tried".to_owned() }
        }
        _ => RedirectError::Kernel { what, problem },
    }
}
