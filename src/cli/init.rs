//! `trackpost init`: a first configuration with its secrets, in the working directory.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process::ExitCode;

use super::args::{DEFAULT_CONFIG, Init};
use super::{Failure, output};
use crate::clock;
use crate::domain::messages::signature::SigningSecret;

const CONFIG: &str = "trackpost.toml";
const API_KEY: &str = "shipstation.key";
const SECRET: &str = "orders.secret";
const LABELS: &str = "labels.d";

/// Content of the key file without a key.
const NO_KEY: &str = "PUT-YOUR-SHIPSTATION-API-KEY-HERE";
/// Address of the sandbox in the configuration of `--sandbox`.
const SANDBOX: &str = "127.0.0.1:9786";

pub fn run(args: &Init) -> Result<ExitCode, Failure> {
    let files = files(args)?;
    for name in files.iter().map(|(name, _)| *name).chain((!args.sandbox).then_some(LABELS)) {
        if Path::new(name).symlink_metadata().is_ok() {
            return Err(Failure::new(format!("{name} already exists; no file was written"))
                .hint("run init in an empty directory, or remove the file"));
        }
    }
    for (name, text) in &files {
        write(name, text).map_err(|error| Failure::new(format!("{name}: {error}")))?;
    }
    let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    output::line(format!("wrote {}", names.join(", ")));
    if !args.sandbox {
        DirBuilder::new()
            .mode(0o700)
            .create(LABELS)
            .map_err(|error| Failure::new(format!("{LABELS}: {error}")))?;
    }
    output::print(&next(args, files.iter().any(|(_, text)| text.starts_with(NO_KEY))));
    Ok(ExitCode::SUCCESS)
}

/// Returns the names and contents of the files, the configuration last.
fn files(args: &Init) -> Result<Vec<(&'static str, String)>, Failure> {
    let secret = SigningSecret::encode(&clock::random_bytes::<32>()) + "\n";
    let url = toml_string(&args.url);
    if args.sandbox {
        return Ok(vec![(SECRET, secret), (CONFIG, sandboxed(&url))]);
    }
    let key = match args.api_key.clone().map_or_else(read_api_key, Ok)? {
        key if key.trim().is_empty() => NO_KEY.to_owned(),
        key => key.trim().to_owned(),
    };
    Ok(vec![(API_KEY, format!("{key}\n")), (SECRET, secret), (CONFIG, live(&url))])
}

/// Asks for the API key on a terminal, without showing it; an empty answer leaves it for later.
fn read_api_key() -> Result<String, Failure> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(String::new());
    }
    let terminal = console::Term::stderr();
    terminal.write_str("ShipStation API key (not shown; Enter to add it later): ")?;
    Ok(terminal.read_secure_line()?)
}

/// Formats a text for TOML: a JSON string is a basic string of TOML as well.
pub(super) fn toml_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn live(url: &str) -> String {
    format!(
        r#"# config/trackpost.toml in the source has every key with its default; trackpost man explains the files.

[accounts.main]
api_key = {{ file = "{API_KEY}" }}

[registration]
files = ["{LABELS}/*"]

[subscribers.orders]
url = {url}
secret = {{ file = "{SECRET}" }}
"#
    )
}

fn sandboxed(url: &str) -> String {
    let rows: String = ["UN", "NY", "AC", "IT", "AT", "EX", "out_for_delivery", "estimate_day"]
        .map(|row| format!("[cadence.{row}]\nintervals = [\"2s\"]\n"))
        .concat();
    format!(
        r#"# For trackpost sandbox --time-factor 3600: its parcels travel one hour per second.

[accounts.main]
base_url = "http://{SANDBOX}"
api_key = "sandbox-key"

[registration]
labels = ["se-1", "se-2", "se-3"]

[subscribers.orders]
url = {url}
secret = {{ file = "{SECRET}" }}
format = "standard"
events = ["tracking.*"]

# Short intervals, because the parcels travel fast. Omit these rows for real parcels.
{rows}"#
    )
}

/// Creates a file that only its owner can read.
fn write(name: &str, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(name)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Returns the next commands, each with its purpose.
fn next(args: &Init, key_is_missing: bool) -> String {
    let mut text = String::from("\nnext:\n");
    let mut add = |command: &str, comment: &str| text.push_str(&format!("  {command:<72} # {comment}\n"));
    if key_is_missing {
        add(&format!("${{EDITOR:-vi}} {API_KEY}"), "insert your API key");
    }
    add(&format!("export TRACKPOST_CONFIG=$PWD/{CONFIG}"), &format!("instead of {DEFAULT_CONFIG}"));
    if args.sandbox {
        let command = format!("trackpost sandbox --listen {SANDBOX} --time-factor 3600");
        add(&command, "in another terminal: a fake ShipStation");
    } else {
        add("trackpost check --online", "tests the key");
        add(&format!("echo se-324658 > {LABELS}/mine.txt"), "your own label ids");
    }
    let listen = format!("TRACKPOST_LISTEN_SECRET=$(cat {SECRET}) trackpost listen");
    add(&listen, "in another terminal: a receiver");
    add("trackpost run", "Ctrl-C stops it");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment};

    fn init(sandbox: bool) -> Init {
        Init { sandbox, api_key: Some("k".to_owned()), url: "http://127.0.0.1:9787/a\"b".to_owned() }
    }

    #[test]
    fn both_configurations_are_valid() {
        for sandbox in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            for (name, text) in files(&init(sandbox)).unwrap() {
                std::fs::write(directory.path().join(name), text.replace("a\\\"b", "hooks")).unwrap();
            }
            std::fs::create_dir(directory.path().join(LABELS)).unwrap();
            let loaded = Config::load(&directory.path().join(CONFIG), &Environment::default());
            let loaded = loaded.unwrap_or_else(|faults| panic!("{faults}"));
            assert_eq!(loaded.label_faults.kept, []);
            assert_eq!(loaded.sources.read_all().label_set.labels(), if sandbox { 3 } else { 0 });
        }
    }
}
