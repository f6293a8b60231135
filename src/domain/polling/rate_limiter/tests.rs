use std::time::Duration;

use super::*;

fn at(seconds: i64) -> Timestamp {
    // 2026-11-10, so that no month ends.
    Timestamp::from_second(1_794_300_000 + seconds).unwrap()
}

/// A limiter with reserved requests.
fn limiter(per_minute: u32, per_month: u64) -> RateLimiter {
    let mut limiter = unreserved(per_minute, per_month);
    limiter.add_reserved(1_000_000);
    limiter
}

fn unreserved(per_minute: u32, per_month: u64) -> RateLimiter {
    RateLimiter::new(
        Quota::new(per_minute),
        Budget::new(per_month, 0, at(0)),
        AdaptiveLimit::default(),
        AccountState::new(at(0)),
        per_minute,
        0.0,
    )
}

fn looks(limiter: &mut RateLimiter, now: Timestamp) -> usize {
    let looks = (0..1_000).take_while(|_| limiter.acquire(RequestKind::Poll, now).is_ok()).count();
    (0..looks).for_each(|_| limiter.end_request(now, now));
    looks
}

fn demand(rate: f64) -> Demand {
    Demand { labels: 9, rate, ..Demand::default() }
}

fn counted(limiter: &mut RateLimiter) -> Vec<(i64, u32)> {
    let ended = limiter.take_ended().into_iter();
    ended.map(|ended| (ended.at.duration_since(at(0)).as_secs(), ended.requests)).collect()
}

#[test]
fn polls_and_other_requests_share_one_quota() {
    let mut limiter = limiter(10, 0);
    limiter.acquire(RequestKind::Other, at(0)).unwrap();
    limiter.end_request(at(0), at(0));
    assert_eq!(looks(&mut limiter, at(0)), 9);
    assert_eq!(counted(&mut limiter), [(0, 10)], "all are counted");
}

#[test]
fn requests_are_counted_by_the_second_in_which_they_ended() {
    let mut limiter = limiter(10, 0);
    assert!((0..4).all(|_| limiter.acquire(RequestKind::Poll, at(0)).is_ok()));
    limiter.end_request(at(0), at(1));
    limiter.end_request(at(0), at(1));
    limiter.end_request(at(0), at(5));
    assert_eq!(counted(&mut limiter), [(1, 2), (5, 1)], "one is still in flight");
    limiter.end_request(at(0), at(6));
    assert_eq!(counted(&mut limiter), [(6, 1)]);
    assert_eq!(counted(&mut limiter), []);
}

#[test]
fn requests_are_reserved_before_they_are_sent() {
    let mut limiter = unreserved(60, 0);
    let refused = limiter.acquire(RequestKind::Poll, at(0)).unwrap_err();
    assert_eq!((refused.reserve, refused.free_at), (Some(3), None));
    limiter.add_reserved(3);
    assert_eq!(looks(&mut limiter, at(0)), 3);
    assert_eq!(limiter.acquire(RequestKind::Poll, at(0)).unwrap_err().reserve, Some(3));
    limiter.add_reserved(3);
    assert!(limiter.acquire(RequestKind::Poll, at(0)).is_ok());
    assert_eq!(
        (limiter.take_reserved(), limiter.take_reserved()),
        (2, 0),
        "unsent requests are returned once"
    );
    assert_eq!(unreserved(60, 50).acquire(RequestKind::Poll, at(0)).unwrap_err().reserve, Some(2));
    assert_eq!(unreserved(5, 0).acquire(RequestKind::Poll, at(0)).unwrap_err().reserve, Some(1));
}

#[test]
fn the_next_permit_is_reserved_for_other_requests() {
    let mut limiter = limiter(3, 0);
    assert_eq!(looks(&mut limiter, at(0)), 3);
    let free_at = limiter.acquire(RequestKind::Other, at(30)).unwrap_err().free_at.unwrap();
    assert!(limiter.acquire(RequestKind::Poll, free_at).is_err());
    assert!(limiter.acquire(RequestKind::Other, free_at).is_ok());
    assert!(limiter.acquire(RequestKind::Poll, free_at).is_ok());
}

#[test]
fn no_permit_is_reserved_for_an_abandoned_request() {
    let refused = || {
        let mut limiter = limiter(100, 1_000);
        looks(&mut limiter, at(0));
        let free_at = limiter.acquire(RequestKind::Other, at(0)).unwrap_err().free_at.unwrap();
        assert!(free_at > at(1_200), "with a small budget the next request is far off");
        limiter
    };
    let mut reloaded = refused();
    assert!(reloaded.acquire(RequestKind::Poll, at(1)).is_err());
    reloaded.reopen(100, 0, false, at(1));
    assert!(reloaded.acquire(RequestKind::Poll, at(1)).is_ok());
    let mut set_back = limiter(3, 0);
    assert_eq!(looks(&mut set_back, at(9_000)), 3);
    set_back.acquire(RequestKind::Other, at(9_000)).unwrap_err();
    let free_at = set_back.acquire(RequestKind::Poll, at(0)).unwrap_err().free_at.unwrap();
    assert!(free_at < at(62), "{free_at}");
    assert!(set_back.acquire(RequestKind::Poll, free_at).is_ok());
}

#[test]
fn an_account_that_is_down_is_probed_by_one_poll() {
    let mut limiter = limiter(100, 0);
    let allowed = limiter.acquire(RequestKind::Poll, at(0)).unwrap();
    limiter.end_request(at(0), at(0));
    let refused = AccountSignal::Unauthorized { detail: "401".to_owned() };
    assert_eq!(limiter.observe(Some(1), &refused, allowed, at(0)).change, Some(AccountChange::Refused));
    assert_eq!(limiter.acquire(RequestKind::Poll, at(1)).unwrap_err().free_at, Some(at(60)));
    assert!(limiter.acquire(RequestKind::Other, at(60)).is_err());
    assert!(limiter.acquire(RequestKind::Poll, at(60)).unwrap().probe);
    assert!(limiter.acquire(RequestKind::Poll, at(60)).is_err());
    limiter.end_request(at(60), at(60));
    limiter.reopen(100, 0, true, at(61));
    assert!(limiter.acquire(RequestKind::Poll, at(61)).unwrap().probe, "a new key is probed at once");
}

#[test]
fn a_429_stops_all_requests_and_a_second_one_lowers_the_adaptive_limit() {
    let mut limiter = limiter(100, 0);
    for now in [0, 100] {
        let allowed = limiter.acquire(RequestKind::Poll, at(now)).unwrap();
        assert!((1..80).all(|_| limiter.acquire(RequestKind::Poll, at(now)).is_ok()));
        (0..80).for_each(|_| limiter.end_request(at(now), at(now)));
        let throttled = AccountSignal::Throttled { wait: Duration::from_secs(30) };
        let seen = limiter.observe(Some(1), &throttled, allowed, at(now));
        assert_eq!(seen.lowered_to, (now > 0).then_some(0.6000000000000001));
        for kind in [RequestKind::Poll, RequestKind::Other] {
            assert_eq!(limiter.acquire(kind, at(now + 29)).unwrap_err().free_at, Some(at(now + 30)));
        }
    }
    assert!(limiter.take_changed_limit().is_some());
    assert_eq!(limiter.take_changed_limit(), None);
    assert_eq!(looks(&mut limiter, at(200)), 61);
}

#[test]
fn a_used_up_month_is_logged_once() {
    let mut limiter = limiter(100, 3);
    let mut now = at(0);
    for _ in 0..3 {
        while let Err(refusal) = limiter.acquire(RequestKind::Poll, now) {
            now = refusal.free_at.unwrap();
        }
        limiter.end_request(now, now);
    }
    let end = Month::of(now).end;
    let refusals: Vec<Denied> =
        (0..2).map(|_| limiter.acquire(RequestKind::Poll, now).unwrap_err()).collect();
    assert_eq!(refusals.iter().map(|refusal| refusal.used_up).collect::<Vec<_>>(), [true, false]);
    assert_eq!(refusals[1].free_at, Some(end));
    let next = limiter
        .acquire(RequestKind::Poll, end)
        .map_or_else(|refusal| refusal.free_at, |allowed| Some(allowed.sent_at));
    assert!(
        next.unwrap().duration_since(end) < SignedDuration::from_hours(24 * 8),
        "a new month's even share"
    );
}

#[test]
fn requests_are_spaced_evenly_while_demand_exceeds_the_quota() {
    let mut limiter = limiter(60, 0);
    assert_eq!(limiter.set_demand(demand(0.5), at(0)), None);
    assert_eq!(looks(&mut limiter, at(0)), 60);
    assert_eq!(limiter.set_demand(demand(1.5), at(100)), Some(1.5));
    assert_eq!(limiter.set_demand(demand(1.6), at(100)), None);
    assert_eq!(looks(&mut limiter, at(100)), 1);
    assert_eq!(looks(&mut limiter, at(101)), 1);
    assert_eq!(limiter.set_demand(demand(0.9), at(102)), Some(1.0));
}

/// In real time, requests never exceed the limit a minute, for any jumps of the wall clock.
#[test]
fn a_clock_jump_does_not_change_the_quota() {
    for zigzag in [[120, -120], [-3_600, 3_600], [86_400, -86_400], [90, 90], [-90, -90]] {
        let mut limiter = limiter(40, 0);
        let (mut skew, mut sent) = (0, Vec::new());
        for second in 0..600 {
            // After 45 s, and every 30 s.
            if second >= 45 && second % 30 == 15 {
                skew += zigzag[second as usize / 30 % 2];
            }
            let now = at(second + skew);
            limiter.set_skew(SignedDuration::from_secs(skew), now);
            sent.extend(std::iter::repeat_n(second, looks(&mut limiter, now)));
        }
        for begin in 0..600 {
            let within = sent.iter().filter(|second| (begin..begin + 60).contains(*second)).count();
            assert!(within <= 40, "{zigzag:?}: {within} in the minute from {begin} s on");
        }
        assert!(sent.len() >= 9 * 40, "{zigzag:?}: only {} in ten minutes", sent.len());
    }
}

#[test]
fn a_clock_jump_does_not_change_the_wait_of_an_account() {
    for skew in [-3_600, 3_600] {
        let mut limiter = limiter(40, 0);
        limiter.state.throttled_until = Some(at(60));
        let now = at(10 + skew);
        limiter.set_skew(SignedDuration::from_secs(skew), now);
        assert_eq!(limiter.state.open_at(now), Some(at(60 + skew)));
    }
}
