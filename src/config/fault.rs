//! What is wrong with a configuration, said so that it can be put right.
//!
//! A fault names the place (file or environment variable), the key, the value and, where there is one, a hint. All of
//! them are gathered before any is reported: nobody should have to start a daemon six times to find six slips. The
//! value of a secret is never part of one, and what looks like a secret is masked wherever it stands.

use std::cell::RefCell;
use std::fmt;

use serde::Serialize;

use super::mask;
use super::sources::LabelSources;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file or the environment variable.
    pub place: String,
    /// The dotted path of the key, or the row.
    pub key: String,
    /// The value as written; `None` where there is none or it might be a secret.
    pub value: Option<String>,
    pub problem: String,
    pub hint: Option<String>,
}

impl Fault {
    pub fn new(place: impl Into<String>, key: impl Into<String>, problem: impl Into<String>) -> Self {
        let (key, problem) = (mask::secrets(&key.into()), mask::secrets(&problem.into()));
        Self { place: place.into(), key, value: None, problem, hint: None }
    }

    pub fn value(mut self, value: &str) -> Self {
        let pem = value.contains("-----BEGIN");
        self.value = Some(if pem { "…".to_owned() } else { shortened(&mask::secrets(value)) });
        self
    }

    /// Whether it may be about where the database is: the file as a whole, or the section `store` or one that may be
    /// meant to be it.
    pub(super) fn concerns_database(&self) -> bool {
        let section = self.key.split('.').next().unwrap_or_default();
        section.is_empty() || section.starts_with("line ") || nearest(section, ["store"]).is_some()
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(mask::secrets(&hint.into()));
        self
    }
}

impl fmt::Display for Fault {
    /// On one line, whatever the value holds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)?;
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        if let Some(value) = &self.value {
            let plain = !value.is_empty() && !value.contains(|c: char| c.is_whitespace() || c.is_control());
            if plain { write!(f, " = {value}")? } else { write!(f, " = {value:?}")? }
        }
        write!(f, ": {}", self.problem)?;
        match &self.hint {
            Some(hint) => write!(f, " (hint: {hint})"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Faults {
    /// What is at fault; never empty.
    pub faults: Vec<Fault>,
    /// Rows of labels that are left out. They stop nothing by themselves, but whoever mends the one wants to mend the other.
    pub label_faults: Vec<Fault>,
    /// How many rows in all.
    pub label_fault_count: usize,
    /// Where labels come from, as far as that is sound.
    pub sources: Box<LabelSources>,
}

impl Faults {
    /// Faults of the configuration, and none of labels.
    pub fn of(faults: Vec<Fault>) -> Self {
        Self { faults, label_faults: Vec::new(), label_fault_count: 0, sources: Box::default() }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.faults.len() {
            1 => f.write_str("the configuration has a fault")?,
            count => write!(f, "the configuration has {count} faults")?,
        }
        self.faults.iter().try_for_each(|fault| write!(f, "\n{fault}"))?;
        self.label_faults.iter().try_for_each(|fault| write!(f, "\nleft out: {fault}"))
    }
}

impl std::error::Error for Faults {}

/// Where readers of sections leave what they find.
#[derive(Debug, Default)]
pub(super) struct Findings {
    faults: RefCell<Vec<Fault>>,
    warnings: RefCell<Vec<Fault>>,
}

impl Findings {
    pub(super) fn fault(&self, fault: Fault) {
        self.faults.borrow_mut().push(fault);
    }

    pub(super) fn warn(&self, warning: Fault) {
        self.warnings.borrow_mut().push(warning);
    }

    /// The warnings, if nothing was at fault.
    pub(super) fn settle(self) -> Result<Vec<Fault>, Faults> {
        let faults = self.faults.into_inner();
        if faults.is_empty() { Ok(self.warnings.into_inner()) } else { Err(Faults::of(faults)) }
    }
}

/// The candidate that is probably meant by `word`: at most every third letter is another, or two are swapped.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let bound = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (candidate, strsim::osa_distance(&word, &candidate.to_lowercase())))
        .filter(|(candidate, distance)| *distance <= bound.min(candidate.len() / 2))
        .min_by_key(|(_, distance)| *distance)
        .map(|(candidate, _)| candidate)
}

/// The beginning of a hint: which of `candidates` is probably meant, if any.
pub fn meant<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, candidates).map_or_else(String::new, |meant| format!("did you mean \"{meant}\"? "))
}

/// Enough of a value to recognise it.
fn shortened(value: &str) -> String {
    const ENOUGH: usize = 120;
    match value.char_indices().nth(ENOUGH) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_one_line() {
        let fault = Fault::new("a.toml", "log.level", "is no level").value("in\nfo").hint("say \"info\"");
        assert_eq!(fault.to_string(), "a.toml: log.level = \"in\\nfo\": is no level (hint: say \"info\")");
        let faults = Faults::of(vec![fault, Fault::new("a.toml", "", "cannot be read")]);
        assert_eq!(faults.to_string().lines().count(), 3);
    }

    #[test]
    fn the_nearest_is_named() {
        assert_eq!(
            nearest("keep_finisched", ["path", "keep_finished", "keep_attempts"]),
            Some("keep_finished")
        );
        assert_eq!(nearest("PATH", ["path", "keep_finished"]), Some("path"));
        assert_eq!(nearest("ulr", ["url", "secret"]), Some("url"));
        assert_eq!(nearest("x", []), None);
        for far in ["verbose", "x", "rpm", "endpoint", "ab"] {
            assert_eq!(
                nearest(far, ["url", "secret", "secrets", "info", "timeout", "base_url"]),
                None,
                "{far}"
            );
        }
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        let fault = Fault::new("a", "b", "c").value(&"é".repeat(500));
        assert_eq!(fault.value.map(|value| value.chars().count()), Some(121));
    }
}
