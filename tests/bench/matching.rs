//! Cost of comparing an answer with its history, beside only parsing the same answer.
//!
//! `cargo bench --bench matching`.
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use trackpost::domain::label::{AccountName, LabelKey};
use trackpost::domain::tracking::Tracking;
use trackpost::domain::tracking::matching::{KnownEvent, match_events};

/// Spelling of the events of an answer.
#[derive(Clone, Copy)]
struct Spelling {
    place: fn(usize) -> &'static str,
    /// Offset of the hour, as in another zone.
    hours: usize,
}

const FIRST: Spelling = Spelling { place: |_| "RENO", hours: 0 };

fn event(number: usize, telling: Spelling) -> String {
    let number_there = number + 60 * telling.hours;
    let (day, hour, minute) = (1 + number_there / 1440 % 28, number_there / 60 % 24, number_there % 60);
    let place = (telling.place)(number);
    format!(
        r#"{{"occurred_at":"2026-09-{day:02}T{hour:02}:{minute:02}:00Z","carrier_occurred_at":"2026-09-{day:02}T{hour:02}:{minute:02}:00Z","description":"Arrived at facility","city_locality":"{place}","state_province":"NV","postal_code":"89501","country_code":"US","company_name":null,"signer":null,"event_code":"A{}","carrier_detail_code":null,"status_code":"IT","status_description":"In Transit","carrier_status_code":"A1","carrier_status_description":"Arrived","status_detail_code":"HUB_SCAN_IN","status_detail_description":"Your parcel has arrived.","proof_of_delivery_url":null,"latitude":39.5,"longitude":-119.8}}"#,
        number % 7
    )
}

fn answer(events: usize, telling: Spelling) -> String {
    let events: Vec<String> = (0..events).rev().map(|number| event(number, telling)).collect();
    format!(r#"{{"tracking_number":"1","status_code":"IT","events":[{}]}}"#, events.join(","))
}

fn median(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..101)
        .map(|_| {
            let began = Instant::now();
            work();
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[50]
}

fn main() {
    let label = LabelKey { account: AccountName::new("main"), id: "se-1".parse().unwrap() };
    println!("{:>7} {:<22} {:>10} {:>10} {:>7}", "events", "the answer", "parse", "match", "ratio");
    for count in [1, 15, 60, 1000] {
        let before = Tracking::parse(answer(count, FIRST).as_bytes()).unwrap();
        let known: Vec<KnownEvent> = match_events(&label, &[], &before.events).apply(Vec::new());
        let half: fn(usize) -> &'static str =
            |number| if number % 2 == 0 { "RENO" } else { "Reno Distribution Center" };
        for (what, text) in [
            ("is the same", answer(count, FIRST)),
            ("is spelled otherwise", answer(count, FIRST).replace("null", "\"\"")),
            ("has one more", answer(count + 1, FIRST)),
            ("is half written anew", answer(count, Spelling { place: half, ..FIRST })),
            ("is written anew", answer(count, Spelling { place: |_| "Reno Distribution Center", ..FIRST })),
            ("is of another zone", answer(count, Spelling { hours: 7, ..FIRST })),
        ] {
            let tracking = Tracking::parse(text.as_bytes()).unwrap();
            let parse = median(|| drop(black_box(Tracking::parse(text.as_bytes()))));
            let matching = median(|| drop(black_box(match_events(&label, &known, &tracking.events))));
            let ratio = matching.as_secs_f64() / parse.as_secs_f64();
            println!("{count:>7} {what:<22} {parse:>10.1?} {matching:>10.1?} {ratio:>7.2}");
        }
    }
}
