//! Where a peer comes from, and the sets of networks that rules name.

use std::net::IpAddr;

use hashbrown::HashMap;
use ipnet::IpNet;

/// An address as policies see it: IPv4-mapped IPv6 counts as IPv4 (semantics W5).
pub fn canonical_address(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Networks with their exceptions. No block matches no address (INV-4).
///
/// Looked up by prefix length, so that ten thousand blocks cost as many hash lookups as they have distinct lengths.
#[derive(Debug, Clone, Default)]
pub struct NetworkSet {
    blocks: HashMap<IpNet, Vec<Box<[IpNet]>>, foldhash::fast::RandomState>,
    lengths_v4: Vec<u8>,
    lengths_v6: Vec<u8>,
}

impl NetworkSet {
    /// Builds the set from blocks `(network, exceptions)`.
    pub fn new(blocks: impl IntoIterator<Item = (IpNet, Vec<IpNet>)>) -> Self {
        let mut set = Self::default();
        for (network, except) in blocks {
            let lengths = match network {
                IpNet::V4(_) => &mut set.lengths_v4,
                IpNet::V6(_) => &mut set.lengths_v6,
            };
            if !lengths.contains(&network.prefix_len()) {
                lengths.push(network.prefix_len());
            }
            set.blocks.entry(network.trunc()).or_default().push(except.into_boxed_slice());
        }
        set
    }

    /// Whether some block holds the address and none of that block's exceptions does.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = canonical_address(address);
        let lengths = if address.is_ipv4() { &self.lengths_v4 } else { &self.lengths_v6 };
        lengths.iter().any(|&length| {
            IpNet::new(address, length)
                .ok()
                .and_then(|network| self.blocks.get(&network.trunc()))
                .is_some_and(|excepts| {
                    excepts.iter().any(|except| !except.iter().any(|hole| hole.contains(&address)))
                })
        })
    }

    /// Whether no block is there.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(blocks: &[(&str, &[&str])]) -> NetworkSet {
        NetworkSet::new(blocks.iter().map(|(network, except)| {
            (network.parse().unwrap(), except.iter().map(|hole| hole.parse().unwrap()).collect())
        }))
    }

    #[test]
    fn an_exception_holds_for_its_own_block_only() {
        let networks = set(&[("10.0.0.0/8", &["10.1.0.0/16"]), ("10.1.2.0/24", &[])]);
        assert!(networks.contains("10.0.0.1".parse().unwrap()));
        assert!(!networks.contains("10.1.0.1".parse().unwrap()));
        assert!(networks.contains("10.1.2.1".parse().unwrap()));
        assert!(!networks.contains("11.0.0.1".parse().unwrap()));
    }

    #[test]
    fn w5_a_mapped_address_is_its_ipv4_address() {
        assert!(set(&[("10.0.0.0/8", &[])]).contains("::ffff:10.2.3.4".parse().unwrap()));
        assert!(!set(&[("::/0", &[])]).contains("::ffff:10.2.3.4".parse().unwrap()));
    }

    #[test]
    fn i7_no_block_is_no_network() {
        assert!(set(&[]).is_empty() && !set(&[]).contains("10.0.0.1".parse().unwrap()));
        assert!(!set(&[("10.0.0.0/8", &[])]).is_empty());
    }
}
