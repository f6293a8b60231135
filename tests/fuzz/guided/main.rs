//! Fuzz targets under libFuzzer; see `../main.rs` for the commands.
#![no_main]

#[path = "../targets/mod.rs"]
mod targets;

use std::path::Path;
use std::sync::OnceLock;

use targets::{TARGETS, Target};

static TARGET: OnceLock<&Target> = OnceLock::new();

/// Selects the target that has the name of the first directory, and writes its seeds there.
fn start() {
    let directory = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let directory = directory.expect("usage: cargo run -- target/corpus/TARGET [OPTION…]");
    let name = Path::new(&directory).file_name().unwrap_or_default();
    let target = TARGETS.iter().find(|target| name == target.name);
    let target = target.expect("the directory has the name of a target");
    std::fs::create_dir_all(&directory).unwrap();
    for (number, seed) in (target.seeds)().iter().enumerate() {
        std::fs::write(Path::new(&directory).join(format!("seed-{number}")), seed).unwrap();
    }
    assert!(TARGET.set(target).is_ok());
}

libfuzzer_sys::fuzz_target!(init: start(), |input: &[u8]| (TARGET.get().unwrap().check)(input));
