//! Answers of the API as bytes on the connection: from the HTTP client to the rows of the database.

use std::sync::{Mutex, PoisonError};

use super::world::World;

const MOST_ANSWERS: usize = 4;
/// Labels of a database, because its check takes longer with each label.
const MOST_LABELS: u64 = 32;

pub fn seeds() -> Vec<Vec<u8>> {
    let refusal = r#"{"errors":[{"error_source":"shipengine","error_type":"security","error_code":"unauthorized","message":"no"}]}"#;
    let carrier =
        r#"{"errors":[{"error_source":"carrier","error_code":"rate_limit_exceeded","carrier_code":"ups"}]}"#;
    let failures = [
        http("401 Unauthorized", refusal),
        http("429 Too Many Requests\r\nRetry-After: Sun Nov  6 08:49:37 2094", carrier),
        http("404 Not Found", r#"{"errors":[{"error_code":"not_found","message":"label not found"}]}"#),
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n2\r\n\x1f\x0b\r\n0\r\n\r\n".to_owned(),
    ];
    let of_journey = |answers: Vec<String>| {
        let answers: Vec<_> =
            answers.iter().take(MOST_ANSWERS).map(|answer| http("200 OK", answer)).collect();
        super::join(&answers)
    };
    super::journeys().into_iter().map(of_journey).chain([super::join(&failures)]).collect()
}

pub fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\n\r\n{body}")
}

pub fn check(input: &[u8]) {
    static WORLD: Mutex<Option<World>> = Mutex::new(None);
    let mut world = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
    let mut fit =
        world.take().filter(|world| world.is_ok() && world.labels() < MOST_LABELS).unwrap_or_else(World::new);
    let label = fit.register();
    for answer in super::parts(input, MOST_ANSWERS) {
        fit.poll(&label, answer);
    }
    fit.check();
    fit.remove(&label);
    *world = Some(fit);
}
