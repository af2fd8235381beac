//! Why bytes are no snapshot, rows no table, and a question no question.

/// A snapshot, or rows for one, refused whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Larger than a limit.
    #[error("the snapshot has {found} {what}, at most {limit} are read")]
    TooLarge {
        /// Bytes, or messages.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many may be.
        limit: usize,
    },
    /// No protobuf message of this schema.
    #[error("the snapshot cannot be decoded: {0}")]
    Malformed(String),
    /// Decoded and encoded again it differs: an unknown field, a newer writer, or bytes in another form.
    #[error(
        "the {0} part is not in canonical form (an unknown field, a newer writer, or other bytes for the same)"
    )]
    NotCanonical(&'static str),
    /// A list that is not sorted, or holds something twice.
    #[error("{0} is not sorted, or holds something twice")]
    Unsorted(String),
    /// Written for a newer reader.
    #[error("the {part} part needs reader version {needs}, this is version {reader}")]
    Newer {
        /// Which part.
        part: &'static str,
        /// The version it asks for.
        needs: u32,
        /// Ours.
        reader: u32,
    },
    /// A value that may not stand there.
    #[error("{place}: {problem}")]
    Invalid {
        /// Field path.
        place: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The rows don't fit together.
    #[error(transparent)]
    Table(#[from] engine::TableError),
    /// The rows are not JSON of this schema.
    #[error("the rows cannot be read: {0}")]
    Rows(String),
}

impl SnapshotError {
    pub(crate) fn invalid(place: impl Into<String>, problem: impl std::fmt::Display) -> Self {
        Self::Invalid { place: place.into(), problem: problem.to_string() }
    }

    /// The code that a proxy gives when it refuses (`Nack.code`).
    pub fn code(&self) -> &'static str {
        match self {
            Self::Newer { .. } | Self::NotCanonical(_) => "SNAPSHOT_UNSUPPORTED",
            _ => "SNAPSHOT_INVALID",
        }
    }
}

/// A question that can't be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// Not JSON of this form.
    #[error("the question cannot be read: {0}")]
    Malformed(String),
    /// A value that may not stand there.
    #[error("{field}: `{value}` is not {expected}")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// What stood there.
        value: String,
        /// What should.
        expected: &'static str,
    },
}
