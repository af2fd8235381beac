//! Which endpoint is called next: the lower of two random ones' loads. Pure: time and chance are handed in.
//!
//! A load is the peak EWMA of an endpoint's answer times, multiplied by what is in flight there and one more. It rises at
//! once with a slow answer and forgets over [`limits::LOAD_DECAY`], so that an endpoint that was slow is tried again. As
//! long as one of two endpoints hasn't answered yet, only what is in flight counts.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits;

/// What an endpoint is carrying, and how fast it has been.
#[derive(Debug, Clone, Default)]
pub struct Load {
    answers: Option<Peak>,
    in_flight: u32,
}

#[derive(Debug, Clone, Copy)]
struct Peak {
    seconds: f64,
    at: Instant,
}

impl Peak {
    /// How much of what was known at `self.at` still counts.
    fn weight(self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.at);
        (-age.as_secs_f64() / limits::LOAD_DECAY.as_secs_f64()).exp()
    }
}

impl Load {
    /// One more request or connection.
    pub fn begin(&mut self) {
        self.in_flight = self.in_flight.saturating_add(1);
    }

    /// One less.
    pub fn end(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// An answer that took so long.
    pub fn answered(&mut self, now: Instant, took: Duration) {
        let took = took.as_secs_f64();
        let seconds = match self.answers {
            Some(peak) if took < peak.seconds => {
                let weight = peak.weight(now);
                peak.seconds * weight + took * (1.0 - weight)
            }
            _ => took,
        };
        self.answers = Some(Peak { seconds, at: now });
    }

    /// As it is now.
    pub fn burden(&self, now: Instant) -> Burden {
        let seconds = self.answers.map(|peak| peak.seconds * peak.weight(now));
        Burden { seconds, in_flight: self.in_flight }
    }
}

/// The load of one endpoint at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Burden {
    seconds: Option<f64>,
    in_flight: u32,
}

impl Burden {
    fn is_at_most(self, other: Self) -> bool {
        let weigh = |seconds: f64, burden: Self| seconds * (f64::from(burden.in_flight) + 1.0);
        match (self.seconds, other.seconds) {
            (Some(own), Some(others)) => weigh(own, self) <= weigh(others, other),
            _ => self.in_flight <= other.in_flight,
        }
    }
}

/// Whether an endpoint may be chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Standing {
    /// It may.
    Available(Burden),
    /// Only if there is no other: it has rested since then.
    Resting(Instant),
}

/// The place in `all` of the next endpoint. `standing` gives none for what must not be chosen; `draw` is random. Where all
/// rest, it is the one that has rested longest, so that a lonely endpoint isn't out of reach.
pub fn choose<T>(
    all: &[T],
    standing: impl Fn(&T) -> Option<Standing>,
    mut draw: impl FnMut() -> u64,
) -> Option<usize> {
    let available = |at: &usize| match standing(all.get(*at)?)? {
        Standing::Available(burden) => Some((*at, burden)),
        Standing::Resting(_) => None,
    };
    // Nearly always nobody rests, and two looks are enough, however many there are.
    let (first, second) = pair(all.len(), &mut draw)?;
    if let (Some(one), Some(other)) = (available(&first), available(&second)) {
        return Some(lighter(one, other));
    }
    let left: Vec<_> = (0..all.len()).filter_map(|at| available(&at)).collect();
    if let Some((first, second)) = pair(left.len(), &mut draw) {
        return Some(lighter(*left.get(first)?, *left.get(second)?));
    }
    let resting = |at: usize| match standing(all.get(at)?)? {
        Standing::Resting(since) => Some((since, at)),
        Standing::Available(_) => None,
    };
    (0..all.len()).filter_map(resting).min().map(|(_, at)| at)
}

fn lighter(one: (usize, Burden), other: (usize, Burden)) -> usize {
    if one.1.is_at_most(other.1) { one.0 } else { other.0 }
}

/// Two different places below `count`, the same one twice where there is only one.
fn pair(count: usize, draw: &mut impl FnMut() -> u64) -> Option<(usize, usize)> {
    let first = below(count, draw)?;
    let second = below(count - 1, draw).map_or(first, |at| (first + 1 + at) % count);
    Some((first, second))
}

fn below(count: usize, draw: &mut impl FnMut() -> u64) -> Option<usize> {
    let rest = draw().checked_rem(u64::try_from(count).ok()?)?;
    usize::try_from(rest).ok()
}

/// A stream of numbers without a pattern (splitmix64), for chances that guard nothing.
#[derive(Debug)]
pub struct Chance(u64);

impl Chance {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests;
