//! What an event was before: the forms it has had, and how often it may speak of them.
//!
//! A feed can flap between two spellings of a fact at every poll. A form we have seen on the event before is therefore
//! announced once as a revision and passed over in silence ever after: what was announced last stands, for receivers and
//! history alike. What fell out of memory is new again.

use std::sync::Arc;

use super::KnownEvent;
use super::canonical::Form;
use crate::domain::tracking::TrackingEvent;

/// Forms kept per event beside the first one.
pub const REMEMBERED: usize = 16;

impl KnownEvent {
    /// The form of what was announced last.
    pub fn form(&self) -> Option<Form> {
        self.forms.last().copied()
    }

    /// The record of the same event, seen again just now with nothing to say; `None` if it is what it was. A `form` is
    /// taken down as the current one.
    pub(super) fn seen(&self, form: Option<Form>) -> Option<Self> {
        let new_form = form.filter(|&form| self.form() != Some(form));
        (self.missing_polls > 0 || self.fell_off || new_form.is_some()).then(|| {
            let mut seen = Self { missing_polls: 0, fell_off: false, ..self.clone() };
            new_form.into_iter().for_each(|form| seen.remember(form));
            seen
        })
    }

    /// The record of the same event saying something else, if that is to be announced. Else the form is an old
    /// acquaintance that has had its announcement, and what was announced last stands.
    pub(super) fn revised(&self, event: &TrackingEvent) -> Option<Self> {
        let form = event.form;
        let returning = self.forms.contains(&form);
        if returning && self.flapped {
            return None;
        }
        let mut forms = Vec::with_capacity(self.forms.len() + 1);
        forms.extend_from_slice(&self.forms);
        let mut revised = Self {
            event_id: self.event_id,
            revision: self.revision,
            late: self.late,
            raw: Arc::clone(&event.raw),
            forms,
            flapped: self.flapped || returning,
            missing_polls: 0,
            retracted: false,
            fell_off: false,
        };
        revised.announce(&event.raw);
        revised.remember(form);
        Some(revised)
    }

    /// What it says from now on, as its next revision.
    pub(super) fn announce(&mut self, raw: &Arc<str>) {
        self.raw = Arc::clone(raw);
        self.revision = self.revision.saturating_add(1);
    }

    /// Makes `form` the current one. The first form stays in front for ever; behind it, without doubles, the others in
    /// the order in which they were last current.
    pub(super) fn remember(&mut self, form: Form) {
        if self.form() == Some(form) {
            return;
        }
        // The first one may be there twice: in front, and as the current one.
        if let Some(before) = self.forms.iter().skip(1).position(|&other| other == form) {
            self.forms.remove(before + 1);
        }
        if let [first, .., last] = self.forms[..]
            && first == last
        {
            self.forms.pop();
        }
        self.forms.push(form);
        if self.forms.len() > REMEMBERED + 1 {
            self.forms.remove(1);
        }
    }
}
