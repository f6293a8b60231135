//! `trackpost verify`: checks the signature of a callback step by step.
//!
//! Takes headers, body and secret as received; [`crate::domain::messages::signature`] does the checks.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::ExitCode;

use jiff::Timestamp;

use super::args;
use super::other_signatures::OtherSignatures;
use super::{Failure, output};
use crate::clock;
use crate::domain::messages::signature::SignedHeaders;
use crate::domain::messages::signature::inspect::{Inspection, inspect};

pub fn run(args: &args::Verify) -> Result<ExitCode, Failure> {
    let headers = Headers::read(&args.header)?;
    let body = body(args.body.as_deref())?;
    let now = match args.at {
        Some(seconds) => Timestamp::from_second(seconds)?,
        None => clock::now(),
    };
    let mut found = Inspection::default();
    if let Some(secret) = &args.secret {
        found = found.and(inspect(secret, headers.signed_headers(), &body, now.as_second()));
    }
    found = found.and(OtherSignatures::read(&args.other_signatures)?.inspect(
        |name| headers.header(name),
        &body,
        now,
    ));
    output::print(&steps(&found));
    Ok(if found.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn body(path: Option<&Path>) -> Result<Vec<u8>, Failure> {
    match path.filter(|path| *path != Path::new("-")) {
        Some(path) => {
            fs::read(path).map_err(|error| Failure::new(format!("body {}: {error}", path.display())))
        }
        None => {
            let mut body = Vec::new();
            io::stdin().read_to_end(&mut body)?;
            Ok(body)
        }
    }
}

/// Headers as received, by their names in lower case.
struct Headers(BTreeMap<String, String>);

impl Headers {
    fn read(lines: &[String]) -> Result<Self, Failure> {
        let header = |line: &String| {
            let (name, value) = line.split_once(':').ok_or_else(|| {
                Failure::usage(format!("--header {line:?}: no colon"))
                    .hint("such as -H \"webhook-id: msg_1\", for each of the three headers")
            })?;
            Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        };
        lines.iter().map(header).collect::<Result<_, _>>().map(Self)
    }

    /// Returns a header by its standard name, else by the name that Svix uses.
    fn get(&self, name: &str) -> Option<&str> {
        let under = |prefix: &str| self.0.get(&format!("{prefix}-{name}")).map(String::as_str);
        under("webhook").or_else(|| under("svix"))
    }

    /// Returns a header; `name` is in lower case.
    fn header(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn signed_headers(&self) -> SignedHeaders<'_> {
        SignedHeaders {
            id: self.get("id"),
            timestamp: self.get("timestamp"),
            signature: self.get("signature"),
        }
    }
}

fn steps(found: &Inspection) -> String {
    let mut text = String::new();
    let width = found.checks.iter().map(|step| step.name.len()).max().unwrap_or(0).max(10);
    for step in &found.checks {
        let (mark, detail) = match &step.outcome {
            Ok(detail) => ('✓', detail),
            Err(detail) => ('✗', detail),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{mark} {:<width$} {detail}", step.name);
    }
    for cause in &found.causes {
        let _ = writeln!(text, "  hint: {cause}");
    }
    text.push_str(if found.holds() { "the signature is valid\n" } else { "the signature is not valid\n" });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&str]) -> Result<Headers, Failure> {
        Headers::read(&lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn headers_have_either_name() {
        let read = headers(&["Webhook-ID: msg_1", "svix-id: other", "SVIX-Timestamp:12", "x: y:z"]).unwrap();
        let signed = read.signed_headers();
        assert_eq!((signed.id, signed.timestamp, signed.signature), (Some("msg_1"), Some("12"), None));
    }

    #[test]
    fn a_line_without_a_colon_is_refused() {
        let error = headers(&["webhook-id=msg_1"]).err().unwrap().to_string();
        assert!(error.starts_with("error: --header \"webhook-id=msg_1\": no colon\nhint:"), "{error}");
    }

    #[test]
    fn each_step_is_printed() {
        let found = inspect("nothing", headers(&["webhook-id: a"]).unwrap().signed_headers(), b"", 0);
        let text = steps(&found);
        assert!(
            text.starts_with("✗ secret     a signing secret starts with whsec_\n✗ headers    missing:"),
            "{text}"
        );
        assert!(text.ends_with("the signature is not valid\n"), "{text}");
    }
}
