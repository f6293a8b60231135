//! The layers of a configuration, merged: defaults, file, environment.
//!
//! The `config` crate holds the layers. They are merged here, because the rule depends on the table: a section is
//! merged key by key, while a cadence row, a secret or a set of headers is one value and is replaced as a whole. Names
//! of variables have no case, so they match an existing name in any case, with `_` for `-` too.

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;

use config::{ConfigError, FileFormat, Format as _, Map, Source, Value, ValueKind};

use super::environment::Environment;
use super::fault::{Fault, Findings};
use super::table::{PREFIX, is_variable};
use super::value::{ANY, child, empty_table};
use crate::domain::polling::cadence::RowName;

/// The commented file that ships, which is the compiled-in default.
pub(super) const DEFAULTS: &str = include_str!("../../config/trackpost.toml");

/// The name of the compiled-in default as a place.
pub(super) const BUILT_IN: &str = "compiled-in default";

/// Sections whose tables have names of the user's choice.
const NAMED_TABLES: [&str; 2] = ["accounts", "subscribers"];

/// Keys whose commented value in [`DEFAULTS`] is an example, not a default.
const EXAMPLE_KEYS: [&str; 5] = ["api_key", "url", "secret", "headers", "hmac_header"];

/// Returns all layers as one table, in which every scalar and array knows its origin, and the table of all defaults.
pub(super) fn merge_layers(
    file: Option<&Path>,
    environment: &Environment,
    findings: &Findings,
) -> (Value, Value) {
    let defaults = defaults(findings);
    let sections = defaults.iter().filter(|(section, _)| !NAMED_TABLES.contains(&section.as_str()));
    let sections = sections.map(|(section, value)| (section.clone(), value.clone())).collect();
    let mut builder = config::Config::builder().add_source(Layer::Text(sections));
    if let Some(path) = file {
        builder = builder.add_source(Layer::Text(read(path, findings)));
    }
    builder = builder.add_source(Layer::Variables(variables(environment)));
    let built = builder.build().and_then(|built| built.cache.into_table());
    let mut table = built.unwrap_or_else(|error| {
        let fault = Fault::new("configuration", "", error.to_string());
        findings.fault(fault.hint("run trackpost check without TRACKPOST__ variables for more details"));
        Map::new()
    });
    for section in NAMED_TABLES {
        if let Some(ValueKind::Table(named)) = table.get_mut(section).map(|section| &mut section.kind) {
            let default = child(&defaults[section], ANY).expect("the defaults have an example");
            named.values_mut().for_each(|one| add_missing(one, default));
        }
    }
    (Value::new(None, table), Value::new(None, defaults))
}

fn read(path: &Path, findings: &Findings) -> Map<String, Value> {
    let place = path.display().to_string();
    let fault = match std::fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => return parse(&text, &place, findings),
        Ok(Err(_)) => Fault::new(&place, "", "is not UTF-8 text").hint("save it as UTF-8"),
        Err(error) if error.kind() == ErrorKind::NotFound => Fault::new(&place, "", "does not exist")
            .hint("trackpost init writes one; --config FILE names another"),
        Err(error) => Fault::new(&place, "", format!("cannot be read: {error}"))
            .hint("it must be a file that the user of trackpost can read"),
    };
    findings.fault(fault);
    Map::new()
}

fn parse(text: &str, place: &str, findings: &Findings) -> Map<String, Value> {
    let table = FileFormat::Toml.parse(Some(&place.to_owned()), text).unwrap_or_else(|error| {
        findings.fault(syntax_fault(text, place, &*error));
        Map::new()
    });
    if let Some(ValueKind::Table(rows)) = table.get("cadence").map(|cadence| &cadence.kind) {
        for row in RowName::ALL.map(RowName::as_str) {
            if rows.keys().filter(|name| name.eq_ignore_ascii_case(row)).count() > 1 {
                let twice = Fault::new(place, format!("cadence.{row}"), "is given twice, in different case");
                findings.fault(twice.hint("the case of row names is ignored: remove one of them"));
            }
        }
    }
    table
}

/// A syntax error with its line. The text is not quoted, because it may contain a secret.
fn syntax_fault(text: &str, place: &str, error: &(dyn std::error::Error + 'static)) -> Fault {
    let (mut position, mut message) = (String::new(), "is not valid TOML".to_owned());
    if let Some(error) = error.downcast_ref::<toml::de::Error>() {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        position = format!("line {}, column {column}", before.matches('\n').count() + 1);
        message = format!("{message}: {}", error.message().replace('\n', ", "));
    }
    Fault::new(place, position, message)
        .hint("put strings in quotes and sections in [brackets], and write each key only once")
}

/// The path of each variable in lower case, and its value.
fn variables(environment: &Environment) -> Vec<(Vec<String>, Value)> {
    let ours = environment.iter().filter(|(name, _)| is_variable(name));
    let path = |variable: &str| variable[PREFIX.len()..].split("__").map(str::to_ascii_lowercase).collect();
    ours.map(|(variable, text)| (path(variable), structured(variable, text))).collect()
}

/// Reads arrays and tables as TOML. Everything else stays text, so that a token of digits stays a token.
fn structured(variable: &str, text: &str) -> Value {
    let origin = variable.to_owned();
    if text.trim_start().starts_with(['[', '{'])
        && let Ok(mut table) = FileFormat::Toml.parse(Some(&origin), &format!("value = {text}"))
        && table.len() == 1
        && let Some(value) = table.remove("value")
    {
        return value;
    }
    Value::new(Some(&origin), text)
}

/// Returns all defaults, including those in comments: of the registration, and of any account and any subscriber.
fn defaults(findings: &Findings) -> Map<String, Value> {
    let mut defaults = parse(&uncommented(), BUILT_IN, findings);
    defaults.remove("signing");
    let registration = table_of(defaults.entry("registration".to_owned()).or_default());
    registration.retain(|name, _| !["labels", "files"].contains(&name.as_str()));
    for section in NAMED_TABLES {
        let named = table_of(defaults.entry(section.to_owned()).or_default());
        *named = named.drain().map(|(_, example)| (ANY.to_owned(), example)).collect();
    }
    defaults
}

/// [`DEFAULTS`] with its examples live: the lines that start with `#` and no space.
pub(super) fn uncommented() -> String {
    let live = |line: &'static str| match line.strip_prefix('#') {
        Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => rest,
        _ => line,
    };
    DEFAULTS.lines().flat_map(|line| [live(line), "\n"]).collect()
}

fn add_missing(to: &mut Value, defaults: &Value) {
    let (ValueKind::Table(table), ValueKind::Table(defaults)) = (&mut to.kind, &defaults.kind) else {
        return;
    };
    for (name, default) in defaults.iter().filter(|(name, _)| !EXAMPLE_KEYS.contains(&name.as_str())) {
        match table.get_mut(name) {
            Some(value) => add_missing(value, default),
            None => {
                table.insert(name.clone(), default.clone());
            }
        }
    }
}

#[derive(Clone)]
enum Layer {
    Text(Map<String, Value>),
    /// Paths in lower case with their values.
    Variables(Vec<(Vec<String>, Value)>),
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        let mut alone = empty_table();
        self.collect_to(&mut alone)?;
        alone.into_table()
    }

    fn collect_to(&self, below: &mut Value) -> Result<(), ConfigError> {
        match self {
            Self::Text(table) => merge(below, &mut Vec::new(), Value::new(None, table.clone())),
            Self::Variables(variables) => {
                for (path, value) in variables {
                    set(below, path, value.clone());
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Layer {
    /// Shows nothing: a layer contains secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Layer")
    }
}

/// Merges `above` into `below`, which is at `path`; `above` takes precedence.
fn merge(below: &mut Value, path: &mut Vec<String>, above: Value) {
    match above.kind {
        ValueKind::Table(entries) if is_merged(path) => {
            let table = table_of(below);
            for (name, value) in entries {
                let name = row_name(path, name);
                path.push(name.clone());
                merge(table.entry(name).or_default(), path, value);
                path.pop();
            }
        }
        _ => *below = above,
    }
}

/// Puts `value` at the path `names`, which are in lower case.
fn set(below: &mut Value, names: &[String], value: Value) {
    let mut path = Vec::with_capacity(names.len());
    let mut at = below;
    for name in names {
        let table = table_of(at);
        let name = existing(table, name);
        path.push(name.clone());
        at = table.entry(name).or_default();
    }
    merge(at, &mut path, value);
}

/// Whether a table at `path` is merged key by key; any other table is one value.
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

/// Cadence rows match in any case.
fn row_name(path: &[String], name: String) -> String {
    let rows = if path == ["cadence"] { &RowName::ALL[..] } else { &[] };
    let row = rows.iter().map(|row| row.as_str()).find(|row| row.eq_ignore_ascii_case(&name));
    row.map_or(name, str::to_owned)
}

/// The name that exists already and differs only in case, or in `-` for `_`.
fn existing(table: &Map<String, Value>, name: &str) -> String {
    let alike = |there: &&String| there.eq_ignore_ascii_case(name);
    let nearly = |there: &&String| there.replace('-', "_").eq_ignore_ascii_case(name);
    let found = table.get_key_value(name).map(|(there, _)| there);
    let found = found.or_else(|| table.keys().filter(alike).min());
    found.or_else(|| table.keys().filter(nearly).min()).cloned().unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::Faults;
    use super::*;

    fn over(file: &str, environment: &[(&str, &str)]) -> (Map<String, Value>, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.toml");
        std::fs::write(&path, file).unwrap();
        let findings = Findings::default();
        let table = merge_layers(Some(&path), &environment.iter().copied().collect(), &findings);
        (table.0.into_table().unwrap(), Faults::of(findings.finish().0).to_string())
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
    fn a_later_layer_wins_and_is_the_origin() {
        let (table, faults) = over(
            "[store]\npath = \"a.db\"\nkeep_attempts = \"1d\"",
            &[("TRACKPOST__STORE__PATH", "b.db"), ("TRACKPOST_CONFIG", "x"), ("PATH", "/bin")],
        );
        assert!(!faults.contains('\n'), "{faults}");
        let path = at(&table, &["store", "path"]).unwrap();
        assert_eq!(path.kind, ValueKind::from("b.db"));
        assert_eq!(path.origin(), Some("TRACKPOST__STORE__PATH"));
        assert_eq!(at(&table, &["store", "keep_attempts"]).unwrap().kind, ValueKind::from("1d"));
        assert_eq!(at(&table, &["store", "keep_finished"]).unwrap().origin(), Some("compiled-in default"));
    }

    #[test]
    fn a_cadence_row_of_the_file_replaces_the_default_as_a_whole_in_any_case() {
        let (table, faults) = over("[cadence.it]\nintervals = [\"1h\"]", &[]);
        assert!(!faults.contains('\n'), "{faults}");
        assert!(at(&table, &["cadence", "it"]).is_none());
        assert!(at(&table, &["cadence", "IT", "intervals"]).is_some());
        assert!(at(&table, &["cadence", "IT", "slow_after"]).is_none());
        assert!(at(&table, &["cadence", "AC", "slow_after"]).is_some());
        let (_, faults) = over("[cadence.it]\n[cadence.IT]", &[]);
        assert!(faults.contains("cadence.IT: is given twice"), "{faults}");
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
        assert!(faults.contains("t.toml: line 3, column 1: is not valid TOML: duplicate key"), "{faults}");
    }

    #[test]
    fn a_missing_file_is_a_fault() {
        let findings = Findings::default();
        merge_layers(Some(Path::new("/nowhere/t.toml")), &Environment::default(), &findings);
        let faults = Faults::of(findings.finish().0);
        assert!(faults.to_string().contains("/nowhere/t.toml: does not exist"), "{faults}");
    }
}
