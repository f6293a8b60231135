//! Reads `src/**` and fails on an import that points up, on a cycle between modules, and on a word outside its layer.
//!
//! Comments and test code are not checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The layers, each with the layers that it may import.
const LAYERS: &[(&str, &str)] = &[
    ("domain", ""),
    ("clock", "domain"),
    ("crash", ""),
    ("metrics", "clock"),
    ("shortage", ""),
    ("notices", "clock config domain shortage"),
    ("tls", "domain"),
    ("transport", "clock domain"),
    ("config", "domain"),
    ("store", "clock config crash domain metrics"),
    ("shipstation", "config domain shortage tls transport"),
    ("webhook", "clock domain shortage tls transport"),
    ("workers", "clock config crash domain metrics notices shipstation store webhook"),
    ("explanation", "config domain store"),
    ("http", "clock config domain explanation metrics notices shortage simulation store transport workers"),
    ("sandbox", "clock domain"),
    ("simulation", "domain"),
    ("daemon", "clock config domain http notices shipstation store tls transport webhook workers"),
    (
        "cli",
        "clock config daemon domain explanation http sandbox shipstation simulation store tls transport webhook",
    ),
    ("main", "cli"),
    ("lib", ""),
];

/// The parts of `domain` other than leaves, each with the parts that it may import.
const DOMAIN: &[(&str, &str)] = &[
    ("tracking", ""),
    ("messages", "tracking"),
    ("polling", "messages tracking"),
    ("delivery", "messages tracking"),
    ("degraded", "delivery messages polling"),
    ("journey", "tracking"),
];

/// Words that only these layers may use.
const ONLY_IN: &[(&str, &str)] = &[
    ("sqlx", "store"),
    ("hyper hyper_util", "http transport"),
    ("clap clap_complete console indicatif roff println! eprintln! print! eprint!", "cli main"),
    // A pool closes its idle connections in a task that ends with the pool.
    ("tokio::spawn task::spawn spawn_local thread::spawn", "daemon transport"),
    // Files are read there.
    ("spawn_blocking", "daemon workers"),
    // Tasks of a worker end with the worker, and HTTP connections with their server.
    ("JoinSet", "daemon http workers"),
    ("tokio::signal signal::unix signal::ctrl_c", "daemon"),
    ("sd_notify", "daemon"),
    ("SystemTime Instant Timestamp::now Zoned::now time::sleep", "clock"),
    // A seeded generator is deterministic; the rest of `fastrand` is not.
    ("fastrand", "clock sandbox simulation"),
    ("fastrand::f64 fastrand::u64 fastrand::u32 fastrand::u8 Rng::new", "clock"),
];

/// `domain` is pure.
const NEVER_IN_DOMAIN: &str =
    "tokio axum tracing async std::fs std::env std::net std::io std::thread std::process";

#[test]
fn imports_point_down() {
    let sources = sources();
    let mut breaches = Vec::new();
    for (module, code) in &sources {
        let (layer, part) = (segment(module, 0), segment(module, 1));
        let Some((_, below)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
            breaches.push(format!("the layer {layer} is missing in LAYERS"));
            continue;
        };
        for import in imports(module, code) {
            let (to, to_part) = (segment(&import, 0), segment(&import, 1));
            if to != layer && !has(below, to) {
                breaches.push(format!("{module} imports {import}; {layer} may import: {below}"));
            }
            let is_part = |name: &str| DOMAIN.iter().any(|(part, _)| *part == name);
            let allowed = DOMAIN.iter().find(|(name, _)| *name == part).map_or("", |(_, allowed)| *allowed);
            if layer == "domain"
                && to == "domain"
                && to_part != part
                && is_part(to_part)
                && !has(allowed, to_part)
            {
                breaches.push(format!("{module} imports {import}; {part} may import: {allowed}"));
            }
        }
        for line in code.lines() {
            for (words, layers) in ONLY_IN.iter().filter(|(_, layers)| !has(layers, layer)) {
                let found = words.split(' ').filter(|word| names(line, word));
                breaches
                    .extend(found.map(|word| format!("{module} names {word}; only {layers} may: {line}")));
            }
            let found = NEVER_IN_DOMAIN.split(' ').filter(|word| layer == "domain" && names(line, word));
            breaches.extend(found.map(|word| format!("{module} names {word}: {line}")));
        }
    }
    assert!(breaches.is_empty(), "{} breaches:\n{}", breaches.len(), breaches.join("\n"));
}

/// A module and its submodules may import each other; all other imports are free of cycles.
#[test]
fn no_modules_import_each_other() {
    let sources = sources();
    let known = |path: &str| {
        let mut path = path;
        while !sources.contains_key(path) {
            path = path.rsplit_once("::").map_or("", |(parent, _)| parent);
            if path.is_empty() {
                return None;
            }
        }
        Some(path.to_owned())
    };
    let related =
        |a: &str, b: &str| a == b || a.starts_with(&format!("{b}::")) || b.starts_with(&format!("{a}::"));
    let mut graph: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (module, code) in &sources {
        let to = imports(module, code).into_iter().filter_map(|path| known(&path));
        graph.insert(module, to.filter(|to| !related(module, to)).collect());
    }
    // Modules without remaining imports, or without remaining importers, are not in a cycle.
    loop {
        let imported: BTreeSet<_> = graph.values().flatten().cloned().collect();
        let in_cycle = |module: &str, to: &BTreeSet<String>| {
            imported.contains(module) && to.iter().any(|to| graph.contains_key(to.as_str()))
        };
        let free: Vec<_> =
            graph.iter().filter(|(module, to)| !in_cycle(module, to)).map(|(module, _)| *module).collect();
        if free.is_empty() {
            break;
        }
        free.iter().for_each(|module| drop(graph.remove(module)));
    }
    let cycle = graph.iter().map(|(module, to)| {
        let to: Vec<_> = to.iter().filter(|to| graph.contains_key(to.as_str())).map(String::as_str).collect();
        format!("{module} imports {}", to.join(", "))
    });
    assert!(graph.is_empty(), "modules in a cycle:\n{}", cycle.collect::<Vec<_>>().join("\n"));
}

/// Returns the modules below `src` by path, without comments and unit tests.
fn sources() -> BTreeMap<String, String> {
    let mut sources = BTreeMap::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut sources);
    assert!(sources.len() > 100, "only {} modules were read", sources.len());
    sources
}

fn read(directory: &Path, below: &str, sources: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let stem = name.trim_end_matches(".rs");
        let module = if stem == "mod" { below.to_owned() } else { join(below, stem) };
        if stem == "tests" {
            continue;
        } else if entry.path().is_dir() {
            read(&entry.path(), &module, sources);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(entry.path()).unwrap();
            // Unit tests stand last in their file.
            let code = text.find("#[cfg(test)]\nmod ").map_or(text.as_str(), |end| &text[..end]);
            let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
            sources.insert(module, lines.collect::<Vec<_>>().join("\n"));
        }
    }
}

/// Returns the paths that a module names, from the crate's root.
fn imports(module: &str, code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    // In the library `trackpost` is a log target; only the binary imports by that name.
    let roots: &[&str] = if module == "main" { &["trackpost::"] } else { &["crate::", "super::", "self::"] };
    for root in roots.iter().copied() {
        for (at, _) in code.match_indices(root) {
            if code[..at].ends_with(|c| is_of_word(c) || c == ':') {
                continue;
            }
            let mut from = if root == "crate::" || root == "trackpost::" { "" } else { module };
            let mut rest = &code[at..];
            while let Some((word, tail)) = rest
                .split_once("::")
                .filter(|(word, _)| ["crate", "super", "self", "trackpost"].contains(word))
            {
                if word == "super" {
                    from = from.rsplit_once("::").map_or("", |(parent, _)| parent);
                }
                rest = tail;
            }
            let end = rest.find(|c| !is_of_word(c) && c != ':').unwrap_or(rest.len());
            let path = rest[..end].trim_end_matches(':');
            match rest[end..].strip_prefix('{') {
                Some(list) => {
                    let list = list.split('}').next().unwrap_or_default();
                    let names =
                        list.split(',').map(|name| name.split_whitespace().next().unwrap_or_default());
                    found.extend(names.map(|name| join(&join(from, path), name)));
                }
                None => drop(found.insert(join(from, path))),
            }
        }
    }
    found.remove("");
    found
}

fn join(above: &str, name: &str) -> String {
    match (above, name) {
        (above, "" | "self") => above.to_owned(),
        ("", name) => name.to_owned(),
        (above, name) => format!("{above}::{name}"),
    }
}

fn segment(path: &str, index: usize) -> &str {
    path.split("::").nth(index).unwrap_or_default()
}

fn has(list: &str, word: &str) -> bool {
    list.split(' ').any(|listed| listed == word)
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns whether `line` contains `word` as a whole word.
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(is_of_word) && !line[at + word.len()..].starts_with(is_of_word))
}
