//! Fuzzing: parsers and servers get any bytes, and the invariants in `targets/` hold.
//!
//! `cargo test --test fuzz` runs each target with its seeds and a few mutations, always the same ones. A search guided
//! by coverage is in `guided/`: libFuzzer, on a stable toolchain, with a C++ compiler. It is a package of its own, so
//! trackpost has no dependency on it. From `tests/fuzz/guided`, one command per target, here for ten minutes:
//!
//! ```text
//! cargo run -- target/corpus/answer        -max_total_time=600
//! cargo run -- target/corpus/api           -max_total_time=600
//! cargo run -- target/corpus/configuration -max_total_time=600
//! cargo run -- target/corpus/http          -max_total_time=600
//! cargo run -- target/corpus/label_files   -max_total_time=600
//! cargo run -- target/corpus/retry_after   -max_total_time=600
//! cargo run -- target/corpus/signature     -max_total_time=600
//! ```
//!
//! The directory's name selects the target; its seeds are written into it, and inputs that reach new code are added. Useful
//! options: `-timeout=20` (the longest time of an input, in seconds), `-max_len=20000` (the longest input), `-help=1`.
//! `TMPDIR=/dev/shm` in front makes the databases of `api` and `http` faster. An input that violates an invariant is
//! written to `crash-…`; moved into the directory, it is repeated with `-runs=0`. Its fault gets a test next to the code.

#![allow(clippy::disallowed_methods, reason = "targets spawn the servers that they talk to")]

mod targets;

use std::panic::catch_unwind;

use targets::{TARGETS, Target};

/// Checks the seeds and `mutations` of them.
fn run(name: &str, mutations: usize) {
    let Target { check, seeds, .. } = TARGETS.iter().find(|target| target.name == name).unwrap();
    let (seeds, mut random) = (seeds(), fastrand::Rng::with_seed(20_301_104));
    let mutated = |_| mutate(&seeds, &mut random);
    let inputs: Vec<_> = seeds.iter().cloned().chain((0..mutations).map(mutated)).collect();
    for input in inputs {
        let checked = catch_unwind(|| check(&input));
        assert!(checked.is_ok(), "an invariant is violated with the input b\"{}\"", input.escape_ascii());
    }
}

/// Changes a seed at a few places: another byte, a piece less, a piece twice, or a piece of another seed.
fn mutate(seeds: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut input = random.choice(seeds).cloned().unwrap_or_default();
    for _ in 0..random.usize(1..4) {
        let piece = |of: &[u8], random: &mut fastrand::Rng| {
            let start = random.usize(..=of.len());
            start..of.len().min(start + random.usize(1..64))
        };
        let at = random.usize(..=input.len());
        match random.u8(..4) {
            0 if at < input.len() => input[at] = random.u8(..),
            1 => drop(input.drain(piece(&input, random))),
            2 => drop(input.splice(at..at, input[piece(&input, random)].to_vec())),
            _ => {
                let other = random.choice(seeds).unwrap();
                input.splice(at..at, other[piece(other, random)].to_vec());
            }
        }
    }
    input
}

#[test]
fn answers_about_a_label() {
    run("answer", 100);
}

#[test]
fn answers_on_the_connection() {
    run("api", 16);
}

#[test]
fn configurations() {
    run("configuration", 60);
}

#[test]
fn requests_to_the_http_port() {
    run("http", 100);
}

#[test]
fn label_files() {
    run("label_files", 500);
}

#[test]
fn values_of_retry_after() {
    run("retry_after", 1_000);
}

#[test]
fn signatures() {
    run("signature", 500);
}
