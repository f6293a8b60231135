//! Faults of a configuration: the problem, the place and a hint.
//!
//! A fault names the place (file or environment variable), the key, the value and a hint if there is one. All faults
//! are collected and reported at once. A fault never contains the value of a secret, and text that looks like a secret
//! is masked.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use serde::Serialize;

use super::mask;

/// A fault of the configuration, of a label file or of a row.
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

    /// Whether the fault may affect the path of the database: it is about the file as a whole, about the section
    /// `store`, or about a section that is probably meant to be `store`.
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
    /// On one line, also if a name or the value contains line breaks.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escaped(&self.place))?;
        if !self.key.is_empty() {
            write!(f, ": {}", escaped(&self.key))?;
        }
        if let Some(value) = &self.value {
            let plain = !value.is_empty() && !value.contains(|c: char| c.is_whitespace() || c.is_control());
            if plain { write!(f, " = {value}")? } else { write!(f, " = {value:?}")? }
        }
        write!(f, ": {}", escaped(&self.problem))?;
        match &self.hint {
            Some(hint) => write!(f, " (hint: {})", escaped(hint)),
            None => Ok(()),
        }
    }
}

/// Returns `text` with its control characters escaped.
fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

/// Collects faults and warnings while the sections are read and checked.
#[derive(Debug, Default)]
pub(super) struct Findings {
    faults: RefCell<Vec<Fault>>,
    warnings: RefCell<Vec<Fault>>,
}

impl Findings {
    pub(super) fn fault(&self, fault: Fault) {
        add(&self.faults, fault);
    }

    pub(super) fn warn(&self, warning: Fault) {
        add(&self.warnings, warning);
    }

    /// Whether a fault is about `key` or a key below it.
    pub(super) fn has_fault_at(&self, key: &str) -> bool {
        let key = mask::secrets(key);
        let below =
            |fault: &Fault| fault.key.strip_prefix(&key).map(|rest| rest.is_empty() || rest.starts_with('.'));
        self.faults.borrow().iter().any(|fault| below(fault) == Some(true))
    }

    /// Faults and warnings. Faults are in the order of the sections and then of the keys.
    pub(super) fn finish(&self) -> (Vec<Fault>, Vec<Fault>) {
        let mut faults = self.faults.take();
        faults.sort_by_cached_key(|fault| {
            let section = fault.key.split('.').next().unwrap_or_default();
            (super::SECTIONS.iter().position(|name| *name == section), fault.key.clone())
        });
        (faults, self.warnings.take())
    }
}

/// The table is read again after each fault, so a finding may come again.
fn add(found: &RefCell<Vec<Fault>>, fault: Fault) {
    let mut found = found.borrow_mut();
    if !found.contains(&fault) {
        found.push(fault);
    }
}

/// Returns the candidate that `word` probably means: at most every third letter differs, or two letters are swapped.
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

/// Returns the beginning of a hint: the probable one of `candidates`, if any.
pub(super) fn meant<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, candidates).map_or_else(String::new, |meant| format!("did you mean \"{meant}\"? "))
}

/// Returns a hint with all candidates, the probable one first.
pub(super) fn known_here<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = candidates.into_iter().collect();
    format!("{}valid here: {}", meant(word, known.iter().copied()), known.join(", "))
}

/// Returns the beginning of a value, enough to recognise it.
fn shortened(value: &str) -> String {
    const MAX_CHARS: usize = 120;
    match value.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_fits_on_one_line() {
        let fault = Fault::new("a.toml", "log.level", "is not a level").value("in\nfo").hint("say \"info\"");
        assert_eq!(fault.to_string(), "a.toml: log.level = \"in\\nfo\": is not a level (hint: say \"info\")");
        let fault = Fault::new("A\nB", "a\u{1b}b", "is \r\n wrong").hint("x\ny");
        assert_eq!(fault.to_string(), "A\\nB: a\\u{1b}b: is \\r\\n wrong (hint: x\\ny)");
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
