//! `trackpost verify`: whether a callback's signature holds, step by step.
//!
//! Reads headers, body and secret as they were received; the checks are [`crate::domain::messages::signature`]'s.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::ExitCode;

use jiff::Timestamp;

use super::args;
use super::beside::Checks;
use super::{Failure, output};
use crate::clock;
use crate::domain::messages::signature::SignedHeaders;
use crate::domain::messages::signature::inspect::{Inspection, inspect};

pub fn run(what: &args::Verify) -> Result<ExitCode, Failure> {
    let headers = Headers::read(&what.header)?;
    let body = body(what.body.as_deref())?;
    let now = match what.at {
        Some(seconds) => Timestamp::from_second(seconds)?,
        None => clock::now(),
    };
    let mut found = Inspection::default();
    if let Some(secret) = &what.secret {
        found = found.and(inspect(secret, headers.signed(), &body, now.as_second()));
    }
    found = found.and(Checks::read(&what.beside)?.inspect(|name| headers.named(name), &body, now));
    output::print(&told(&found));
    Ok(if found.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn body(path: Option<&Path>) -> Result<Vec<u8>, Failure> {
    match path.filter(|path| *path != Path::new("-")) {
        Some(path) => {
            fs::read(path).map_err(|error| Failure::new(format!("the body {}: {error}", path.display())))
        }
        None => {
            let mut body = Vec::new();
            io::stdin().read_to_end(&mut body)?;
            Ok(body)
        }
    }
}

/// Headers as given, by their names in lower case.
struct Headers(BTreeMap<String, String>);

impl Headers {
    fn read(lines: &[String]) -> Result<Self, Failure> {
        let header = |line: &String| {
            let (name, value) = line.split_once(':').ok_or_else(|| {
                Failure::usage(format!("--header {line:?}: no colon"))
                    .hint("as in -H \"webhook-id: msg_1\", for each of the three headers")
            })?;
            Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        };
        lines.iter().map(header).collect::<Result<_, _>>().map(Self)
    }

    /// Under the standard's name, else under the one that Svix, which it comes from, still uses.
    fn get(&self, name: &str) -> Option<&str> {
        let under = |prefix: &str| self.0.get(&format!("{prefix}-{name}")).map(String::as_str);
        under("webhook").or_else(|| under("svix"))
    }

    /// `name` in lower case.
    fn named(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn signed(&self) -> SignedHeaders<'_> {
        SignedHeaders {
            id: self.get("id"),
            timestamp: self.get("timestamp"),
            signature: self.get("signature"),
        }
    }
}

fn told(found: &Inspection) -> String {
    let mut told = String::new();
    let width = found.checks.iter().map(|step| step.name.len()).max().unwrap_or(0).max(10);
    for step in &found.checks {
        let (mark, said) = match &step.outcome {
            Ok(said) => ('✓', said),
            Err(said) => ('✗', said),
        };
        // Writing into a text does not fail.
        let _ = writeln!(told, "{mark} {:<width$} {said}", step.name);
    }
    for cause in &found.causes {
        let _ = writeln!(told, "  hint: {cause}");
    }
    told.push_str(if found.holds() { "the signature holds\n" } else { "the signature does not hold\n" });
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&str]) -> Result<Headers, Failure> {
        Headers::read(&lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn reads_headers_under_either_name() {
        let read = headers(&["Webhook-ID: msg_1", "svix-id: other", "SVIX-Timestamp:12", "x: y:z"]).unwrap();
        let signed = read.signed();
        assert_eq!((signed.id, signed.timestamp, signed.signature), (Some("msg_1"), Some("12"), None));
    }

    #[test]
    fn a_line_without_a_colon_is_refused() {
        let error = headers(&["webhook-id=msg_1"]).err().unwrap().to_string();
        assert!(error.starts_with("error: --header \"webhook-id=msg_1\": no colon\nhint:"), "{error}");
    }

    #[test]
    fn says_each_step() {
        let found = inspect("nothing", headers(&["webhook-id: a"]).unwrap().signed(), b"", 0);
        let told = told(&found);
        assert!(
            told.starts_with("✗ secret     a signing secret starts with whsec_\n✗ headers    missing:"),
            "{told}"
        );
        assert!(told.ends_with("the signature does not hold\n"), "{told}");
    }
}
