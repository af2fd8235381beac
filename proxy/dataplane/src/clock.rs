//! The wall clock, read in one place. Timers use the monotonic one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand;
use engine::Timestamp;

/// Milliseconds since the Unix epoch.
pub fn now_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The same, for the engine.
pub fn now() -> Timestamp {
    Timestamp(now_millis())
}

/// A duration scaled by a random factor between `low` and `high` per mille, so that a thousand proxies which failed
/// together don't come back together.
pub fn jittered(duration: Duration, low: u32, high: u32) -> Duration {
    let mut bytes = [0; 4];
    // Without randomness the factor is `low`: a wait that isn't spread is still a wait.
    let drawn = rand::fill(&mut bytes).map_or(0, |()| u32::from_le_bytes(bytes));
    let span = high.saturating_sub(low).saturating_add(1);
    duration.saturating_mul(low + drawn % span) / 1000
}

/// Milliseconds of a wall-clock span, as a duration; nothing where it lies in the past.
pub fn span(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// RFC 3339 in UTC with milliseconds, for log lines.
pub fn rfc3339(millis: i64) -> String {
    let (seconds, fraction) = (millis.div_euclid(1000), millis.rem_euclid(1000));
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let mut text = String::with_capacity("2026-11-21T12:00:00.123Z".len());
    for (value, digits, after) in [
        (year, 4, '-'),
        (month, 2, '-'),
        (day, 2, 'T'),
        (hour, 2, ':'),
        (minute, 2, ':'),
        (second, 2, '.'),
        (fraction, 3, 'Z'),
    ] {
        push_digits(&mut text, value, digits);
        text.push(after);
    }
    text
}

/// The last `count` decimal digits of a number that isn't negative.
fn push_digits(text: &mut String, value: i64, count: u32) {
    for place in (0..count).rev() {
        let digit = value / 10_i64.pow(place) % 10;
        text.push(char::from(b'0' + u8::try_from(digit).unwrap_or(0)));
    }
}

/// The Gregorian date of a day counted from 1970-01-01. Years are counted from March, so that the leap day is the last;
/// eras are the 400 years after which the calendar repeats.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_795_262_400_123), "2026-11-21T12:00:00.123Z");
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn jitter_stays_within_its_bounds() {
        for _ in 0..100 {
            let wait = jittered(Duration::from_secs(10), 900, 1100);
            assert!((Duration::from_secs(9)..=Duration::from_secs(11)).contains(&wait), "{wait:?}");
        }
    }
}
