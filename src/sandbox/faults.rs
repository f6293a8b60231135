//! Injected faults: a share of the answers fails, is delayed or is garbled.
//!
//! The random numbers are seeded, so a run repeats if its requests have the same order. The affected labels are random;
//! faults of a single label are scripted through the handle.

use std::time::Duration;

use jiff::SignedDuration;

use super::answer::Answer;
use super::errors;

/// A kind of fault and its share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InjectedFault {
    pub kind: FaultKind,
    /// From 0 (never) to 1 (always).
    pub share: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Answer with this status, 400 to 599.
    Fail(u16),
    /// Answer as usual after this delay.
    Slow(Duration),
    /// Answer 200 with something that is not a tracking object: JSON cut short, an HTML page, nothing, in turn.
    Garble,
}

/// Error of parsing a fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    #[error("{0:?} has no share; use a value like {1}")]
    NoShare(String, &'static str),
    #[error("{0:?} is not a valid share; use a number from 0 to 100 with %, like 0.5%")]
    Share(String),
    #[error("{0:?} is not a valid status; use 400 to 599")]
    Status(String),
    #[error("{0:?} is not a valid duration; use a value like 300ms, 2s or 1m30s")]
    Duration(String),
}

impl InjectedFault {
    pub fn new(kind: FaultKind, share: f64) -> Self {
        Self { kind, share }
    }

    /// `500:5%`: the value of `--fail`.
    pub fn parse_fail(text: &str) -> Result<Self, FaultError> {
        let (status, share) = split(text, "500:5%")?;
        match status.parse() {
            Ok(code @ 400..=599) => Ok(Self::new(FaultKind::Fail(code), share)),
            _ => Err(FaultError::Status(status.to_owned())),
        }
    }

    /// `2s:1%`: the value of `--slow`.
    pub fn parse_slow(text: &str) -> Result<Self, FaultError> {
        let (duration, share) = split(text, "2s:1%")?;
        let parsed: Option<SignedDuration> = duration.parse().ok();
        match parsed.and_then(|duration| Duration::try_from(duration).ok()) {
            Some(duration) => Ok(Self::new(FaultKind::Slow(duration), share)),
            None => Err(FaultError::Duration(duration.to_owned())),
        }
    }

    /// `1%`: the value of `--garble`.
    pub fn parse_garble(text: &str) -> Result<Self, FaultError> {
        Ok(Self::new(FaultKind::Garble, parse_share(text)?))
    }
}

fn split<'a>(text: &'a str, example: &'static str) -> Result<(&'a str, f64), FaultError> {
    let (what, share) = text.rsplit_once(':').ok_or_else(|| FaultError::NoShare(text.to_owned(), example))?;
    Ok((what.trim(), parse_share(share)?))
}

fn parse_share(text: &str) -> Result<f64, FaultError> {
    text.trim()
        .strip_suffix('%')
        .and_then(|number| number.trim().parse::<f64>().ok())
        .filter(|percent| (0.0..=100.0).contains(percent))
        .map(|percent| percent / 100.0)
        .ok_or_else(|| FaultError::Share(text.to_owned()))
}

/// The active faults and the random numbers.
#[derive(Debug)]
pub(super) struct FaultInjector {
    faults: Vec<InjectedFault>,
    rng: fastrand::Rng,
    garbled: usize,
}

impl FaultInjector {
    pub(super) fn new(faults: Vec<InjectedFault>, seed: u64) -> Self {
        Self { faults, rng: fastrand::Rng::with_seed(seed), garbled: 0 }
    }

    pub(super) fn set(&mut self, faults: Vec<InjectedFault>) {
        self.faults = faults;
    }

    /// Draws once for each fault, and applies the drawn faults to `answer`; a failure takes precedence over garbling.
    pub(super) fn apply(&mut self, mut answer: Answer, request_id: &str) -> Answer {
        let (mut delay, mut failure, mut garble) = (Duration::ZERO, None, false);
        for fault in &self.faults {
            if self.rng.f64() >= fault.share {
                continue;
            }
            match fault.kind {
                FaultKind::Fail(status) => failure = failure.or(Some(status)),
                FaultKind::Slow(by) => delay += by,
                FaultKind::Garble => garble = true,
            }
        }
        if let Some(status) = failure {
            answer = errors::fault(request_id, status);
        } else if garble {
            answer = self.garble(&answer);
        }
        answer.delay += delay;
        answer
    }

    fn garble(&mut self, answer: &Answer) -> Answer {
        self.garbled += 1;
        match self.garbled % 3 {
            1 => Answer::json(200, answer.body.slice(..answer.body.len() * 2 / 3)),
            2 => Answer::status(200)
                .header("content-type", "text/html")
                .body("<!DOCTYPE html><html><body><h1>We'll be back soon</h1></body></html>"),
            _ => Answer::json(200, ""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_command_line_values() {
        assert_eq!(InjectedFault::parse_fail("500:5%"), Ok(InjectedFault::new(FaultKind::Fail(500), 0.05)));
        assert_eq!(
            InjectedFault::parse_fail("429:0.5%"),
            Ok(InjectedFault::new(FaultKind::Fail(429), 0.005))
        );
        assert_eq!(
            InjectedFault::parse_slow("2s:1%"),
            Ok(InjectedFault::new(FaultKind::Slow(Duration::from_secs(2)), 0.01))
        );
        assert_eq!(
            InjectedFault::parse_slow("300ms:100%"),
            Ok(InjectedFault::new(FaultKind::Slow(Duration::from_millis(300)), 1.0))
        );
        assert_eq!(InjectedFault::parse_garble("1%"), Ok(InjectedFault::new(FaultKind::Garble, 0.01)));
    }

    #[test]
    fn errors_name_the_value() {
        assert_eq!(InjectedFault::parse_fail("500"), Err(FaultError::NoShare("500".into(), "500:5%")));
        assert_eq!(InjectedFault::parse_fail("200:5%"), Err(FaultError::Status("200".into())));
        assert_eq!(InjectedFault::parse_fail("500:5"), Err(FaultError::Share("5".into())));
        assert_eq!(InjectedFault::parse_garble("101%"), Err(FaultError::Share("101%".into())));
        assert_eq!(InjectedFault::parse_garble("NaN%"), Err(FaultError::Share("NaN%".into())));
        for text in ["2:1%", "-2s:1%", "soon:1%"] {
            assert!(matches!(InjectedFault::parse_slow(text), Err(FaultError::Duration(_))), "{text}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_faults() {
        let faults =
            vec![InjectedFault::new(FaultKind::Fail(503), 0.3), InjectedFault::new(FaultKind::Garble, 0.3)];
        let run = |seed| {
            let mut injector = FaultInjector::new(faults.clone(), seed);
            let answers: Vec<Answer> =
                (0..200).map(|_| injector.apply(Answer::json(200, r#"{"events":[]}"#), "r")).collect();
            answers
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        let failed = run(7).iter().filter(|answer| answer.status == 503).count();
        assert!((30..90).contains(&failed), "{failed} of 200 at 30 %");
    }

    #[test]
    fn garbles_in_turn() {
        let mut injector = FaultInjector::new(vec![InjectedFault::new(FaultKind::Garble, 1.0)], 1);
        let whole = Answer::json(200, r#"{"status_code":"IT","events":[]}"#);
        let bodies: Vec<_> = (0..4).map(|_| injector.apply(whole.clone(), "r").body).collect();
        assert!(whole.body.starts_with(&bodies[0]) && bodies[0] != whole.body);
        assert!(bodies[1].starts_with(b"<!DOCTYPE html>"));
        assert!(bodies[2].is_empty());
        assert_eq!(bodies[3], bodies[0]);
    }
}
