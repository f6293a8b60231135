//! Properties of matching for generated lists ([`super::answers`]).

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::super::{Fingerprint, LocalTime, oldest_first};
use super::answers::*;
use super::*;
use crate::domain::tracking::history::{EventChange, plan};

fn sorted<T: Ord>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut items: Vec<_> = items.into_iter().collect();
    items.sort();
    items
}

proptest! {
    #[test]
    fn an_unchanged_list_announces_nothing(list in a_list()) {
        let mut history = History::of(&list);
        let matching = history.poll(&list);
        prop_assert!(matching.is_quiet() && matching.updates.is_empty());
    }

    #[test]
    fn another_order_announces_nothing((list, shuffled) in reordered()) {
        let mut history = History::of(&list);
        let matching = history.poll(&shuffled);
        prop_assert!(matching.is_quiet() && matching.updates.is_empty());
    }

    #[test]
    fn applying_a_matching_gives_the_answer(life in a_life()) {
        let mut history = History::default();
        for answer in life.iter().filter(|answer| !answer.is_empty()) {
            let matching = history.poll(answer);
            let is_present = |event: &&KnownEvent| !event.retracted && !event.fell_off && event.missing_polls == 0;
            let present = history.known.iter().filter(is_present);
            prop_assert_eq!(present.count(), answer.len());
            let raw = |new: usize| answer[new].parse().raw;
            for &(known, new) in &matching.same {
                prop_assert_eq!(history.known[known].fingerprint(), Some(Fingerprint::of(&raw(new))));
            }
            for &(known, new) in &matching.flapped {
                prop_assert!(history.known[known].fingerprints.contains(&Fingerprint::of(&raw(new))));
            }
            for revised in &matching.revised {
                prop_assert_eq!(&history.known[revised.known].raw, &raw(revised.new));
            }
        }
    }

    #[test]
    fn a_revision_has_one_content_for_ever(life in a_life(), flaps in vec(any::<Index>(), 0..8)) {
        let mut history = History::default();
        let mut shown: BTreeMap<(EventId, u32), (String, bool)> = BTreeMap::new();
        let flaps = flaps.iter().map(|at| &life[at.index(life.len())]);
        for answer in life.iter().chain(flaps) {
            let before = history.known.clone();
            let answer: Vec<_> = answer.iter().map(Draft::parse).collect();
            let matching = history.poll_events(&answer);
            let (writes, events) = plan(&before, &matching);
            let mut shows = |id, revision, raw: &str, late: bool| {
                let first = shown.entry((id, revision)).or_insert_with(|| (raw.to_owned(), late));
                prop_assert_eq!((&*first.0, first.1), (raw, late));
                Ok(())
            };
            for event in events.added.iter().chain(&events.revised).chain(&events.retracted) {
                shows(event.event_id, event.revision, &event.raw, event.late)?;
                if let Some(previous) = &event.previous {
                    shows(event.event_id, event.revision - 1, previous, event.late)?;
                    prop_assert!(!event.changed.is_empty());
                }
            }
            for change in &writes.updated {
                for step in &change.changes {
                    if let EventChange::Revised { fields, before } = step {
                        shows(change.record.event_id, change.record.revision - 1, before, change.record.late)?;
                        prop_assert!(!fields.is_empty());
                    }
                }
            }
            for event in &history.known {
                shows(event.event_id, event.revision, &event.raw, event.late)?;
                prop_assert_eq!(event.fingerprint(), Some(Fingerprint::of(&event.raw)));
            }
        }
    }

    #[test]
    fn appended_events_are_added(list in a_full_list(), more in a_full_list()) {
        let mut history = History::of(&list);
        let matching = history.poll(&[more.clone(), list].concat());
        prop_assert_eq!(counts(&matching), (more.len(), 0, 0));
    }

    #[test]
    fn enriching_anything_but_time_and_code_never_adds(
        edits in vec((an_event(), an_enrichment()), 1..8),
    ) {
        let list: Vec<_> = edits.iter().map(|(draft, _)| draft.clone()).collect();
        let enriched: Vec<_> = edits.iter().map(|(draft, fills)| enrich(draft, fills)).collect();
        let mut history = History::of(&list);
        let matching = history.poll(&enriched);
        prop_assert_eq!((matching.added.len(), matching.missing.len()), (0, 0));
    }

    #[test]
    fn enriching_events_of_equal_time_never_adds(
        edits in vec((an_event(), an_enrichment()), 1..6),
    ) {
        let at_once = |draft: &Draft| draft.clone().with("carrier_occurred_at", TIMES[1]).with("event_code", "AR");
        let list: Vec<_> = edits.iter().map(|(draft, _)| at_once(draft)).collect();
        let enriched: Vec<_> = list.iter().zip(&edits).map(|(draft, (_, fills))| enrich(draft, fills)).collect();
        let mut history = History::of(&list);
        let matching = history.poll(&enriched);
        prop_assert_eq!((matching.added.len(), matching.missing.len()), (0, 0));
    }

    #[test]
    fn the_history_only_grows_and_ids_are_stable_and_unique(life in a_life()) {
        let mut history = History::default();
        for answer in &life {
            let before = history.clone();
            let matching = history.poll(answer);
            prop_assert_eq!(&history.ids()[..before.known.len()], &before.ids()[..]);
            prop_assert_eq!(history.ids().into_iter().collect::<BTreeSet<_>>().len(), history.known.len());
            for (was, is) in before.known.iter().zip(&history.known) {
                prop_assert_eq!(was.fingerprints[0], is.fingerprints[0]);
                prop_assert!(was.revision <= is.revision && is.revision <= was.revision + 1);
            }
            let spoken = matching.revised.iter().map(|revised| revised.known);
            for known in spoken {
                prop_assert_eq!(before.known[known].revision + 1, history.known[known].revision);
            }
        }
    }

    #[test]
    fn every_event_is_classified_once(life in a_life()) {
        let mut history = History::default();
        for answer in life.iter().filter(|answer| !answer.is_empty()) {
            let before = history.clone();
            let matching = history.poll(answer);
            let pairs = matching.same.iter().chain(&matching.flapped).copied();
            let pairs: Vec<_> =
                pairs.chain(matching.revised.iter().map(|revised| (revised.known, revised.new))).collect();
            let news = pairs.iter().map(|&(_, new)| new).chain(matching.added.iter().map(|added| added.new));
            prop_assert_eq!(sorted(news), (0..answer.len()).collect::<Vec<_>>());
            let gone = matching.missing.iter().chain(&matching.retracted).chain(&matching.fell_off).copied();
            let live = (0..before.known.len()).filter(|&known| !before.known[known].retracted);
            let stays_off = (0..before.known.len()).filter(|&known| {
                before.known[known].fell_off && history.known[known].fell_off
            });
            let accounted = pairs.iter().map(|&(known, _)| known).chain(gone).chain(stays_off);
            prop_assert_eq!(sorted(accounted), sorted(live));
        }
    }

    #[test]
    fn the_result_does_not_depend_on_order(life in a_life(), answer in a_full_list(), seed in any::<u64>()) {
        let mut history = History::default();
        for answer in &life {
            history.poll(answer);
        }
        let mut shuffled = history.clone();
        let mut other = answer.clone();
        shuffle(&mut shuffled.known, seed);
        shuffle(&mut other, !seed);
        let (one, two) = (history.poll(&answer), shuffled.poll(&other));
        let result = |history: &History| {
            let mut known = history.known.clone();
            known.sort_by_key(|event| event.event_id);
            known
        };
        prop_assert_eq!(result(&history), result(&shuffled));
        let added = |matching: &Matching| {
            sorted(matching.added.iter().map(|added| (added.record.event_id, added.late_now, added.returned.is_some())))
        };
        prop_assert_eq!(added(&one), added(&two));
        let revised = |matching: &Matching, history: &History| {
            let revised = matching.revised.iter();
            sorted(revised.map(|revised| (history.known[revised.known].event_id, revised.changed.clone())))
        };
        prop_assert_eq!(revised(&one, &history), revised(&two, &shuffled));
    }

    #[test]
    fn a_shorter_list_retracts_at_the_second_poll((list, part) in shortened(), twice in any::<bool>()) {
        let mut history = History::of(&list);
        let ids = history.ids();
        let clocks = |drafts: &[Draft]| drafts.iter().filter_map(|draft| LocalTime::of(&draft.parse())).collect::<Vec<_>>();
        let reach = (clocks(&part).into_iter().min(), clocks(&part).into_iter().max());
        let falls_off = |draft: &&Draft| match (LocalTime::of(&draft.parse()), reach) {
            (Some(clock), (Some(first), Some(last))) => clock <= first && clock < last,
            _ => false,
        };
        let off = |drafts: &[Draft]| drafts.iter().filter(falls_off).count();
        // Events that fell off are neither retracted nor added again.
        let lost = list.len() - part.len() - (off(&list) - off(&part));
        prop_assert!(history.poll(&part).is_quiet());
        if twice {
            prop_assert_eq!(counts(&history.poll(&part)), (0, 0, lost));
        }
        let back = history.poll(&list);
        prop_assert_eq!(counts(&back), (if twice { lost } else { 0 }, 0, 0));
        prop_assert!(back.added.iter().all(|added| added.returned.is_some()));
        prop_assert_eq!(history.ids(), ids);
    }

    #[test]
    fn a_repeated_answer_is_announced_once(life in a_life(), answer in a_full_list()) {
        let mut history = History::default();
        for answer in &life {
            history.poll(answer);
        }
        // The second poll retracts missing events. From then on nothing changes.
        history.poll(&answer);
        history.poll(&answer);
        for _ in 0..2 {
            let matching = history.poll(&answer);
            prop_assert!(matching.is_quiet() && matching.updates.is_empty());
        }
    }

    #[test]
    fn two_alternating_answers_become_quiet((one, other) in (a_full_list(), a_full_list())) {
        let mut history = History::default();
        for _ in 0..6 {
            history.poll(&one);
            history.poll(&other);
        }
        for answer in [&one, &other, &one, &other] {
            prop_assert_eq!(counts(&history.poll(answer)), (0, 0, 0));
        }
    }

    #[test]
    fn two_alternating_spellings_become_quiet(
        edits in vec((an_event(), an_enrichment()), 1..8),
    ) {
        let one: Vec<_> = edits.iter().map(|(draft, _)| draft.clone()).collect();
        let other: Vec<_> = edits.iter().map(|(draft, fills)| enrich(draft, fills)).collect();
        let mut history = History::of(&one);
        for turn in 0..12 {
            let answer = if turn % 2 == 0 { &other } else { &one };
            let matching = history.poll(answer);
            prop_assert_eq!((matching.added.len(), matching.missing.len()), (0, 0));
            prop_assert!(turn < 8 || matching.is_quiet());
        }
    }

    #[test]
    fn an_empty_list_changes_nothing(life in a_life()) {
        let mut history = History::default();
        for answer in &life {
            history.poll(answer);
        }
        let before = history.known.clone();
        let matching = history.poll(&[]);
        prop_assert_eq!(matching.empty_after_full, before.iter().any(|event| !event.retracted));
        prop_assert_eq!(history.known, before);
    }

    #[test]
    fn added_events_are_announced_oldest_first(list in a_full_list()) {
        let answer: Vec<_> = list.iter().map(Draft::parse).collect();
        let matching = match_events(&label(), &[], &answer);
        prop_assert_eq!(matching.added.iter().map(|added| added.new).collect::<Vec<_>>(), oldest_first(&answer));
    }

    #[test]
    fn any_text_is_stable(raw in r#"\{("[a-z_]{0,3}":("[^"\\\x00-\x1f]{0,12}"|-?[1-9][0-9]{0,25}(\.[0-9]{1,3})?|null),){0,4}"occurred_at":"[^"\\\x00-\x1f]{0,24}"\}"#) {
        let mut history = History::default();
        if let Ok(event) = TrackingEvent::parse(&raw) {
            history.poll_events(std::slice::from_ref(&event));
            prop_assert!(history.poll_events(&[event]).is_quiet());
        }
    }
}

/// Permutes `items` by `seed`, with a linear congruential generator.
fn shuffle<T>(items: &mut [T], mut seed: u64) {
    for end in (1..items.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        items.swap(end, (seed >> 33) as usize % (end + 1));
    }
}
