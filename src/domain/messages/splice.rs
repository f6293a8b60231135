//! Writing fields of ours beside fields of the API's without touching a byte of theirs.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

/// The fields of a JSON object in their order, each value byte for byte.
#[derive(Default)]
pub struct Fields<'a>(pub Vec<(String, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// `None` if `raw` is no JSON object.
    pub fn of(raw: &'a str) -> Option<Self> {
        serde_json::from_str(raw).ok()
    }

    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| *value)
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Ordered;
        impl<'de> Visitor<'de> for Ordered {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Ordered)
    }
}

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

/// A JSON object being written: keys in the order given.
pub struct ObjectWriter(String);

impl ObjectWriter {
    pub fn new() -> Self {
        Self("{".to_owned())
    }

    /// Adds a field whose value is JSON text already.
    pub fn raw(mut self, key: &str, json: &str) -> Self {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(&quoted(key));
        self.0.push(':');
        self.0.push_str(json);
        self
    }

    /// Adds a field.
    pub fn field<T: Serialize + ?Sized>(self, key: &str, value: &T) -> Self {
        let json = serde_json::to_string(value).expect("plain values can be written as JSON");
        self.raw(key, &json)
    }

    pub fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

fn quoted(key: &str) -> String {
    serde_json::to_string(key).expect("a text can be written as JSON")
}
