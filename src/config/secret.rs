//! Fetches secrets from where the configuration says they are.
//!
//! A text as it is, or `{ file = … }`, `{ env = … }`, `{ credential = … }`. What cannot be fetched is a fault that names
//! the place; the content is never part of one, not even when it has the wrong type.

use std::io::Read;
use std::path::Path;

use config::ValueKind;

use super::fault::Fault;
use super::reader::{Entry, Extent};
use crate::domain::secret::Hidden;

/// More than any secret has, in bytes: a wrong path such as a device must not be read for ever.
const LONGEST: u64 = 64 * 1024;

const FORM: &str = "a secret is a text, or { file = \"…\" }, { env = \"…\" } or { credential = \"…\" }";

/// Stands for a secret that nobody wanted to read. It has the form of every kind of secret, and is none.
const UNREAD: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// The secret that `entry` holds or points to, without line breaks at its end.
pub(super) fn read(entry: &Entry<'_>) -> Option<Hidden<String>> {
    if entry.context.extent == Extent::BesideDaemon {
        return Some(Hidden::new(UNREAD.to_owned()));
    }
    let text = match &entry.value.kind {
        ValueKind::String(text) => text.clone(),
        ValueKind::Table(_) => fetch(entry)?,
        _ => return entry.fault_unshown("is no secret", FORM),
    };
    Some(Hidden::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// A secret that is one word, such as an API key. White space, marks that cannot be seen and paired quotes around it are
/// taken off with a warning; within it they are a fault.
pub(super) fn read_token(entry: &Entry<'_>) -> Option<Hidden<String>> {
    let secret = read(entry)?;
    let token = bare(secret.expose());
    if let Some((at, found)) = (1..).zip(token.chars()).find(|(_, c)| !c.is_ascii_graphic()) {
        return entry.fault_unshown(
            format!("holds {} at character {at}", named(found)),
            "one word of plain text: is it copied as a whole, and nothing else?",
        );
    }
    if token != secret.expose() {
        let problem = "has blanks, quotes or marks that cannot be seen around it: they are taken off";
        let fault = Fault::new(entry.place(), &entry.key, problem);
        entry.context.findings.warn(fault.hint("keep the secret alone, without quotes around it"));
    }
    Some(Hidden::new(token.to_owned()))
}

/// Without what may have come with a secret when it was copied.
fn bare(text: &str) -> &str {
    let unseen = |c: char| c.is_whitespace() || UNSEEN.contains(&c);
    let text = text.trim_matches(unseen);
    let quoted = QUOTES.iter().find_map(|(open, close)| text.strip_prefix(*open)?.strip_suffix(*close));
    quoted.map_or(text, |text| text.trim_matches(unseen))
}

const QUOTES: [(char, char); 6] = [
    ('"', '"'),
    ('\'', '\''),
    ('`', '`'),
    ('\u{201c}', '\u{201d}'),
    ('\u{2018}', '\u{2019}'),
    ('\u{201e}', '\u{201c}'),
];

/// Byte order mark, zero-width characters, soft hyphen, direction marks.
const UNSEEN: [char; 9] = [
    '\u{feff}', '\u{200b}', '\u{200c}', '\u{200d}', '\u{200e}', '\u{200f}', '\u{2060}', '\u{ad}', '\u{180e}',
];

fn named(found: char) -> String {
    match found {
        ' ' => "a blank".to_owned(),
        '\n' | '\r' => "an end of line".to_owned(),
        '\t' => "a tab".to_owned(),
        other => format!("the character U+{:04X}", u32::from(other)),
    }
}

fn fetch(entry: &Entry<'_>) -> Option<String> {
    let table = entry.table(&["file", "env", "credential"])?;
    match (table.get("file"), table.get("env"), table.get("credential")) {
        (Some(file), None, None) => {
            let path = entry.context.directory.join(file.text()?);
            from_file(entry, &path, LONGEST, "relative paths start at the configuration file")
        }
        (None, Some(env), None) => {
            let name = env.text()?;
            let found = entry.context.environment.get(name).map(str::to_owned);
            found.or_else(|| {
                entry.fault_unshown(
                    format!("the environment variable {name} is not set"),
                    "{ env = \"…\" } takes the name of a variable, not the secret",
                )
            })
        }
        (None, None, Some(credential)) => from_credential(entry, credential.text()?),
        _ => entry.fault_unshown("should have exactly one of file, env, credential", FORM),
    }
}

fn from_credential(entry: &Entry<'_>, name: &str) -> Option<String> {
    if name.is_empty() || name.contains('/') || name == "." || name == ".." {
        return entry.fault_unshown(
            format!("{name:?} is no name of a credential"),
            "the name in LoadCredential=, not a path",
        );
    }
    let hint = format!("systemd sets it by LoadCredential={name}:/path");
    match entry.context.environment.get("CREDENTIALS_DIRECTORY") {
        Some(directory) => from_file(entry, &Path::new(directory).join(name), LONGEST, &hint),
        None => entry.fault_unshown(
            format!("the credential {name} is not there: CREDENTIALS_DIRECTORY is not set"),
            format!("{hint}; in a shell: export CREDENTIALS_DIRECTORY=/folder/of/{name}"),
        ),
    }
}

/// The text of a file of at most `longest` bytes.
pub(super) fn from_file(entry: &Entry<'_>, path: &Path, longest: u64, hint: &str) -> Option<String> {
    let read = || {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(longest + 1).read_to_end(&mut bytes)?;
        std::io::Result::Ok(bytes)
    };
    let cannot = |why: &str| entry.fault_unshown(format!("{} cannot be read: {why}", path.display()), hint);
    match read() {
        Ok(bytes) if bytes.len() as u64 > longest => cannot("it is larger than such a file can be"),
        Ok(bytes) => String::from_utf8(bytes).map_or_else(|_| cannot("it is not UTF-8 text"), Some),
        Err(error) => cannot(&error.to_string()),
    }
}
