//! What an event was before: the forms it has had, and how often it may speak of them.
//!
//! A feed can flap between two spellings of a fact at every poll. A form we have seen on the event before is therefore
//! announced once as a revision and adopted in silence ever after. What fell out of memory is new again.

use super::KnownEvent;
use super::canonical::Form;

/// Forms kept per event beside the first one.
pub const REMEMBERED: usize = 16;

/// An event in its new form.
pub struct Adopted {
    pub becomes: KnownEvent,
    /// Whether it is to be announced; else the form is an old acquaintance that has had its announcement.
    pub announced: bool,
}

impl KnownEvent {
    /// The form of what is recorded. Always the last one.
    pub fn form(&self) -> Option<Form> {
        self.forms.last().copied()
    }

    /// The same event, seen again just now in the words of `raw`; no other form, so nothing to say.
    pub(super) fn seen(&self, raw: &str) -> Self {
        Self { raw: raw.to_owned(), missing_polls: 0, retracted: false, ..self.clone() }
    }

    /// The same event, seen again just now in another form.
    pub(super) fn adopt(&self, raw: &str, form: Form) -> Adopted {
        let returning = self.forms.contains(&form);
        let announced = !(returning && self.flapped);
        let mut becomes = self.seen(raw);
        becomes.remember(form);
        becomes.flapped |= returning;
        becomes.revision = self.revision.saturating_add(u32::from(announced));
        Adopted { becomes, announced }
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
