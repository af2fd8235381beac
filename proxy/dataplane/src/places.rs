//! Places for connections: so many in all, so many of one peer. Who finds none is refused; the others don't notice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How many connections there are.
#[derive(Debug)]
pub struct Places {
    most: usize,
    most_of_one: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_peer: HashMap<Box<str>, usize>,
}

/// A connection's place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    peer: Option<Box<str>>,
}

impl Places {
    /// Bounds in all and of one peer.
    pub fn new(most: usize, most_of_one: usize) -> Self {
        Self { most, most_of_one, taken: Mutex::default() }
    }

    /// Takes a place for a connection of which no peer is known yet.
    pub fn take(self: &Arc<Self>) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.all >= self.most {
            return None;
        }
        taken.all += 1;
        Some(Place { places: Arc::clone(self), peer: None })
    }
}

impl Place {
    /// Counts the connection as this peer's: its identity, or its address where it proved none. False: it has too many.
    #[must_use]
    pub fn belongs_to(&mut self, peer: &str) -> bool {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        release(&mut taken, self.peer.take());
        let count = taken.by_peer.entry(peer.into()).or_insert(0);
        if *count >= self.places.most_of_one {
            return false;
        }
        *count += 1;
        self.peer = Some(peer.into());
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        release(&mut taken, self.peer.take());
    }
}

fn release(taken: &mut Taken, peer: Option<Box<str>>) {
    let Some(peer) = peer else { return };
    if let Some(count) = taken.by_peer.get_mut(&peer) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            taken.by_peer.remove(&peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_does_not_take_the_places_of_others() {
        let places = Arc::new(Places::new(3, 1));
        let mut first = places.take().unwrap();
        assert!(first.belongs_to("a"));
        let mut second = places.take().unwrap();
        assert!(!second.belongs_to("a"));
        assert!(second.belongs_to("b"));
        let third = places.take().unwrap();
        assert!(places.take().is_none());
        drop((first, third));
        assert!(places.take().unwrap().belongs_to("a"));
    }

    #[test]
    fn nothing_is_remembered_of_peers_that_left() {
        let places = Arc::new(Places::new(3, 1));
        assert!(places.take().unwrap().belongs_to("a"));
        assert!(places.taken.lock().unwrap().by_peer.is_empty());
        assert_eq!(places.taken.lock().unwrap().all, 0);
    }
}
