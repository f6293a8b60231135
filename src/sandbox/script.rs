//! A queue of scripted answers.

use std::collections::VecDeque;

use super::answer::Answer;

/// A queue of answers. The last answer repeats if it was pushed with [`AnswerScript::push`]; an answer of
/// [`AnswerScript::push_once`] is used once.
#[derive(Debug, Default)]
pub(super) struct AnswerScript(VecDeque<(Answer, bool)>);

impl AnswerScript {
    pub(super) fn push(&mut self, answer: Answer) {
        self.0.push_back((answer, true));
    }

    pub(super) fn push_once(&mut self, answer: Answer) {
        self.0.push_back((answer, false));
    }

    pub(super) fn next(&mut self) -> Option<Answer> {
        match self.0.front() {
            Some((answer, true)) if self.0.len() == 1 => Some(answer.clone()),
            _ => self.0.pop_front().map(|(answer, _)| answer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answer_repeats_unless_pushed_once() {
        let statuses = |script: &mut AnswerScript| -> Vec<Option<u16>> {
            (0..4).map(|_| script.next().map(|answer| answer.status.as_u16())).collect()
        };
        let mut script = AnswerScript::default();
        assert_eq!(script.next(), None);
        script.push(Answer::status(500));
        script.push(Answer::status(404));
        assert_eq!(statuses(&mut script), [Some(500), Some(404), Some(404), Some(404)]);
        script.push_once(Answer::status(503));
        assert_eq!(statuses(&mut script), [Some(404), Some(503), None, None]);
    }
}
