//! The three layers of a configuration, laid over each other: defaults, file, environment.
//!
//! The `config` crate carries the layers. How one is laid over the next is ours, because tables differ: a section is
//! merged key by key, while a cadence row, a secret or a set of headers is one value and is replaced as a whole.
//! Names in variables have lost their case, so they find the existing name in any case, with `_` for `-` too.
//!
//! Nothing here knows what a value should look like; only what is no TOML, or no section at all, is at fault.

use std::fmt;
use std::path::Path;

use config::{ConfigError, File, FileFormat, Map, Source, Value, ValueKind};

use super::environment::Environment;
use super::fault::{Fault, Findings, meant};
use super::reader::dotted;
use crate::domain::polling::cadence::RowName;

/// The commented file that ships, which is the compiled-in default.
pub(super) const DEFAULTS: &str = include_str!("../../config/trackpost.toml");

/// What variables start with. `TRACKPOST_CONFIG` does not: one underscore.
pub(super) const PREFIX: &str = "TRACKPOST__";

const SECTIONS: [&str; 9] =
    ["store", "http", "log", "accounts", "registration", "cadence", "silence", "signing", "subscribers"];

/// All layers as one table. Every scalar and array in it knows its origin.
pub(super) fn lay(file: Option<&Path>, environment: &Environment, findings: &Findings) -> Map<String, Value> {
    let mut builder = config::Config::builder();
    builder = builder.add_source(Layer::Text(parse(DEFAULTS, "compiled-in default", findings)));
    if let Some(path) = file {
        builder = builder.add_source(Layer::Text(read(path, findings)));
    }
    builder = builder.add_source(Layer::Variables(variables(environment, findings)));
    let built = builder.build().and_then(|built| built.cache.into_table());
    built.unwrap_or_else(|error| {
        let fault = Fault::new("configuration", "", error.to_string());
        findings.fault(fault.hint("trackpost check with the file alone, without variables, may tell more"));
        Map::new()
    })
}

fn read(path: &Path, findings: &Findings) -> Map<String, Value> {
    let place = path.display().to_string();
    let cannot = |problem: String| {
        findings.fault(
            Fault::new(&place, "", problem).hint("--config FILE or TRACKPOST_CONFIG names the configuration"),
        );
        Map::new()
    };
    match std::fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => parse(&text, &place, findings),
        Ok(Err(_)) => cannot("is not UTF-8 text".to_owned()),
        Err(error) => cannot(format!("cannot be read: {error}")),
    }
}

fn parse(text: &str, place: &str, findings: &Findings) -> Map<String, Value> {
    let mut table = match File::from_str(text, FileFormat::Toml).collect() {
        Ok(table) => table,
        Err(error) => {
            findings.fault(syntax_fault(place, &error));
            return Map::new();
        }
    };
    table.retain(|name, _| known_section(name, name, place, findings));
    if let Some(ValueKind::Table(rows)) = table.get("cadence").map(|cadence| &cadence.kind) {
        for row in RowName::ALL.map(RowName::as_str) {
            if rows.keys().filter(|name| name.eq_ignore_ascii_case(row)).count() > 1 {
                let twice = Fault::new(place, format!("cadence.{row}"), "is there twice, in different case");
                findings.fault(twice.hint("names of rows are the same in any case: keep one of them"));
            }
        }
    }
    table.into_iter().map(|(name, value)| (name, stamped(value, place))).collect()
}

fn variables(environment: &Environment, findings: &Findings) -> Vec<(Vec<String>, Value)> {
    let of_ours = environment
        .iter()
        .filter(|(name, _)| name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX)));
    of_ours
        .filter_map(|(variable, text)| {
            let path: Vec<String> =
                variable[PREFIX.len()..].split("__").map(|name| name.to_ascii_lowercase()).collect();
            let known = known_section(&path[0], &path.join("."), variable, findings);
            known.then(|| (path, stamped(Value::new(None, structured(text)), variable)))
        })
        .collect()
}

/// Arrays and tables as TOML has them, everything else as the text it is: whoever expects a number reads one in it, and
/// a token of digits stays a token.
fn structured(text: &str) -> ValueKind {
    if text.trim_start().starts_with(['[', '{'])
        && let Ok(mut table) = File::from_str(&format!("value = {text}"), FileFormat::Toml).collect()
        && table.len() == 1
        && let Some(value) = table.remove("value")
    {
        return value.kind;
    }
    ValueKind::String(text.to_owned())
}

fn known_section(name: &str, key: &str, place: &str, findings: &Findings) -> bool {
    let known = SECTIONS.contains(&name);
    if !known {
        findings.fault(
            Fault::new(place, dotted("", key), "is no section of the configuration").hint(format!(
                "{}Sections: {}",
                meant(name, SECTIONS),
                SECTIONS.join(", ")
            )),
        );
    }
    known
}

/// File and line of what is no TOML. The parser quotes the line, which may hold a secret: that part is left out.
fn syntax_fault(place: &str, error: &ConfigError) -> Fault {
    let text = match error {
        ConfigError::FileParse { cause, .. } => cause.to_string(),
        other => other.to_string(),
    };
    let position = text
        .lines()
        .next()
        .and_then(|first| first.strip_prefix("TOML parse error at "))
        .unwrap_or_default()
        .to_owned();
    let behind_quote = text.lines().rev().take_while(|line| !line.trim_start().starts_with('|'));
    let mut message: Vec<&str> = behind_quote.map(str::trim).collect();
    message.reverse();
    Fault::new(place, position, format!("is no TOML: {}", message.join(" ").trim()))
        .hint("texts stand in quotes, sections in [brackets], and each is there once")
}

fn stamped(value: Value, place: &str) -> Value {
    let kind = match value.kind {
        ValueKind::Table(entries) => {
            ValueKind::Table(entries.into_iter().map(|(name, value)| (name, stamped(value, place))).collect())
        }
        ValueKind::Array(items) => {
            ValueKind::Array(items.into_iter().map(|item| stamped(item, place)).collect())
        }
        scalar => scalar,
    };
    Value::new(Some(&place.to_owned()), kind)
}

#[derive(Clone)]
enum Layer {
    Text(Map<String, Value>),
    /// Paths in lower case, and what is to be put there.
    Variables(Vec<(Vec<String>, Value)>),
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        let mut alone = Value::new(None, Map::<String, Value>::new());
        self.collect_to(&mut alone)?;
        alone.into_table()
    }

    fn collect_to(&self, below: &mut Value) -> Result<(), ConfigError> {
        match self {
            Self::Text(table) => cover(below, &mut Vec::new(), Value::new(None, table.clone())),
            Self::Variables(variables) => {
                for (path, value) in variables {
                    put(below, path, value.clone());
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Layer {
    /// Shows nothing: a layer holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Layer")
    }
}

/// Lays `above` over `below`, which lies at `path`.
fn cover(below: &mut Value, path: &mut Vec<String>, above: Value) {
    match above.kind {
        ValueKind::Table(entries) if is_merged(path) => {
            let table = table_of(below);
            for (name, value) in entries {
                let name = row_name(path, name);
                path.push(name.clone());
                cover(table.entry(name).or_default(), path, value);
                path.pop();
            }
        }
        _ => *below = above,
    }
}

/// Puts `value` where `names` lead, which are in lower case.
fn put(below: &mut Value, names: &[String], value: Value) {
    let mut path = Vec::with_capacity(names.len());
    let mut at = below;
    for name in names {
        let table = table_of(at);
        let name = existing(table, name);
        path.push(name.clone());
        at = table.entry(name).or_default();
    }
    cover(at, &mut path, value);
}

/// Whether a table at `path` is merged key by key; any other is one value.
fn is_merged(path: &[String]) -> bool {
    match path {
        [] | [_] => true,
        [section, _] => section == "accounts" || section == "subscribers",
        [section, _, key] => section == "accounts" && key == "discover",
        _ => false,
    }
}

fn table_of(value: &mut Value) -> &mut Map<String, Value> {
    if !matches!(value.kind, ValueKind::Table(_)) {
        value.kind = ValueKind::Table(Map::new());
    }
    match &mut value.kind {
        ValueKind::Table(table) => table,
        _ => unreachable!("it was made a table"),
    }
}

/// Rows of the cadence match in any case.
fn row_name(path: &[String], name: String) -> String {
    let rows = if path == ["cadence"] { &RowName::ALL[..] } else { &[] };
    let row = rows.iter().map(|row| row.as_str()).find(|row| row.eq_ignore_ascii_case(&name));
    row.map_or(name, str::to_owned)
}

/// The name that is there already and differs only in case, or in `-` for `_`.
fn existing(table: &Map<String, Value>, name: &str) -> String {
    let alike = |there: &&String| there.eq_ignore_ascii_case(name);
    let nearly = |there: &&String| there.replace('-', "_").eq_ignore_ascii_case(name);
    let found = table.get_key_value(name).map(|(there, _)| there);
    let found = found.or_else(|| table.keys().filter(alike).min());
    found.or_else(|| table.keys().filter(nearly).min()).cloned().unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(file: &str, environment: &[(&str, &str)]) -> (Map<String, Value>, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.toml");
        std::fs::write(&path, file).unwrap();
        let findings = Findings::default();
        let table = lay(Some(&path), &environment.iter().copied().collect(), &findings);
        (table, findings.settle().map_or_else(|faults| faults.to_string(), |_| String::new()))
    }

    fn at(table: &Map<String, Value>, path: &[&str]) -> Option<Value> {
        let (name, rest) = path.split_first()?;
        let value = table.get(*name)?;
        match (rest, &value.kind) {
            ([], _) => Some(value.clone()),
            (_, ValueKind::Table(inner)) => at(inner, rest),
            _ => None,
        }
    }

    #[test]
    fn a_later_layer_wins_and_is_remembered_as_the_origin() {
        let (table, faults) = over(
            "[store]\npath = \"a.db\"\nkeep_attempts = \"1d\"",
            &[("TRACKPOST__STORE__PATH", "b.db"), ("TRACKPOST_CONFIG", "x"), ("PATH", "/bin")],
        );
        assert_eq!(faults, "");
        let path = at(&table, &["store", "path"]).unwrap();
        assert_eq!(path.kind, ValueKind::from("b.db"));
        assert_eq!(path.origin(), Some("TRACKPOST__STORE__PATH"));
        assert_eq!(at(&table, &["store", "keep_attempts"]).unwrap().kind, ValueKind::from("1d"));
        assert_eq!(at(&table, &["store", "keep_finished"]).unwrap().origin(), Some("compiled-in default"));
    }

    #[test]
    fn a_cadence_row_of_the_file_replaces_the_default_as_a_whole_in_any_case() {
        let (table, faults) = over("[cadence.it]\nintervals = [\"1h\"]", &[]);
        assert_eq!(faults, "");
        assert!(at(&table, &["cadence", "it"]).is_none());
        assert!(at(&table, &["cadence", "IT", "intervals"]).is_some());
        assert!(at(&table, &["cadence", "IT", "slow_after"]).is_none());
        assert!(at(&table, &["cadence", "AC", "slow_after"]).is_some());
        let (_, faults) = over("[cadence.it]\n[cadence.IT]", &[]);
        assert!(faults.contains("cadence.IT: is there twice"), "{faults}");
    }

    #[test]
    fn variables_find_names_in_any_case() {
        let file =
            "[accounts.MyShop]\napi_key = { file = \"a\" }\n[subscribers.a-b]\nheaders = { X-Token = \"1\" }";
        let (table, _) = over(
            file,
            &[
                ("TRACKPOST__ACCOUNTS__MYSHOP__API_KEY", "{ env = \"KEY\" }"),
                ("TRACKPOST__SUBSCRIBERS__A_B__HEADERS__X_TOKEN", "2"),
                ("TRACKPOST__SUBSCRIBERS__A_B__RETRY", "[\"5s\", \"1m\"]"),
                ("TRACKPOST__CADENCE__IT__INTERVALS", "[\"1h\"]"),
                ("TRACKPOST__ACCOUNTS__NEW__MAX_IN_FLIGHT", "3"),
            ],
        );
        assert!(at(&table, &["accounts", "MyShop", "api_key", "env"]).is_some());
        assert!(at(&table, &["accounts", "MyShop", "api_key", "file"]).is_none(), "one value, not merged");
        assert_eq!(
            at(&table, &["subscribers", "a-b", "headers", "X-Token"]).unwrap().kind,
            ValueKind::from("2")
        );
        assert!(matches!(at(&table, &["subscribers", "a-b", "retry"]).unwrap().kind, ValueKind::Array(_)));
        assert!(at(&table, &["cadence", "IT", "slow_after"]).is_some());
        assert!(at(&table, &["accounts", "new", "max_in_flight"]).is_some());
    }

    #[test]
    fn a_syntax_error_names_the_line_and_quotes_nothing() {
        let (_, faults) = over("[accounts.main]\napi_key = \"s3cret\nx = 1", &[]);
        assert!(faults.contains("t.toml: line 2, column"), "{faults}");
        assert!(!faults.contains("s3cret"), "{faults}");
        let (_, faults) = over("[store]\npath = \"a\"\npath = \"b\"\n", &[]);
        assert!(faults.contains("t.toml: line 3, column 1: is no TOML: duplicate key"), "{faults}");
    }

    #[test]
    fn no_section_at_all_is_a_fault() {
        let (_, faults) = over("[acounts.main]\n", &[("TRACKPOST__STOER__PATH", "x")]);
        assert!(faults.contains("t.toml: acounts: is no section"), "{faults}");
        assert!(faults.contains("did you mean \"accounts\"?"), "{faults}");
        assert!(faults.contains("TRACKPOST__STOER__PATH: stoer.path: is no section"), "{faults}");
    }

    #[test]
    fn a_file_that_is_not_there_is_a_fault() {
        let findings = Findings::default();
        lay(Some(Path::new("/nowhere/t.toml")), &Environment::default(), &findings);
        let faults = findings.settle().unwrap_err();
        assert!(faults.to_string().contains("/nowhere/t.toml: cannot be read: No such file"), "{faults}");
    }
}
