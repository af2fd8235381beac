//! When an endpoint that can't be reached is left alone, and when it is tried again. Pure: time and jitter are handed in.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits;

/// What is known of an endpoint's being reached.
#[derive(Debug, Clone, Default)]
pub struct Circuit {
    /// Dials that failed one after the other.
    failed: u32,
    rest: Option<Rest>,
    /// How often it has rested without being reached in between.
    rests: u32,
    probing: bool,
}

#[derive(Debug, Clone, Copy)]
struct Rest {
    since: Instant,
    until: Instant,
}

impl Circuit {
    /// None where it may be dialled; since when it rests where it may not: its time isn't over, or somebody is trying it.
    pub fn resting(&self, now: Instant) -> Option<Instant> {
        let rest = self.rest?;
        (now < rest.until || self.probing).then_some(rest.since)
    }

    /// Whether it rests, or is being tried after a rest.
    pub fn is_broken(&self) -> bool {
        self.rest.is_some()
    }

    /// A dial begins. True: it is the one that tries whether the endpoint is back, and [`Self::ended`] must follow.
    pub fn begin(&mut self, now: Instant) -> bool {
        let probe = self.rest.is_some() && self.resting(now).is_none();
        self.probing |= probe;
        probe
    }

    /// The dial that tried it is over, however it went.
    pub fn ended(&mut self) {
        self.probing = false;
    }

    /// It was reached.
    pub fn reached(&mut self) {
        *self = Self { probing: self.probing, ..Self::default() };
    }

    /// A dial failed. While it rests that says nothing new. `jittered` spreads a wait.
    pub fn failed(&mut self, now: Instant, jittered: impl FnOnce(Duration) -> Duration) {
        self.failed = self.failed.saturating_add(1);
        let over = match self.rest {
            None => self.failed >= limits::DIAL_FAILURES,
            Some(rest) => now >= rest.until,
        };
        if over {
            let wait = limits::REST_FIRST.saturating_mul(1 << self.rests.min(16));
            let wait = jittered(wait.min(limits::REST_MOST));
            self.rest = Some(Rest { since: now, until: now + wait });
            self.rests = self.rests.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(now: Instant) -> Circuit {
        let mut circuit = Circuit::default();
        for _ in 0..limits::DIAL_FAILURES {
            assert_eq!(circuit.resting(now), None);
            circuit.failed(now, |wait| wait);
        }
        circuit
    }

    #[test]
    fn l4_20_five_failures_in_a_row_are_a_rest_and_four_are_not() {
        let now = Instant::now();
        assert_eq!(broken(now).resting(now), Some(now));
        let mut circuit = Circuit::default();
        for _ in 0..10 {
            for _ in 1..limits::DIAL_FAILURES {
                circuit.failed(now, |wait| wait);
            }
            circuit.reached();
        }
        assert_eq!(circuit.resting(now), None);
    }

    #[test]
    fn after_its_rest_one_dial_at_a_time_tries_it() {
        let begin = Instant::now();
        let mut circuit = broken(begin);
        assert!(!circuit.begin(begin), "a dial during the rest is no probe");
        let over = begin + limits::REST_FIRST;
        assert_eq!(circuit.resting(over), None);
        assert!(circuit.begin(over));
        assert_eq!(circuit.resting(over), Some(begin));
        assert!(!circuit.begin(over));
        circuit.ended();
        assert_eq!(circuit.resting(over), None);
        circuit.reached();
        assert!(!circuit.is_broken());
    }

    #[test]
    fn rests_grow_to_a_bound_and_are_spread() {
        let mut now = Instant::now();
        let mut circuit = broken(now);
        let mut last = Duration::ZERO;
        for _ in 0..40 {
            let mut until = Duration::ZERO;
            now = circuit.rest.unwrap().until;
            circuit.failed(now, |wait| {
                until = wait;
                wait / 2
            });
            assert!(until >= last && until <= limits::REST_MOST);
            assert_eq!(circuit.resting(now + until / 2), None);
            last = until;
        }
        assert_eq!(last, limits::REST_MOST);
    }

    #[test]
    fn failures_during_a_rest_do_not_make_it_longer() {
        let now = Instant::now();
        let mut circuit = broken(now);
        for _ in 0..100 {
            circuit.failed(now, |wait| wait);
        }
        assert_eq!(circuit.resting(now + limits::REST_FIRST), None);
    }
}
