//! A bounded list of entries in order; entries keep their number when old entries are dropped.

use std::collections::VecDeque;

#[derive(Debug)]
pub(super) struct Journal<T> {
    entries: VecDeque<T>,
    /// Number of the oldest entry kept.
    first: u64,
    keep: usize,
}

impl<T> Journal<T> {
    pub(super) fn new(keep: usize) -> Self {
        Self { entries: VecDeque::new(), first: 0, keep: keep.max(1) }
    }

    /// Adds an entry. Returns its number.
    pub(super) fn push(&mut self, entry: T) -> u64 {
        if self.entries.len() == self.keep {
            self.entries.pop_front();
            self.first += 1;
        }
        self.entries.push_back(entry);
        self.first + self.entries.len() as u64 - 1
    }

    /// Returns the entry with this number, if it is still kept.
    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.entries.get_mut(index)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_when_old_entries_are_dropped() {
        let mut journal = Journal::new(2);
        let numbers = ["a", "b", "c"].map(|entry| journal.push(entry));
        assert_eq!(numbers, [0, 1, 2]);
        assert_eq!(journal.get_mut(0), None);
        assert_eq!(journal.get_mut(2), Some(&mut "c"));
        assert_eq!(journal.get_mut(3), None);
        assert_eq!(journal.iter().copied().collect::<Vec<_>>(), ["b", "c"]);
    }
}
