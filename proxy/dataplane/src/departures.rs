//! The ports that our own connections to others come from. What arrives from one of them, redirected to ourselves, is a loop:
//! the rule is missing that takes our user out of the redirection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const PORTS: usize = 1 << 16;
const WORD: usize = 64;

/// One bit for each port, of IPv4 and of IPv6.
#[derive(Debug)]
pub struct Departures([Box<[AtomicU64]>; 2]);

impl Default for Departures {
    fn default() -> Self {
        let none = || (0..PORTS / WORD).map(|_| AtomicU64::new(0)).collect();
        Self([none(), none()])
    }
}

/// A port that a connection of ours comes from, until dropped.
#[derive(Debug)]
pub struct Departure {
    from: SocketAddr,
    all: Arc<Departures>,
}

impl Departures {
    /// Notes it down. What is bound to a port of the kernel's choice has it to itself.
    pub fn note(self: &Arc<Self>, from: SocketAddr) -> Departure {
        if let Some((word, bit)) = self.place(from) {
            word.fetch_or(bit, Ordering::AcqRel);
        }
        Departure { from, all: Arc::clone(self) }
    }

    /// Whether a connection of ours comes from there.
    pub fn has(&self, from: SocketAddr) -> bool {
        self.place(from).is_some_and(|(word, bit)| word.load(Ordering::Acquire) & bit != 0)
    }

    fn place(&self, from: SocketAddr) -> Option<(&AtomicU64, u64)> {
        let Self([v4, v6]) = self;
        let ports = if from.ip().to_canonical().is_ipv4() { v4 } else { v6 };
        let port = usize::from(from.port());
        Some((ports.get(port / WORD)?, 1 << (port % WORD)))
    }
}

impl Drop for Departure {
    fn drop(&mut self) {
        if let Some((word, bit)) = self.all.place(self.from) {
            word.fetch_and(!bit, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_ours_while_something_comes_from_it_in_its_family() {
        let all = Arc::<Departures>::default();
        let from: SocketAddr = "0.0.0.0:65535".parse().unwrap();
        let departure = all.note(from);
        assert!(all.has("[::ffff:10.0.0.1]:65535".parse().unwrap()));
        assert!(
            !all.has("[fd00::1]:65535".parse().unwrap()) && !all.has("10.0.0.1:1".parse().unwrap())
        );
        drop(departure);
        assert!(!all.has(from));
    }
}
