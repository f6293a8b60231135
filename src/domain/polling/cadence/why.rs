//! Why a poll is when it is, as values; in words where somebody asks.

use std::time::Duration;

use crate::domain::polling::learning::Lesson;

/// What moved a poll to its time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Why {
    /// What the table says.
    pub table: Duration,
    /// Unchanged polls in a row, which chose the step of the row.
    pub unchanged: u32,
    /// Quiet for so long, so the row is slower.
    pub slowed: Option<Duration>,
    /// The dense row whose hours it waits for.
    pub opens: Option<&'static str>,
    /// What one's own history says instead.
    pub learnt: Option<Lesson>,
    /// The first wait is shortened by the label's own phase.
    pub first: bool,
    /// The last look before it is given up.
    pub last: bool,
}
