//! Simulation of the whole pipeline in virtual time: the decisions of `domain` over a database in memory, an API and
//! receivers that fail in every way, crashes at each moment, and jumps of the clock.
//!
//! Each seed is a script of faults over days to weeks. After each event all invariants are checked, and at the end the
//! ledgers. A failing script is shrunk. `TRACKPOST_SEEDS=20000 cargo test --release --test simulation` runs more
//! seeds; `TRACKPOST_SEED=17` starts at this one.

mod checks;
mod daemon;
mod database;
mod delivering;
mod discovering;
mod effects;
mod limits;
mod outside;
mod polling;
mod registry;
mod script;
mod settings;
mod world;

use proptest::strategy::Strategy as _;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use script::{Script, any_script};
use world::World;

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn run(script: &Script) -> Result<(), String> {
    World::new(script).run(script).map(drop)
}

/// Runs the script of a seed. Returns the smallest script that fails.
fn run_seed(seed: u64) -> Result<(), String> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = Config {
        failure_persistence: None,
        max_shrink_iters: 2_000,
        max_shrink_time: 20_000,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, rng);
    let tree = any_script().new_tree(&mut runner).expect("a script");
    let outcome = runner.run_one(tree, |script| run(&script).map_err(TestCaseError::fail));
    match outcome {
        Ok(_) => Ok(()),
        Err(TestError::Fail(reason, script)) => {
            let mut world = World::new(&script);
            world.story = Some(Vec::new());
            let again = world.run(&script).map(drop);
            assert_eq!(again, Err(reason.message().to_owned()), "the script gives another run");
            let story = world.story.unwrap_or_default();
            let last = &story[story.len().saturating_sub(variable("TRACKPOST_STORY", 30) as usize)..];
            let Script {
                parcels,
                listed,
                begins_in,
                requests_per_minute,
                requests_per_month,
                max_in_flight,
                memory,
                noise,
                steps,
            } = script;
            let steps: Vec<String> = steps.iter().map(|step| format!("{step:?}")).collect();
            Err(format!(
                "seed {seed}: {reason}\nparcels {parcels:?}, listed {listed:?}, begins in {begins_in} h, \
                 {requests_per_minute} a minute, {requests_per_month} a month, {max_in_flight} in flight, memory \
                 {memory}, noise {noise}\n{}\n...\n{}",
                steps.join("\n"),
                last.join("\n")
            ))
        }
        Err(TestError::Abort(reason)) => Err(format!("seed {seed}: {reason}")),
    }
}

#[test]
fn every_seed_keeps_all_promises() {
    let (first, count) = (variable("TRACKPOST_SEED", 0), variable("TRACKPOST_SEEDS", 60));
    let seeds: Vec<u64> = (first..first + count).collect();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let found: Vec<String> = std::thread::scope(|scope| {
        let shares = seeds.chunks(seeds.len().div_ceil(workers).max(1));
        let workers: Vec<_> = shares
            .map(|share| scope.spawn(|| share.iter().filter_map(|seed| run_seed(*seed).err()).next()))
            .collect();
        workers.into_iter().filter_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(found.is_empty(), "{}", found.join("\n"));
}
