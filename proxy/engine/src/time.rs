//! Time is an input: the engine has no clock.

/// Milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp(pub i64);

/// When a decision is made, and how old the table is then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moment {
    /// The wall clock.
    pub now: Timestamp,
    /// Milliseconds since policyd last confirmed the table.
    pub table_age_millis: u64,
}
