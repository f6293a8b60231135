use super::*;
use crate::domain::delivery::outcome::{DueReason, Plan};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

fn delivery(lane: i64, key: i64, due: i64) -> PendingDelivery {
    let content = MessageContent {
        message_id: format!("msg_{key}"),
        kind: "tracking.updated".to_owned(),
        label_id: None,
        seq: None,
        body: "x".repeat(10),
        resource_url: None,
    };
    PendingDelivery {
        key,
        message: Arc::new(content),
        format: Format::Standard,
        lane: Some(lane),
        place: key,
        attempts: 0,
        schedule: DeliverySchedule::first(at(due)),
    }
}

fn outbox(deliveries: usize, bytes: usize) -> Outbox {
    Outbox::new(Limit { deliveries, bytes })
}

fn again(seconds: i64) -> Option<(u32, DeliverySchedule)> {
    let next = Plan { at: at(seconds), reason: DueReason::Spared };
    Some((1, DeliverySchedule { next, ..DeliverySchedule::first(at(0)) }))
}

fn take(outbox: &mut Outbox, kind: Kind, now: i64) -> Option<i64> {
    outbox.take(kind, at(now)).map(|delivery| delivery.key)
}

#[test]
fn a_lane_has_one_head_and_none_while_it_is_in_flight() {
    let mut outbox = outbox(10, 1_000);
    [delivery(1, 1, 0), delivery(1, 2, 0), delivery(2, 3, 1)].into_iter().for_each(|new| outbox.add(new));
    assert_eq!(outbox.due(Kind::First, at(5), 9), 2);
    assert_eq!(take(&mut outbox, Kind::First, 5), Some(1));
    assert_eq!(take(&mut outbox, Kind::First, 5), Some(3));
    assert_eq!(take(&mut outbox, Kind::First, 5), None, "2 waits for 1");
    outbox.add(delivery(1, 1, 0));
    outbox.settled((1, 1, 1), again(60));
    assert_eq!((outbox.next_due(at(5)), take(&mut outbox, Kind::First, 5)), (Some(at(60)), None));
    assert_eq!(take(&mut outbox, Kind::Retry, 60), Some(1), "it is a retry now");
    outbox.settled((1, 1, 1), None);
    assert_eq!(take(&mut outbox, Kind::First, 60), Some(2));
}

#[test]
fn what_is_handed_over_and_read_is_taken_once() {
    let mut outbox = outbox(10, 1_000);
    outbox.add(delivery(1, 1, 0));
    assert_eq!(take(&mut outbox, Kind::First, 0), Some(1));
    // Read while it is in flight, and handed over late.
    outbox.load(Loaded { deliveries: vec![delivery(1, 1, 0), delivery(1, 2, 0)], left_out: None });
    outbox.add(delivery(1, 1, 0));
    outbox.add(delivery(1, 2, 0));
    assert_eq!(take(&mut outbox, Kind::First, 0), None);
    outbox.settled((1, 1, 1), None);
    assert_eq!(take(&mut outbox, Kind::First, 0), Some(2));
    outbox.settled((1, 2, 2), None);
    assert_eq!((take(&mut outbox, Kind::First, 0), outbox.deliveries, outbox.bytes), (None, 0, 0));
}

#[test]
fn memory_is_bounded_by_number_and_by_bytes() {
    for (deliveries, bytes) in [(3, 1_000), (1_000, 35)] {
        let mut outbox = outbox(deliveries, bytes);
        for key in 0..100 {
            outbox.add(delivery(key % 7, key, key));
        }
        assert_eq!((outbox.deliveries, outbox.is_complete()), (3, false));
        // What is here goes first: it is due longest.
        assert_eq!(outbox.wanted(at(200)), Wanted::Nothing);
        for key in 0..3 {
            assert_eq!(take(&mut outbox, Kind::First, 200), Some(key));
            outbox.settled((key, key, key), None);
        }
        assert_eq!(outbox.wanted(at(200)), Wanted::Heads);
        outbox.load(Loaded { deliveries: vec![delivery(3, 3, 3)], left_out: None });
        assert!(outbox.is_complete());
    }
}

#[test]
fn of_a_lane_that_may_have_earlier_ones_in_the_table_nothing_is_taken_unread() {
    let mut outbox = outbox(10, 1_000);
    let left_out = LeftOut { retries_after: Some(at(500)), ..LeftOut::default() };
    outbox.load(Loaded { deliveries: vec![delivery(1, 1, 0)], left_out: Some(left_out) });
    outbox.add(delivery(2, 9, 9));
    assert_eq!(take(&mut outbox, Kind::First, 9), Some(1));
    assert_eq!(take(&mut outbox, Kind::First, 9), None);
    assert_eq!(outbox.wanted(at(9)), Wanted::Lanes(vec![2]));
    outbox.load_lane(2, vec![delivery(2, 4, 2), delivery(2, 9, 9)], false);
    assert_eq!((take(&mut outbox, Kind::First, 9), outbox.wanted(at(9))), (Some(4), Wanted::Nothing));
    assert_eq!(outbox.wanted(at(500)), Wanted::Heads, "now retries may be due that were left out");
    assert_eq!(outbox.next_due(at(9)), Some(at(500)));
}

#[test]
fn probes_alternate_between_the_oldest_and_the_newest_and_retries_come_last() {
    let mut outbox = outbox(10, 1_000);
    (1..=4).for_each(|key| outbox.add(delivery(key, key, key)));
    let mut probe = |newest| outbox.take_probe(newest, at(3)).map(|delivery| delivery.key);
    assert_eq!((probe(false), probe(true), probe(false)), (Some(1), Some(3), Some(2)), "4 is not due yet");
    outbox.settled((1, 1, 1), again(2));
    assert_eq!(outbox.take_probe(true, at(3)).map(|delivery| delivery.key), Some(1));
}

#[test]
fn pings_wait_for_nothing() {
    let mut outbox = outbox(1, 1_000);
    outbox.add(delivery(1, 1, 0));
    outbox.add(PendingDelivery { lane: None, ..delivery(0, 2, 99) });
    assert_eq!(outbox.take_pings().len(), 1);
    assert_eq!(outbox.take_pings().len(), 0);
}
