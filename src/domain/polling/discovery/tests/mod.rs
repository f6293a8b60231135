mod completeness;

use super::walk::{HOLD, OVERLAP};
use super::*;

const NOON: i64 = 1_790_000_000;
const LOOKBACK: Duration = Duration::from_secs(14 * 86_400);
const INTERVAL: Duration = Duration::from_secs(300);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOON + seconds).unwrap()
}

fn label(number: usize, created_at: i64, state: ListedState) -> ListedLabel {
    ListedLabel {
        id: format!("se-{number}").parse().unwrap(),
        created_at: Some(at(created_at)),
        state,
        metadata: Metadata::new(),
    }
}

fn page(labels: Vec<ListedLabel>, more: bool) -> ListPage {
    ListPage { labels, more, invalid_ids: 0 }
}

fn ids(labels: &[ListedLabel]) -> Vec<&str> {
    labels.iter().map(|label| label.id.as_str()).collect()
}

#[test]
fn each_label_is_classified() {
    for (status, voided, trackable, state) in [
        (Some("completed"), Some(false), Some(true), ListedState::Tracked),
        (Some("Completed"), None, None, ListedState::Tracked),
        (Some("completed"), Some(false), Some(false), ListedState::Untracked),
        (Some("completed"), Some(true), Some(true), ListedState::Voided),
        (Some("voided"), Some(false), None, ListedState::Voided),
        (Some("processing"), Some(false), Some(true), ListedState::Undecided),
        (Some("error"), Some(false), Some(true), ListedState::Untracked),
        (Some("archived"), None, Some(true), ListedState::Tracked),
        (Some("archived"), None, None, ListedState::Undecided),
        (None, None, Some(true), ListedState::Tracked),
        (None, None, Some(false), ListedState::Undecided),
    ] {
        assert_eq!(ListedState::of(status, voided, trackable), state, "{status:?} {voided:?} {trackable:?}");
    }
}

#[test]
fn the_first_walk_goes_back_and_later_ones_from_the_position() {
    let request = |walk: &Walk| {
        (walk.request().created_from.as_second() - NOON, walk.request().page, walk.request().voided_only)
    };
    assert_eq!(request(&Walk::for_new_labels(None, LOOKBACK, at(0))), (-14 * 86_400, 1, false));
    let position = Some(at(-1000));
    assert_eq!(
        request(&Walk::for_new_labels(position, LOOKBACK, at(0))),
        (-1000 - OVERLAP.as_secs(), 1, false)
    );
    assert_eq!(
        request(&Walk::for_new_labels(position, LOOKBACK, at(9_000_000))).0,
        -1000 - OVERLAP.as_secs()
    );
    assert_eq!(request(&Walk::for_voids(None, LOOKBACK, at(0))), (-30 * 86_400, 1, true));
    assert_eq!(request(&Walk::for_voids(None, Duration::from_secs(90 * 86_400), at(0))).0, -90 * 86_400);
    let ahead = at(28 * 86_400);
    assert_eq!(
        request(&Walk::for_voids(position, LOOKBACK, ahead)).0,
        -1000 - 30 * 86_400,
        "our clock is ahead"
    );
}

#[test]
fn a_walk_follows_the_creation_time_and_uses_page_numbers_only_within_a_second() {
    let mut walk = Walk::for_new_labels(Some(at(0)), LOOKBACK, at(5000));
    let taken = walk.take(
        page(vec![label(1, 10, ListedState::Tracked), label(2, 20, ListedState::Tracked)], true),
        at(5000),
    );
    assert_eq!(
        (ids(&taken.tracked), taken.position, taken.done),
        (vec!["se-1", "se-2"], Some(at(20)), false)
    );
    assert_eq!((walk.request().created_from, walk.request().page), (at(20), 1));
    walk.take(
        page(vec![label(2, 20, ListedState::Tracked), label(3, 20, ListedState::Tracked)], true),
        at(5000),
    );
    assert_eq!((walk.request().created_from, walk.request().page), (at(20), 2));
    let taken = walk.take(
        page(vec![label(4, 20, ListedState::Tracked), label(5, 21, ListedState::Tracked)], false),
        at(5000),
    );
    assert_eq!((taken.position, taken.done), (Some(at(21)), true));
}

#[test]
fn an_unsorted_list_is_read_completely_before_the_position_moves() {
    let mut walk = Walk::for_new_labels(Some(at(0)), LOOKBACK, at(5000));
    let taken = walk.take(
        page(vec![label(2, 90, ListedState::Tracked), label(1, 10, ListedState::Tracked)], true),
        at(5000),
    );
    assert_eq!((taken.position, taken.tracked.len()), (None, 2));
    assert_eq!((walk.request().created_from, walk.request().page), (at(-OVERLAP.as_secs()), 2));
    let taken = walk.take(page(vec![label(3, 5, ListedState::Tracked)], false), at(5000));
    assert_eq!((taken.position, taken.done), (Some(at(90)), true));
}

#[test]
fn a_list_without_an_end_ends_the_walk() {
    // The list always returns the first page: all in one second, or unsorted.
    for (created, position) in [([10, 10], Some(at(10))), ([20, 10], None)] {
        let mut walk = Walk::for_new_labels(Some(at(0)), LOOKBACK, at(5000));
        let listed =
            vec![label(1, created[0], ListedState::Tracked), label(2, created[1], ListedState::Tracked)];
        let turned = (0..9).map(|_| walk.take(page(listed.clone(), true), at(5000)));
        let ended = turned.enumerate().find(|(_, taken)| taken.done);
        let (pages, taken) = ended.expect("the walk ends");
        assert!(pages < 6 && taken.endless);
        assert_eq!((ids(&taken.tracked), taken.position), (vec!["se-1", "se-2"], position));
    }
    // The list returns a new label each time.
    let mut walk = Walk::for_new_labels(Some(at(0)), LOOKBACK, at(5000));
    let ended =
        (0..20_000).find(|n| walk.take(page(vec![label(*n, 5, ListedState::Tracked)], true), at(5000)).done);
    assert!(ended.is_some());
}

#[test]
fn an_empty_list_sets_the_position() {
    let mut walk = Walk::for_new_labels(None, LOOKBACK, at(0));
    let taken = walk.take(page(Vec::new(), false), at(0));
    assert_eq!((taken.position, taken.done), (Some(at(-14 * 86_400)), true));
}

#[test]
fn a_date_in_the_future_does_not_move_the_position() {
    let mut walk = Walk::for_new_labels(Some(at(0)), LOOKBACK, at(60));
    let taken = walk.take(page(vec![label(1, 900_000, ListedState::Tracked)], false), at(60));
    assert_eq!((ids(&taken.tracked), taken.position), (vec!["se-1"], Some(at(60))));
}

#[test]
fn an_incomplete_label_holds_the_position_until_much_newer_labels_are_seen() {
    let hold = HOLD.as_secs();
    for (newest, position) in [(30, 10), (10 + hold - 1, 10), (10 + hold, 10 + hold)] {
        for ahead in [hold + 20, 400 * 86_400] {
            let mut walk = Walk::for_new_labels(Some(at(0)), LOOKBACK, at(ahead));
            let listed = vec![label(1, 10, ListedState::Undecided), label(2, newest, ListedState::Tracked)];
            let taken = walk.take(page(listed, false), at(ahead));
            assert_eq!((ids(&taken.tracked), taken.position), (vec!["se-2"], Some(at(position))), "{newest}");
        }
    }
}

#[test]
fn a_walk_for_voids_adds_no_labels_and_stops_if_the_filter_is_ignored() {
    let mut walk = Walk::for_voids(None, LOOKBACK, at(0));
    let taken = walk.take(
        page(vec![label(1, -50, ListedState::Voided), label(2, -40, ListedState::Voided)], true),
        at(0),
    );
    assert_eq!((taken.voided.len(), taken.position, taken.done), (2, None, false));
    let taken = walk.take(
        page(vec![label(3, -30, ListedState::Tracked), label(4, -20, ListedState::Voided)], true),
        at(0),
    );
    assert_eq!(
        (taken.tracked.len(), taken.voided.len(), taken.done, taken.filter_ignored),
        (0, 1, true, true)
    );
}

#[test]
fn labels_older_than_the_walk_are_ignored() {
    let mut walk = Walk::for_new_labels(None, Duration::from_secs(60), at(0));
    let taken = walk.take(
        page(vec![label(1, -61, ListedState::Tracked), label(2, -60, ListedState::Tracked)], false),
        at(0),
    );
    assert_eq!(ids(&taken.tracked), ["se-2"]);
}

#[test]
fn new_labels_go_before_voids_and_a_clock_set_back_delays_nothing() {
    let fresh = DiscoveryProgress::default();
    assert_eq!(fresh.next_walk(None, None, INTERVAL, at(0)), Ok(WalkPurpose::NewLabels));
    assert_eq!(
        fresh.next_walk(Some(WalkPurpose::NewLabels), Some(at(300)), INTERVAL, at(0)),
        Ok(WalkPurpose::Voids)
    );
    let searched = DiscoveryProgress { voids_searched_at: Some(at(0)), ..fresh };
    assert_eq!(
        searched.next_walk(Some(WalkPurpose::NewLabels), Some(at(300)), INTERVAL, at(1)),
        Err(at(300))
    );
    assert_eq!(
        searched.next_walk(Some(WalkPurpose::NewLabels), Some(at(7200)), Duration::from_secs(7200), at(3700)),
        Err(at(7200))
    );
    assert_eq!(
        searched.next_walk(Some(WalkPurpose::NewLabels), Some(at(3900)), INTERVAL, at(3600)),
        Ok(WalkPurpose::Voids)
    );
    assert_eq!(
        searched.next_walk(Some(WalkPurpose::NewLabels), Some(at(0)), INTERVAL, at(-9000)),
        Ok(WalkPurpose::Voids)
    );
    assert_eq!(
        searched.next_walk(Some(WalkPurpose::NewLabels), Some(at(90_000)), INTERVAL, at(1)),
        Err(at(301))
    );
}

#[test]
fn walks_for_new_labels_and_voids_take_turns() {
    let fresh = DiscoveryProgress::default();
    // The pause was longer than the interval, so new labels are due at each step.
    assert_eq!(
        fresh.next_walk(Some(WalkPurpose::NewLabels), Some(at(0)), INTERVAL, at(960)),
        Ok(WalkPurpose::Voids)
    );
    // The walk for voids failed, so it is still due.
    assert_eq!(
        fresh.next_walk(Some(WalkPurpose::Voids), Some(at(0)), INTERVAL, at(1920)),
        Ok(WalkPurpose::NewLabels)
    );
    let searched = DiscoveryProgress { voids_searched_at: Some(at(960)), ..fresh };
    assert_eq!(
        searched.next_walk(Some(WalkPurpose::NewLabels), Some(at(0)), INTERVAL, at(1920)),
        Ok(WalkPurpose::NewLabels)
    );
}

#[test]
fn a_walk_leaves_three_requests_in_four_to_the_polls() {
    assert_eq!(pause(160.0 / 60.0, at(0)), SignedDuration::from_millis(1500));
    assert_eq!(pause(1.0 / 60.0, at(0)), SignedDuration::from_secs(240));
    let (start, end) = (Month::of(at(0)).start, Month::of(at(0)).end);
    assert_eq!(pause(1.0 / 86_400.0, start).as_hours(), 96, "with one request a day, every fourth");
    assert_eq!(
        [pause(0.0, at(0)), pause(1e-9, at(0)), pause(-1.0, at(0))],
        [end.duration_since(at(0)); 3],
        "it ends with the month"
    );
    assert_eq!([1, 2, 7, 99].map(|n| retry_in(n).as_secs()), [60, 120, 3600, 3600]);
}

#[test]
fn a_refused_list_does_not_stop_working_polls() {
    let refused = |status| Reading::Unauthorized { status, detail: String::new() };
    let nowhere = Reading::WrongEndpoint { status: None, url: String::new(), detail: String::new() };
    for (failure, concerns, with_recent_answer) in [
        (None, false, false),
        (Some(refused(401)), true, true),
        (Some(refused(403)), true, false),
        (Some(nowhere), true, false),
        (Some(Reading::Throttled { retry_after: None }), true, true),
        (Some(Reading::ServerError { status: 500 }), true, true),
        (Some(Reading::Refused { status: 400, detail: String::new() }), false, false),
    ] {
        let concerned =
            |probe, recently_answered| account_signal(failure.as_ref(), probe, recently_answered).is_some();
        assert_eq!(concerned(false, false), concerns, "{failure:?}");
        assert_eq!(concerned(false, true), with_recent_answer, "{failure:?}");
        assert!(concerned(true, true), "a probe always gives a signal");
    }
}
