//! Replay: serves files unchanged.
//!
//! `DIR/{label_id}.json` is always the answer. From `DIR/{label_id}/*.json` each request takes the next file, ordered
//! by name; the last repeats. Files are read at each request, so they can be edited while it runs. A file that is a
//! webhook (`{"data": {…}}`) is served as its `data`.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use axum::body::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::label::LabelId;

#[derive(Debug)]
pub(super) struct FileReplay {
    directory: PathBuf,
    /// Number of answers sent for each label from its directory.
    served: HashMap<LabelId, usize>,
}

impl FileReplay {
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        fs::read_dir(directory)?;
        Ok(Self { directory: directory.to_owned(), served: HashMap::new() })
    }

    /// Returns the labels that have files.
    pub(super) fn labels(&self) -> io::Result<Vec<LabelId>> {
        let mut labels = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let name = if path.is_dir() { path.file_name() } else { json_stem(&path) };
            labels.extend(name.and_then(|name| name.to_str()).and_then(|name| name.parse().ok()));
        }
        labels.sort();
        labels.dedup();
        Ok(labels)
    }

    /// The next answer about `label`, if there are files for it.
    pub(super) fn next(&mut self, label: &LabelId) -> Option<Bytes> {
        let step = self.served.get(label).copied().unwrap_or(0);
        let body = self.at(label, step)?;
        self.served.insert(label.clone(), step + 1);
        Some(body)
    }

    /// The answer to the last request; the first answer if there was none.
    pub(super) fn last(&self, label: &LabelId) -> Option<Bytes> {
        self.at(label, self.served.get(label).copied().unwrap_or(1).saturating_sub(1))
    }

    fn at(&self, label: &LabelId, step: usize) -> Option<Bytes> {
        if let Ok(body) = fs::read(self.directory.join(format!("{label}.json"))) {
            return Some(unwrap_webhook(body));
        }
        let mut steps: Vec<PathBuf> = fs::read_dir(self.directory.join(label.as_str()))
            .ok()?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| json_stem(path).is_some())
            .collect();
        steps.sort();
        let path = steps.get(step).or(steps.last())?;
        Some(unwrap_webhook(fs::read(path).ok()?))
    }
}

fn json_stem(path: &Path) -> Option<&std::ffi::OsStr> {
    path.extension().filter(|ending| *ending == "json").and_then(|_| path.file_stem())
}

/// Returns the `data` of a webhook, unchanged; any other text is returned as it is.
fn unwrap_webhook(body: Vec<u8>) -> Bytes {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        data: &'a RawValue,
    }
    match serde_json::from_slice::<Envelope<'_>>(&body) {
        Ok(Envelope { data }) if data.get().starts_with('{') => Bytes::copy_from_slice(data.get().as_bytes()),
        _ => body.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(text: &str) -> LabelId {
        text.parse().unwrap()
    }

    #[test]
    fn a_file_is_constant_and_a_directory_advances_with_each_request() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("se-1.json"), "{ \"status_code\" : \"IT\" }\n").unwrap();
        fs::create_dir(dir.path().join("se-2")).unwrap();
        for (name, body) in [("02.json", "two"), ("01.json", "one"), ("03.txt", "no")] {
            fs::write(dir.path().join("se-2").join(name), body).unwrap();
        }
        fs::write(dir.path().join("README.md"), "").unwrap();
        let mut replay = FileReplay::open(dir.path()).unwrap();
        assert_eq!(replay.labels().unwrap(), [label("se-1"), label("se-2")]);
        assert_eq!(replay.next(&label("se-1")).unwrap(), "{ \"status_code\" : \"IT\" }\n");
        assert_eq!(replay.last(&label("se-2")).unwrap(), "one");
        let bodies: Vec<Bytes> = (0..3).map(|_| replay.next(&label("se-2")).unwrap()).collect();
        assert_eq!(bodies, ["one", "two", "two"]);
        assert_eq!(replay.last(&label("se-2")).unwrap(), "two");
        assert_eq!(replay.next(&label("se-3")), None);
    }

    #[test]
    fn a_webhook_is_served_as_its_data() {
        let webhook = br#"{"resource_url":"x","resource_type":"TRACK_EVENT_V2","data":{"status_code": "DE","carrier_id":1.0}}"#;
        assert_eq!(unwrap_webhook(webhook.to_vec()), r#"{"status_code": "DE","carrier_id":1.0}"#);
        for other in ["{\"data\":1}", "{\"data\"", "[]", ""] {
            assert_eq!(unwrap_webhook(other.as_bytes().to_vec()), other);
        }
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        assert!(FileReplay::open(Path::new("/nowhere/at/all")).is_err());
    }
}
