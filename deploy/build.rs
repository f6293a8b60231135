//! Sets the output of `trackpost --version`: the version, and in a release built from a git checkout the commit and its date.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=deploy/build.rs");
    // sqlx reads them when the store is compiled.
    println!("cargo::rerun-if-changed=migrations");
    let version = env!("CARGO_PKG_VERSION");
    // A debug build would be rebuilt after each commit.
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let said = match commit().filter(|_| is_release) {
        Some(commit) => format!("{version} ({commit})"),
        None => version.to_owned(),
    };
    println!("cargo::rustc-env=TRACKPOST_VERSION={said}");
}

/// Hash and date of the commit; `None` without git, or in a checkout of another project.
fn commit() -> Option<String> {
    let top = git(&["rev-parse", "--show-toplevel"])?;
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).canonicalize().ok()?;
    if Path::new(&top).canonicalize().ok()? != here {
        return None;
    }
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if here.join(&log).exists() {
        println!("cargo::rerun-if-changed={}", here.join(&log).display());
    }
    git(&["show", "--no-patch", "--format=%h %cs", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned()).filter(|text| !text.is_empty())
}
