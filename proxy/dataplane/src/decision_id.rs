//! Ids of decisions: UUIDs of version 7, in order where one thread makes them.

use std::cell::RefCell;

use aws_lc_rs::rand;
use uuid::{Builder, Uuid};

use crate::clock;

/// Randomness of so many ids is drawn at once: asking the kernel for each would cost more than writing it down.
const IDS: usize = 64;
const RANDOM_BYTES: usize = 8;
/// What counts within a millisecond: twelve bits, of which the first is left free when it begins anew.
const COUNTER_MASK: u16 = 0x0fff;
const COUNTER_START: u16 = 0x07ff;

thread_local! {
    static SOURCE: RefCell<Source> = const { RefCell::new(Source::EMPTY) };
}

/// What one thread makes ids of.
struct Source {
    random: [u8; IDS * RANDOM_BYTES],
    used: usize,
    millis: u64,
    counter: u16,
}

impl Source {
    const EMPTY: Self = Self { random: [0; IDS * RANDOM_BYTES], used: IDS, millis: 0, counter: 0 };

    /// None without randomness.
    fn next(&mut self, millis: u64) -> Option<Uuid> {
        if self.used >= IDS {
            rand::fill(&mut self.random).ok()?;
            self.used = 0;
        }
        let from = self.used * RANDOM_BYTES;
        let random: [u8; RANDOM_BYTES] = *self.random.get(from..)?.first_chunk()?;
        self.used += 1;
        if millis > self.millis {
            self.millis = millis;
            self.counter = u16::from_be_bytes([random[0], random[1]]) & COUNTER_START;
        } else {
            self.counter += 1;
            if self.counter > COUNTER_MASK {
                // More than four thousand in a millisecond: the next one has begun.
                self.millis += 1;
                self.counter = 0;
            }
        }
        let [high, low] = self.counter.to_be_bytes();
        let mut rest = [high, low, 0, 0, 0, 0, 0, 0, 0, 0];
        rest[2..].copy_from_slice(&random);
        Some(Builder::from_unix_timestamp_millis(self.millis, &rest).into_uuid())
    }
}

/// A decision's id.
pub fn new_id() -> String {
    let millis = u64::try_from(clock::now_millis()).unwrap_or(0);
    let made = SOURCE.with_borrow_mut(|source| source.next(millis));
    made.unwrap_or_else(Uuid::now_v7).to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_of_version_7_and_in_order_and_no_two_are_the_same() {
        let ids: Vec<_> = (0..20_000).map(|_| new_id()).collect();
        assert!(ids.is_sorted());
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
        for id in &ids {
            let id: Uuid = id.parse().unwrap();
            assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
        }
    }

    #[test]
    fn an_id_says_when_it_was_made() {
        let mut source = Source::EMPTY;
        let id = source.next(1_795_262_400_123).unwrap();
        let (seconds, nanos) = id.get_timestamp().unwrap().to_unix();
        assert_eq!((seconds, nanos), (1_795_262_400, 123_000_000));
    }

    #[test]
    fn a_clock_that_goes_back_does_not_bring_an_id_back() {
        let mut source = Source::EMPTY;
        let ids: Vec<_> = [5, 5, 3, 4, 6, 6].map(|millis| source.next(millis).unwrap()).into();
        assert!(ids.is_sorted() && ids.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
