//! How much memory traffic takes, and what is given up when it is too much.
//!
//! Tables are bounded by the snapshot's limits and have room of their own. All else (connections, heads, bodies, handshakes)
//! shares one cap: near it new connections are refused and idle ones end, at it requests are refused too, so that the
//! kernel never has to end the proxy, and with it all connections. Source: `security.md` §4.4.

use std::alloc::System;
use std::sync::atomic::{AtomicUsize, Ordering};

use cap::Cap;

use crate::limits;

/// Counts what is allocated. What is freed is counted as free at once, unlike in the resident set of the process.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// How near the cap is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Far.
    None,
    /// From 85 % on: no new connections, and HTTP connections end between two requests.
    Shed,
    /// From 95 % on: no new requests either.
    Refuse,
}

/// The cap.
#[derive(Debug)]
pub struct Memory {
    traffic: usize,
    most: AtomicUsize,
}

impl Memory {
    /// `traffic` bytes beside the tables.
    pub const fn new(traffic: usize) -> Self {
        Self { traffic, most: AtomicUsize::new(traffic) }
    }

    /// Makes room for tables that were read from so many bytes in all: the one in force and the one that replaces it.
    pub fn make_room(&self, snapshot_bytes: usize) {
        let tables = snapshot_bytes.saturating_mul(limits::TABLE_BYTES_PER_SNAPSHOT_BYTE);
        self.most.store(self.traffic.saturating_add(tables), Ordering::Relaxed);
    }

    /// As of now.
    pub fn pressure(&self) -> Pressure {
        pressure(allocated(), self.most.load(Ordering::Relaxed))
    }
}

/// Bytes that are allocated now.
pub fn allocated() -> usize {
    ALLOCATOR.allocated()
}

fn pressure(taken: usize, most: usize) -> Pressure {
    let percent = |share: usize| most / 100 * share;
    if taken >= percent(95) {
        Pressure::Refuse
    } else if taken >= percent(85) {
        Pressure::Shed
    } else {
        Pressure::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_begins_at_85_and_ends_at_95_percent() {
        let at = |taken| pressure(taken, 10_000);
        assert_eq!(at(8_499), Pressure::None);
        assert_eq!(at(8_500), Pressure::Shed);
        assert_eq!(at(9_499), Pressure::Shed);
        assert_eq!(at(9_500), Pressure::Refuse);
        assert_eq!(pressure(usize::MAX, usize::MAX), Pressure::Refuse);
    }

    #[test]
    fn what_is_allocated_is_counted_until_it_is_freed() {
        const MANY: usize = 64 * 1024 * 1024;
        let bytes = vec![1_u8; MANY];
        let with = allocated();
        drop(bytes);
        // Other tests allocate meanwhile, but not as much.
        assert!(with >= MANY && allocated() < with - MANY / 2);
    }

    #[test]
    fn tables_have_room_of_their_own() {
        let memory = Memory::new(1);
        assert_eq!(memory.pressure(), Pressure::Refuse);
        memory.make_room(1024 * 1024 * 1024);
        assert_eq!(memory.pressure(), Pressure::None);
    }
}
