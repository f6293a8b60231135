use super::*;
use crate::domain::delivery::outcome::{Due, DueReason};

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
        position: key,
        attempts: 0,
        schedule: DeliverySchedule::first(at(due)),
    }
}

fn outbox(deliveries: usize, bytes: usize) -> Outbox {
    Outbox::new(MemoryLimit { deliveries, bytes })
}

fn again(seconds: i64) -> Option<(u32, DeliverySchedule)> {
    let next = Due { at: at(seconds), reason: DueReason::WaitsForProbe };
    Some((1, DeliverySchedule { next, ..DeliverySchedule::first(at(0)) }))
}

fn take(outbox: &mut Outbox, kind: AttemptKind, now: i64) -> Option<i64> {
    outbox.take(kind, at(now)).map(|delivery| delivery.key)
}

#[test]
fn a_lane_has_one_head_and_none_while_it_is_in_flight() {
    let mut outbox = outbox(10, 1_000);
    [delivery(1, 1, 0), delivery(1, 2, 0), delivery(2, 3, 1)].into_iter().for_each(|new| outbox.add(new));
    assert_eq!(outbox.due_count(AttemptKind::First, at(5), 9), 2);
    assert_eq!(take(&mut outbox, AttemptKind::First, 5), Some(1));
    assert_eq!(take(&mut outbox, AttemptKind::First, 5), Some(3));
    assert_eq!(take(&mut outbox, AttemptKind::First, 5), None, "2 waits for 1");
    outbox.add(delivery(1, 1, 0));
    outbox.finish((1, 1, 1), again(60));
    assert_eq!((outbox.next_due(at(5)), take(&mut outbox, AttemptKind::First, 5)), (Some(at(60)), None));
    assert_eq!(take(&mut outbox, AttemptKind::Retry, 60), Some(1), "now a retry");
    outbox.finish((1, 1, 1), None);
    assert_eq!(take(&mut outbox, AttemptKind::First, 60), Some(2));
}

#[test]
fn a_delivery_added_and_loaded_is_taken_once() {
    let mut outbox = outbox(10, 1_000);
    outbox.add(delivery(1, 1, 0));
    assert_eq!(take(&mut outbox, AttemptKind::First, 0), Some(1));
    // Loaded while it is in flight, and added late.
    outbox
        .load(LoadedDeliveries { deliveries: vec![delivery(1, 1, 0), delivery(1, 2, 0)], not_loaded: None });
    outbox.add(delivery(1, 1, 0));
    outbox.add(delivery(1, 2, 0));
    assert_eq!(take(&mut outbox, AttemptKind::First, 0), None);
    outbox.finish((1, 1, 1), None);
    assert_eq!(take(&mut outbox, AttemptKind::First, 0), Some(2));
    outbox.finish((1, 2, 2), None);
    assert_eq!((take(&mut outbox, AttemptKind::First, 0), outbox.deliveries, outbox.bytes), (None, 0, 0));
}

#[test]
fn memory_is_bounded_by_number_and_by_bytes() {
    for (deliveries, bytes) in [(3, 1_000), (1_000, 35)] {
        let mut outbox = outbox(deliveries, bytes);
        for key in 0..100 {
            outbox.add(delivery(key % 7, key, key));
        }
        assert_eq!((outbox.deliveries, outbox.is_complete()), (3, false));
        // Deliveries in memory come first: they are due longest.
        assert_eq!(outbox.next_read(at(200)), NextRead::Nothing);
        for key in 0..3 {
            assert_eq!(take(&mut outbox, AttemptKind::First, 200), Some(key));
            outbox.finish((key, key, key), None);
        }
        assert_eq!(outbox.next_read(at(200)), NextRead::Heads);
        outbox.load(LoadedDeliveries { deliveries: vec![delivery(3, 3, 3)], not_loaded: None });
        assert!(outbox.is_complete());
    }
}

#[test]
fn a_lane_that_may_have_earlier_deliveries_in_the_table_is_read_first() {
    let mut outbox = outbox(10, 1_000);
    let not_loaded = NotLoaded { after: [None, Some(at(500))], ..NotLoaded::default() };
    outbox.load(LoadedDeliveries { deliveries: vec![delivery(1, 1, 0)], not_loaded: Some(not_loaded) });
    outbox.add(delivery(2, 9, 9));
    assert_eq!(take(&mut outbox, AttemptKind::First, 9), Some(1));
    assert_eq!(take(&mut outbox, AttemptKind::First, 9), None);
    assert_eq!(outbox.next_read(at(9)), NextRead::Lanes(vec![2]));
    outbox.load_lane(2, vec![delivery(2, 4, 2), delivery(2, 9, 9)], false);
    assert_eq!(
        (take(&mut outbox, AttemptKind::First, 9), outbox.next_read(at(9))),
        (Some(4), NextRead::Nothing)
    );
    assert_eq!(outbox.next_read(at(500)), NextRead::Heads, "retries in the table may be due");
    assert_eq!(outbox.next_due(at(9)), Some(at(500)));
}

#[test]
fn probes_alternate_between_the_oldest_and_the_newest_and_retries_come_last() {
    let mut outbox = outbox(10, 1_000);
    (1..=4).for_each(|key| outbox.add(delivery(key, key, key)));
    let mut probe = |newest| outbox.take_probe(newest, at(3)).map(|delivery| delivery.key);
    assert_eq!((probe(false), probe(true), probe(false)), (Some(1), Some(3), Some(2)), "4 is not due yet");
    outbox.finish((1, 1, 1), again(2));
    assert_eq!(outbox.take_probe(true, at(3)).map(|delivery| delivery.key), Some(1));
}

#[test]
fn pings_are_taken_at_once() {
    let mut outbox = outbox(1, 1_000);
    outbox.add(delivery(1, 1, 0));
    outbox.add(PendingDelivery { lane: None, ..delivery(0, 2, 99) });
    assert_eq!(outbox.take_pings().len(), 1);
    assert_eq!(outbox.take_pings().len(), 0);
}
