//! The choice alone, under a clock and chances of the test.

use proptest::prelude::*;

use super::*;

/// An endpoint of the test: whether it may be chosen at all, whether it rests, and its load.
#[derive(Debug, Clone)]
struct Place {
    allowed: bool,
    rested: Option<u64>,
    load: Load,
}

fn standing(begin: Instant, now: Instant) -> impl Fn(&Place) -> Option<Standing> {
    move |place| {
        place.allowed.then(|| match place.rested {
            Some(millis) => Standing::Resting(begin + Duration::from_millis(millis)),
            None => Standing::Available(place.load.burden(now)),
        })
    }
}

fn loaded(millis: u64, in_flight: u32, at: Instant) -> Load {
    let mut load = Load { answers: None, in_flight };
    if millis > 0 {
        load.answered(at, Duration::from_millis(millis));
    }
    load
}

fn places(begin: Instant) -> impl Strategy<Value = Vec<Place>> {
    let place = (any::<bool>(), proptest::option::of(0..1000_u64), 0..50_u64, 0..5_u32);
    let place = place.prop_map(move |(allowed, rested, millis, in_flight)| Place {
        allowed,
        rested,
        load: loaded(millis, in_flight, begin),
    });
    proptest::collection::vec(place, 0..12)
}

/// How often each of these is chosen, one request after the other, where each answers in so many milliseconds.
fn shares(millis: &[u64], requests: u32, seed: u64) -> Vec<u32> {
    let mut now = Instant::now();
    let mut chance = Chance::new(seed);
    let mut loads = vec![Load::default(); millis.len()];
    let mut counts = vec![0; millis.len()];
    for _ in 0..requests {
        let at =
            choose(&loads, |load| Some(Standing::Available(load.burden(now))), || chance.draw());
        let at = at.unwrap();
        now += Duration::from_millis(1);
        loads[at].answered(now, Duration::from_millis(millis[at]));
        counts[at] += 1;
    }
    counts
}

proptest! {
    /// What is chosen is in the list and allowed, it rests only if all do, and then it has rested longest.
    #[test]
    fn nothing_is_chosen_that_must_not_be(
        places in Just(Instant::now()).prop_flat_map(|begin| (Just(begin), places(begin))),
        seed in any::<u64>(),
    ) {
        let (begin, places) = places;
        let mut chance = Chance::new(seed);
        let chosen = choose(&places, standing(begin, begin), || chance.draw());
        let allowed: Vec<_> = places.iter().filter(|place| place.allowed).collect();
        prop_assert_eq!(chosen.is_none(), allowed.is_empty());
        let Some(chosen) = chosen else { return Ok(()) };
        prop_assert!(places[chosen].allowed);
        if let Some(rested) = places[chosen].rested {
            let longest = allowed.iter().map(|place| place.rested.unwrap_or(u64::MAX)).min();
            prop_assert!(allowed.iter().all(|place| place.rested.is_some()));
            prop_assert_eq!(Some(rested), longest);
        }
    }

    /// Equal endpoints get equal shares, within a quarter of one.
    #[test]
    fn equal_endpoints_share_equally(count in 2..8_usize, seed in any::<u64>()) {
        let requests = 2_000 * u32::try_from(count).unwrap();
        for share in shares(&vec![10; count], requests, seed) {
            prop_assert!((1_500..=2_500).contains(&share), "{share} of 2000");
        }
    }

    /// An endpoint ten times as slow gets less than half of its share, and is never forgotten for good.
    #[test]
    fn a_slow_endpoint_gets_less(count in 2..8_usize, seed in any::<u64>()) {
        let mut millis = vec![10; count];
        millis[0] = 100;
        let counts = shares(&millis, 60_000, seed);
        let fair = 60_000 / u32::try_from(count).unwrap();
        prop_assert!(counts[0] > 0 && counts[0] < fair / 2, "{counts:?}");
    }

    /// With a burden that is known, the lighter of two is chosen, whatever chance says.
    #[test]
    fn of_two_the_lighter_is_chosen(one in 1..500_u64, other in 1..500_u64, seed in any::<u64>()) {
        prop_assume!(one != other);
        let now = Instant::now();
        let loads = [loaded(one, 1, now), loaded(other, 1, now)];
        let mut chance = Chance::new(seed);
        let standing = |load: &Load| Some(Standing::Available(load.burden(now)));
        let chosen = choose(&loads, standing, || chance.draw());
        prop_assert_eq!(chosen, Some(usize::from(other < one)));
    }
}

#[test]
fn an_empty_list_is_none() {
    assert_eq!(choose(&[(); 0], |()| None, || 7), None);
    assert_eq!(choose(&[()], |()| None, || 7), None);
}

#[test]
fn what_is_in_flight_counts_before_there_are_answers_and_after() {
    let now = Instant::now();
    let choose_of = |loads: &[Load]| {
        choose(loads, |load| Some(Standing::Available(load.burden(now))), || 3).unwrap()
    };
    assert_eq!(choose_of(&[loaded(0, 2, now), loaded(0, 1, now)]), 1);
    assert_eq!(choose_of(&[loaded(5, 1, now), loaded(0, 2, now)]), 0);
    assert_eq!(choose_of(&[loaded(5, 4, now), loaded(10, 1, now)]), 1);
}

#[test]
fn a_peak_counts_at_once_and_is_forgotten_slowly() {
    let begin = Instant::now();
    let mut load = loaded(10, 0, begin);
    let seconds = |load: &Load, now| load.burden(now).seconds.unwrap();
    load.answered(begin, Duration::from_secs(1));
    assert!((seconds(&load, begin) - 1.0).abs() < 1e-9);
    let later = begin + limits::LOAD_DECAY;
    assert!((seconds(&load, later) - (-1.0_f64).exp()).abs() < 1e-9);
    load.answered(later, Duration::from_millis(10));
    assert!((0.3..0.4).contains(&seconds(&load, later)));
}
