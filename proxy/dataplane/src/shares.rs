//! How many requests of one peer a worker works on: however many it sends, some places are left for others.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};

/// Requests in flight of one peer, whatever its connections.
pub type Share = Rc<Cell<usize>>;

/// The shares of all peers that are connected: by identity, or by address where they proved none.
#[derive(Debug, Default)]
pub struct Shares(RefCell<HashMap<Box<str>, Weak<Cell<usize>>>>);

/// How many peers are remembered before those that left are forgotten.
const SWEEP: usize = 64;

impl Shares {
    /// The share of `peer`, the same for all its connections.
    pub fn of(&self, peer: &str) -> Share {
        let mut all = self.0.borrow_mut();
        if let Some(share) = all.get(peer).and_then(Weak::upgrade) {
            return share;
        }
        if all.len() >= SWEEP && all.len() == all.capacity() {
            all.retain(|_, share| share.strong_count() > 0);
        }
        let share = Share::default();
        all.insert(peer.into(), Rc::downgrade(&share));
        share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_one_share_and_leaves_nothing_behind() {
        let shares = Shares::default();
        let one = shares.of("a");
        one.set(3);
        assert_eq!((shares.of("a").get(), shares.of("b").get()), (3, 0));
        for number in 0..10 * SWEEP {
            shares.of(&number.to_string());
        }
        assert!(shares.0.borrow().len() <= 4 * SWEEP, "{}", shares.0.borrow().len());
        assert_eq!(shares.of("a").get(), 3);
    }
}
