//! The simulation: the cost and the freshness of a cadence, on recorded or generated journeys in virtual time (contract
//! 4.5).
//!
//! Cadence and quota are the daemon's code, under a clock that jumps from poll to poll: a year of ten thousand labels
//! takes seconds. Nothing is sent or stored; answers arrive at once and never fail. Polls that the daemon brings
//! forward for alerts (stalled, late) are left out.

pub mod bound;
pub mod delays;
pub mod forecast;
pub mod generate;
mod journey;
mod run;

pub use journey::{SimulatedAnswer, SimulatedJourney, recorded};
pub use run::{RunResult, RunSettings, run, run_with};

#[cfg(test)]
mod tests;
