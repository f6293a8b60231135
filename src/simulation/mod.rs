//! What a cadence costs and how fresh it is: journeys, recorded or generated, polled in virtual time (contract 4.5).
//!
//! The cadence and the quota are the daemon's own code, under a clock that jumps from poll to poll: a year of ten
//! thousand labels takes seconds. Nothing is asked, stored or sent; answers come at once and never fail. The looks that
//! the daemon brings forward to judge a silence (stalled, late) are left out.

pub mod bound;
pub mod delays;
pub mod forecast;
pub mod generate;
mod line;
mod run;
mod travel;

pub use run::{Outcome, Terms, run};
pub use travel::{Passage, Travel, recorded};

#[cfg(test)]
mod tests;
