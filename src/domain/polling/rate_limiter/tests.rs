use std::time::Duration;

use super::*;

fn at(seconds: i64) -> Timestamp {
    // 2026-11-10, so that no month ends.
    Timestamp::from_second(1_794_300_000 + seconds).unwrap()
}

/// A ledger whose requests are reserved already.
fn ledger(per_minute: u32, per_month: u64) -> Ledger {
    let mut ledger = unreserved(per_minute, per_month);
    ledger.reserved(1_000_000);
    ledger
}

fn unreserved(per_minute: u32, per_month: u64) -> Ledger {
    Ledger::new(
        Quota::new(per_minute),
        Budget::new(per_month, 0, 0, at(0)),
        Share::default(),
        AccountState::new(at(0)),
        per_minute,
        0.0,
    )
}

fn looks(ledger: &mut Ledger, now: Timestamp) -> usize {
    let looks = (0..1_000).take_while(|_| ledger.take(Errand::Look, now).is_ok()).count();
    (0..looks).for_each(|_| ledger.ended(now, now));
    looks
}

fn demand(rate: f64) -> Demand {
    Demand { labels: 9, rate, ..Demand::default() }
}

fn counted(ledger: &mut Ledger) -> Vec<(i64, u32)> {
    let ended = ledger.count().into_iter();
    ended.map(|ended| (ended.at.duration_since(at(0)).as_secs(), ended.requests)).collect()
}

#[test]
fn looks_and_other_errands_share_one_quota() {
    let mut ledger = ledger(10, 0);
    ledger.take(Errand::Other, at(0)).unwrap();
    ledger.ended(at(0), at(0));
    assert_eq!(looks(&mut ledger, at(0)), 9);
    assert_eq!(counted(&mut ledger), [(0, 10)], "all are counted");
}

#[test]
fn requests_are_counted_by_the_second_in_which_they_ended() {
    let mut ledger = ledger(10, 0);
    assert!((0..4).all(|_| ledger.take(Errand::Look, at(0)).is_ok()));
    ledger.ended(at(0), at(1));
    ledger.ended(at(0), at(1));
    ledger.ended(at(0), at(5));
    assert_eq!(counted(&mut ledger), [(1, 2), (5, 1)], "one is still in flight");
    ledger.ended(at(0), at(6));
    assert_eq!(counted(&mut ledger), [(6, 1)]);
    assert_eq!(counted(&mut ledger), []);
}

#[test]
fn requests_are_reserved_before_they_go_out() {
    let mut ledger = unreserved(60, 0);
    let refused = ledger.take(Errand::Look, at(0)).unwrap_err();
    assert_eq!((refused.reserve, refused.free_at), (Some(3), None));
    ledger.reserved(3);
    assert_eq!(looks(&mut ledger, at(0)), 3);
    assert_eq!(ledger.take(Errand::Look, at(0)).unwrap_err().reserve, Some(3));
    ledger.reserved(3);
    assert!(ledger.take(Errand::Look, at(0)).is_ok());
    assert_eq!((ledger.release(), ledger.release()), (2, 0), "what did not go out is given back, once");
    assert_eq!(unreserved(60, 50).take(Errand::Look, at(0)).unwrap_err().reserve, Some(2));
    assert_eq!(unreserved(5, 0).take(Errand::Look, at(0)).unwrap_err().reserve, Some(1));
}

#[test]
fn the_next_free_slot_is_kept_for_who_is_no_look() {
    let mut ledger = ledger(3, 0);
    assert_eq!(looks(&mut ledger, at(0)), 3);
    let free_at = ledger.take(Errand::Other, at(30)).unwrap_err().free_at.unwrap();
    assert!(ledger.take(Errand::Look, free_at).is_err());
    assert!(ledger.take(Errand::Other, free_at).is_ok());
    assert!(ledger.take(Errand::Look, free_at).is_ok());
}

#[test]
fn no_slot_is_kept_for_who_may_not_come_any_more() {
    let refused = || {
        let mut ledger = ledger(100, 1_000);
        looks(&mut ledger, at(0));
        let free_at = ledger.take(Errand::Other, at(0)).unwrap_err().free_at.unwrap();
        assert!(free_at > at(1_200), "of a small budget that is far off");
        ledger
    };
    let mut reloaded = refused();
    assert!(reloaded.take(Errand::Look, at(1)).is_err());
    reloaded.reopen(100, 0, false, at(1));
    assert!(reloaded.take(Errand::Look, at(1)).is_ok());
    let mut set_back = ledger(3, 0);
    assert_eq!(looks(&mut set_back, at(9_000)), 3);
    set_back.take(Errand::Other, at(9_000)).unwrap_err();
    let free_at = set_back.take(Errand::Look, at(0)).unwrap_err().free_at.unwrap();
    assert!(free_at < at(62), "{free_at}");
    assert!(set_back.take(Errand::Look, free_at).is_ok());
}

#[test]
fn a_fallen_account_is_probed_by_one_look() {
    let mut ledger = ledger(100, 0);
    let call = ledger.take(Errand::Look, at(0)).unwrap();
    ledger.ended(at(0), at(0));
    let refused = Verdict::Unauthorized { detail: "401".to_owned() };
    assert_eq!(ledger.observe(Some(1), &refused, call, at(0)).change, Some(AccountChange::Refused));
    assert_eq!(ledger.take(Errand::Look, at(1)).unwrap_err().free_at, Some(at(60)));
    assert!(ledger.take(Errand::Other, at(60)).is_err());
    assert!(ledger.take(Errand::Look, at(60)).unwrap().probe);
    assert!(ledger.take(Errand::Look, at(60)).is_err());
    ledger.ended(at(60), at(60));
    ledger.reopen(100, 0, true, at(61));
    assert!(ledger.take(Errand::Look, at(61)).unwrap().probe, "another key is tried at once");
}

#[test]
fn a_429_stops_everybody_and_a_second_one_shrinks_the_share() {
    let mut ledger = ledger(100, 0);
    for now in [0, 100] {
        let call = ledger.take(Errand::Look, at(now)).unwrap();
        assert!((1..80).all(|_| ledger.take(Errand::Look, at(now)).is_ok()));
        (0..80).for_each(|_| ledger.ended(at(now), at(now)));
        let throttled = Verdict::Throttled { retry_after: Duration::from_secs(30) };
        let seen = ledger.observe(Some(1), &throttled, call, at(now));
        assert_eq!(seen.share, (now > 0).then_some(0.6000000000000001));
        for errand in [Errand::Look, Errand::Other] {
            assert_eq!(ledger.take(errand, at(now + 29)).unwrap_err().free_at, Some(at(now + 30)));
        }
    }
    assert!(ledger.share_to_record().is_some());
    assert_eq!(ledger.share_to_record(), None);
    assert_eq!(looks(&mut ledger, at(200)), 61);
}

#[test]
fn a_month_that_is_used_up_is_said_once() {
    let mut ledger = ledger(100, 3);
    let mut now = at(0);
    for _ in 0..3 {
        while let Err(refusal) = ledger.take(Errand::Look, now) {
            now = refusal.free_at.unwrap();
        }
        ledger.ended(now, now);
    }
    let end = Month::of(now).end;
    let refusals: Vec<Refusal> = (0..2).map(|_| ledger.take(Errand::Look, now).unwrap_err()).collect();
    assert_eq!(refusals.iter().map(|refusal| refusal.used_up).collect::<Vec<_>>(), [true, false]);
    assert_eq!(refusals[1].free_at, Some(end));
    let next =
        ledger.take(Errand::Look, end).map_or_else(|refusal| refusal.free_at, |call| Some(call.sent_at));
    assert!(
        next.unwrap().duration_since(end) < SignedDuration::from_hours(24 * 8),
        "a new month's even share"
    );
}

#[test]
fn while_more_is_asked_than_given_calls_are_even() {
    let mut ledger = ledger(60, 0);
    assert_eq!(ledger.asks(demand(0.5), at(0)), None);
    assert_eq!(looks(&mut ledger, at(0)), 60);
    assert_eq!(ledger.asks(demand(1.5), at(100)), Some(1.5));
    assert_eq!(ledger.asks(demand(1.6), at(100)), None);
    assert_eq!(looks(&mut ledger, at(100)), 1);
    assert_eq!(looks(&mut ledger, at(101)), 1);
    assert_eq!(ledger.asks(demand(0.9), at(102)), Some(1.0));
}

/// In real time never more than the limit a minute, whatever the wall clock does meanwhile.
#[test]
fn a_jump_of_the_clock_neither_opens_nor_blocks_the_quota() {
    for zigzag in [[120, -120], [-3_600, 3_600], [86_400, -86_400], [90, 90], [-90, -90]] {
        let mut ledger = ledger(40, 0);
        let (mut skew, mut sent) = (0, Vec::new());
        for second in 0..600 {
            // After 45 s, and every 30 s.
            if second >= 45 && second % 30 == 15 {
                skew += zigzag[second as usize / 30 % 2];
            }
            let now = at(second + skew);
            ledger.skewed(SignedDuration::from_secs(skew), now);
            sent.extend(std::iter::repeat_n(second, looks(&mut ledger, now)));
        }
        for begin in 0..600 {
            let within = sent.iter().filter(|second| (begin..begin + 60).contains(*second)).count();
            assert!(within <= 40, "{zigzag:?}: {within} in the minute from {begin} s on");
        }
        assert!(sent.len() >= 9 * 40, "{zigzag:?}: only {} in ten minutes", sent.len());
    }
}

#[test]
fn an_account_waits_as_long_after_a_jump_as_before() {
    for skew in [-3_600, 3_600] {
        let mut ledger = ledger(40, 0);
        ledger.state.throttled_until = Some(at(60));
        let now = at(10 + skew);
        ledger.skewed(SignedDuration::from_secs(skew), now);
        assert_eq!(ledger.state.open_at(now), Some(at(60 + skew)));
    }
}
