//! A simulated vendor and process: discovery registers each label once, also if the list changes between two pages.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::walk::{HOLD, OVERLAP};
use super::*;
use crate::domain::account::Discover;

/// A label of the simulated vendor.
#[derive(Clone, Debug)]
struct Made {
    /// `created_at` in ms.
    created_ms: i64,
    /// When it appears in the list, within the overlap.
    shows_ms: i64,
    /// When it is completed.
    completed_ms: i64,
    voided_ms: Option<i64>,
}

/// The simulated vendor: filters and sorts as the list does at `now`.
fn answer(made: &[Made], request: ListRequest, size: usize, now: i64) -> ListPage {
    let ms = |at: Timestamp| at.as_millisecond() - NOON * 1000;
    let state = |made: &Made| match made.voided_ms {
        Some(voided) if voided <= now => ListedState::Voided,
        _ if made.completed_ms > now => ListedState::Undecided,
        _ => ListedState::Tracked,
    };
    let mut listed: Vec<(usize, &Made)> = made
        .iter()
        .enumerate()
        .filter(|(_, made)| made.shows_ms <= now && made.created_ms >= ms(request.created_from))
        .filter(|(_, made)| !request.voided_only || state(made) == ListedState::Voided)
        .collect();
    listed.sort_by_key(|(_, made)| made.created_ms);
    let pages = listed.len().div_ceil(size);
    let first = (request.page as usize - 1) * size;
    let labels = listed.into_iter().skip(first).take(size).map(|(number, made)| ListedLabel {
        created_at: Some(Timestamp::from_millisecond(NOON * 1000 + made.created_ms).unwrap()),
        ..label(number, 0, state(made))
    });
    ListPage { labels: labels.collect(), more: (request.page as usize) < pages, invalid_ids: 0 }
}

/// Time between a crash and the restart.
const DEAD_MS: i64 = 600_000;
/// So many that the pause between two pages is a few milliseconds.
const REQUESTS_A_SECOND: f64 = 1_000.0;

fn a_label() -> impl Strategy<Value = Made> {
    // Days without labels, and many labels within one second.
    let created = prop_oneof![0i64..3 * 86_400_000, 40_000_000i64..40_001_000, 9_000i64..9_003];
    let late = 0..OVERLAP.as_secs() * 1000;
    // An answer takes some seconds; the hold must not end in this time.
    let making = prop_oneof![Just(0), 0..(HOLD.as_secs() - OVERLAP.as_secs() - 10) * 1000];
    let void = prop::option::weighted(0.2, 0i64..86_400_000);
    (created, late, making, void).prop_map(|(created_ms, late, making, void)| Made {
        created_ms,
        shows_ms: created_ms + late,
        completed_ms: created_ms + late + making,
        voided_ms: void.map(|void| created_ms + late + void),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// For any order of arrival, page size, shift between two pages and crash: each trackable label is registered once,
    /// each voided label is dropped, and no voided label is registered.
    #[test]
    fn every_label_is_added_exactly_once(
        made in prop::collection::vec(a_label(), 1..120),
        size in 1usize..12,
        // The time of a page, and whether the process dies after it: before the write, after it, or not.
        crashes in prop::collection::vec((0i64..4_000, 0u8..12), 1..60),
    ) {
        let end = 5 * 86_400_000;
        let moment = |ms: i64| Timestamp::from_millisecond(NOON * 1000 + ms).unwrap();
        let (mut now, mut calls, mut pages) = (0i64, 0usize, 0usize);
        let lookback = Duration::from_secs(3600);
        let discover = Discover { enabled: true, interval: Duration::from_secs(3 * 3600), lookback };
        let mut kept = DiscoveryProgress::default();
        let mut walker = Walker::new(discover, kept);
        let mut registry: BTreeMap<String, bool> = BTreeMap::new();
        let mut taken_up: Vec<String> = Vec::new();
        while now < end {
            let request = match walker.next_request(moment(now)) {
                Ok(request) => request,
                Err(at) => {
                    now = (at.as_millisecond() - NOON * 1000).max(now + 1);
                    continue;
                }
            };
            let listed = answer(&made, request, size, now);
            // The first walk starts, and the process survives the second half: otherwise nothing can be guaranteed.
            let lives = kept.position.is_none() || now > end / 2;
            let (took, death) = if lives { (1_000, 9) } else { crashes[calls % crashes.len()] };
            (calls, pages) = (calls + 1, pages + 1);
            prop_assert!(pages <= 2 * made.len() + 1, "the walk ends");
            now += took;
            if death > 0 {
                let taken = walker.take(listed, REQUESTS_A_SECOND, moment(now));
                prop_assert!(!taken.filter_ignored);
                for label in taken.tracked {
                    let id = label.id.to_string();
                    if registry.insert(id.clone(), true).is_none() {
                        taken_up.push(id);
                    }
                }
                for id in taken.voided {
                    registry.insert(id.to_string(), false);
                }
                kept = walker.progress();
                pages = if taken.done { 0 } else { pages };
            }
            if death < 2 {
                (walker, pages) = (Walker::new(discover, kept), 0);
                now += DEAD_MS;
            }
        }
        let once: BTreeSet<&String> = taken_up.iter().collect();
        prop_assert_eq!(once.len(), taken_up.len());
        for (number, made) in made.iter().enumerate() {
            let polled = registry.get(&format!("se-{number}")).copied();
            match made.voided_ms {
                Some(_) => prop_assert_ne!(polled, Some(true), "se-{} is void: {:?}", number, made),
                None => prop_assert_eq!(polled, Some(true), "se-{} is missed: {:?}", number, made),
            }
        }
    }
}
