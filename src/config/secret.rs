//! Secrets and files, read while the configuration is read.
//!
//! A secret is a text, or `{ file = … }`, `{ env = … }`, `{ credential = … }`. The deserializer recognizes these types
//! by name: a field of such a type gets the secret itself. A fault never shows a secret, even if the secret has the wrong
//! type.

use std::io::Read;
use std::path::Path;

use config::ValueKind;
use serde::Deserialize;

use super::proxies;
use super::table::{At, Context, Extent};
use super::value::{UNREAD, place_of_secret};
use super::value_error::ValueError;
use crate::domain::secret::Hidden;

/// A secret, without line breaks at its end.
#[derive(Deserialize)]
pub(super) struct Secret(pub(super) Hidden<String>);

/// A secret of one word, such as an API key. White space, invisible characters and paired quotes around it are removed
/// with a warning; within it they are a fault, and so are commas and semicolons.
#[derive(Deserialize)]
pub(super) struct Token(pub(super) Hidden<String>);

/// The content of the file at a path; empty without a path.
#[derive(Default, Deserialize)]
pub(super) struct FileText(pub(super) String);

/// A private key: the path of its file, or a secret as a table; empty without either.
#[derive(Deserialize)]
pub(super) struct KeyText(pub(super) Hidden<String>);

/// One value, or an array of them.
#[derive(Deserialize)]
pub(super) struct OneOrMore<T>(pub(super) Vec<T>);

/// Returns the texts of a value if `name` is one of the types above or [`proxies::ProxyUrls`], which has several.
pub(super) fn read(at: &At<'_>, name: &str) -> Option<Result<Vec<String>, ValueError>> {
    let context = at.context;
    let written = match at.kind() {
        Some(ValueKind::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let one = |text: Result<String, ValueError>| text.map(|text| vec![text]);
    let texts = match (context.extent, name, written) {
        (Extent::BesideDaemon, "FileText" | "KeyText", _) => one(Ok(String::new())),
        (Extent::BesideDaemon, "Secret" | "Token", _) => one(Ok(UNREAD.to_owned())),
        (Extent::BesideDaemon, "ProxyUrls", _) => proxies::urls(context, ""),
        (_, "FileText" | "KeyText", Some("")) => one(Ok(String::new())),
        (_, "KeyText", Some(text)) if text.contains("-----") => {
            Err(ValueError::new("contains a key, but the path of a file is expected", RELATIVE_HINT))
        }
        (_, "FileText" | "KeyText", Some(path)) => one(file(context, path, MAX_FILE_BYTES)),
        (_, "KeyText" | "Secret", _) => one(fetch(at)),
        (_, "Token", _) => one(fetch(at).and_then(|text| word(at, &text))),
        (_, "ProxyUrls", _) => fetch(at).and_then(|text| proxies::urls(context, &text)),
        _ => return None,
    };
    context.is_secret.set(name != "FileText");
    Some(texts)
}

/// Maximum length of a secret: a wrong path, such as a device, must not be read without end.
const MAX_SECRET_BYTES: u64 = 64 * 1024;
/// Maximum size of a file of certificates: four times a bundle of all public roots.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

const RELATIVE_HINT: &str = "relative paths start at the configuration file";

/// Returns the secret that a value contains or points to, without line breaks at its end.
fn fetch(at: &At<'_>) -> Result<String, ValueError> {
    let context = at.context;
    let text = match (at.kind(), at.kind().and_then(place_of_secret)) {
        (Some(ValueKind::String(text)), _) => text.clone(),
        (_, Some(("file", path))) => file(context, path, MAX_SECRET_BYTES)?,
        (_, Some(("env", name))) => context.environment.get(name).map(str::to_owned).ok_or_else(|| {
            let problem = format!("the environment variable {name} is not set");
            ValueError::new(problem, "set the variable; { env = \"…\" } takes its name, not the secret")
        })?,
        (_, Some((_, name))) => credential(context, name)?,
        _ => {
            return Err(ValueError::new(
                "is neither a string nor a table with exactly one of file, env, credential",
                "write \"…\", { file = \"…\" }, { env = \"…\" } or { credential = \"…\" }",
            ));
        }
    };
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn credential(context: &Context<'_>, name: &str) -> Result<String, ValueError> {
    if name.is_empty() || name.contains('/') || name == "." || name == ".." {
        let problem = format!("{name:?} is not the name of a credential");
        return Err(ValueError::new(problem, "write the name in LoadCredential=, not a path"));
    }
    let Some(directory) = context.environment.get("CREDENTIALS_DIRECTORY") else {
        let hint = format!(
            "systemd sets it by LoadCredential={name}:/path; in a shell: export CREDENTIALS_DIRECTORY=/directory/of/{name}"
        );
        return Err(ValueError::new(
            format!("credential {name} not found: CREDENTIALS_DIRECTORY is not set"),
            hint,
        ));
    };
    let hint = format!("systemd puts it there by LoadCredential={name}:/path");
    let path = Path::new(directory).join(name);
    file(context, &path.to_string_lossy(), MAX_SECRET_BYTES).map_err(|error| ValueError { hint, ..error })
}

/// The text of a file, at most `max_bytes` long.
fn file(context: &Context<'_>, path: &str, max_bytes: u64) -> Result<String, ValueError> {
    let path = context.directory.join(path);
    let mut files = context.files.borrow_mut();
    files.entry((path.clone(), max_bytes)).or_insert_with(|| read_file(&path, max_bytes)).clone()
}

fn read_file(path: &Path, max_bytes: u64) -> Result<String, ValueError> {
    let read = || {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(max_bytes + 1).read_to_end(&mut bytes)?;
        std::io::Result::Ok(bytes)
    };
    let why = match read().map(String::from_utf8) {
        Ok(Ok(text)) if text.len() as u64 > max_bytes => format!("it is larger than {max_bytes} bytes"),
        Ok(Ok(text)) => return Ok(text),
        Ok(Err(_)) => "it is not UTF-8 text".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(ValueError {
        shown: false,
        ..ValueError::new(format!("{} cannot be read: {why}", path.display()), RELATIVE_HINT)
    })
}

fn word(at: &At<'_>, text: &str) -> Result<String, ValueError> {
    let token = bare(text);
    let is_foreign = |c: char| !c.is_ascii_graphic() || matches!(c, '"' | '\'' | '`' | ',' | ';');
    if let Some((position, found)) = (1..).zip(token.chars()).find(|(_, c)| is_foreign(*c)) {
        let found = match found {
            ' ' => "a space".to_owned(),
            '\n' | '\r' => "a line break".to_owned(),
            '\t' => "a tab".to_owned(),
            '"' | '\'' | '`' => "a quotation mark".to_owned(),
            ',' => "a comma".to_owned(),
            ';' => "a semicolon".to_owned(),
            other => format!("the character U+{:04X}", u32::from(other)),
        };
        let hint = "the secret must be one word of plain text, without quotation marks, commas and semicolons: copy all of it and nothing else";
        return Err(ValueError::new(format!("contains {found} at character {position}"), hint));
    }
    if token != text {
        let problem = "has spaces, quotes or invisible characters around it: they are removed";
        at.warn(None, problem, "write the secret without quotes and spaces around it");
    }
    Ok(token.to_owned())
}

/// Removes characters that are often copied along with a secret.
fn bare(text: &str) -> &str {
    let invisible = |c: char| c.is_whitespace() || INVISIBLE.contains(&c);
    let text = text.trim_matches(invisible);
    let quoted = QUOTES.iter().find_map(|(open, close)| text.strip_prefix(*open)?.strip_suffix(*close));
    quoted.map_or(text, |text| text.trim_matches(invisible))
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
const INVISIBLE: [char; 9] = [
    '\u{feff}', '\u{200b}', '\u{200c}', '\u{200d}', '\u{200e}', '\u{200f}', '\u{2060}', '\u{ad}', '\u{180e}',
];
