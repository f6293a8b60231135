//! What an event was before: the forms it has had, and how often it may speak of them.
//!
//! A feed can flap between two spellings of a fact at every poll. A form we have seen on the event before is therefore
//! announced once as a revision and passed over in silence ever after: what was announced last stands, for receivers and
//! history alike. What fell out of memory is new again.

use super::KnownEvent;
use super::canonical::Form;

/// Forms kept per event beside the first one.
pub const REMEMBERED: usize = 16;

impl KnownEvent {
    /// The form of what was announced last.
    pub fn form(&self) -> Option<Form> {
        self.forms.last().copied()
    }

    /// The same event, seen again just now.
    pub(super) fn seen(&self) -> Self {
        Self { missing_polls: 0, retracted: false, ..self.clone() }
    }

    /// Takes on what the event says now, if that is to be announced. Else the form is an old acquaintance that has had
    /// its announcement, and what was announced last stands.
    pub(super) fn revise(&mut self, raw: &str, form: Form) -> bool {
        let returning = self.forms.contains(&form);
        if returning && self.flapped {
            return false;
        }
        self.flapped |= returning;
        self.announce(raw, form);
        true
    }

    /// Takes on what the event says now, as its next revision.
    pub(super) fn announce(&mut self, raw: &str, form: Form) {
        raw.clone_into(&mut self.raw);
        self.revision = self.revision.saturating_add(1);
        self.remember(form);
    }

    /// Makes `form` the current one. The first form stays in front for ever; behind it, without doubles, the others in
    /// the order in which they were last current.
    pub(super) fn remember(&mut self, form: Form) {
        if self.form() == Some(form) {
            return;
        }
        let Some(&first) = self.forms.first() else {
            self.forms.push(form);
            return;
        };
        let mut others = self.forms.split_off(1);
        others.retain(|&other| other != form && other != first);
        others.push(form);
        let forgotten = others.len().saturating_sub(REMEMBERED);
        self.forms.extend(others.drain(forgotten..));
    }
}
