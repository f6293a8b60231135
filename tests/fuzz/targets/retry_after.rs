//! Values of `Retry-After`.

use std::time::Duration;

use jiff::Timestamp;
use trackpost::domain::retry_after::parse;

pub fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "120",
        "4.5",
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Tue, 31 Dec 2999 23:59:59 GMT",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let nows = ["1994-11-06T08:49:37Z", "2026-11-22T00:00:00.5Z", "2099-12-31T23:59:59Z"];
    let nows = nows.map(|now| now.parse().unwrap());
    let mut legible = Vec::new();
    for now in nows.into_iter().chain([Timestamp::MIN, Timestamp::MAX]) {
        let wait = parse(text, now);
        assert!(wait.is_none_or(|wait| wait <= Duration::from_secs(31 * 86_400)), "{wait:?}");
        assert_eq!(parse(&format!(" {text}\t"), now), wait, "white space around it");
        legible.push(wait.is_some());
    }
    // A number of seconds does not depend on the time.
    if let Ok(seconds) = text.parse::<u32>()
        && !text.starts_with('+')
    {
        assert_eq!(
            parse(text, nows[0]),
            Some(Duration::from_secs(seconds.into()).min(Duration::from_secs(31 * 86_400)))
        );
        assert!(legible.iter().all(|legible| *legible));
    }
}
