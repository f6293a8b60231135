//! The JSON Schemas of all callback bodies, generated from the types that write them.
//!
//! They are kept in `config/schemas/`; a test holds the files against what is generated, and tests validate every body
//! that is sent.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use super::MessageType;
use super::body::{
    AccountData, AddedNews, Body, EstimateNews, EventsNews, ExpiredNews, LabelData, LateNews, MilestoneNews,
    StalledNews, StatusNews, SubscriberData, UnavailableNews, UpdatedNews,
};
use super::ping::{PING, PingData};
use crate::domain::messages::subscriber::Format;

/// The schema of a message's body in the standard form.
pub fn of_message(kind: MessageType) -> Value {
    let schema = match kind {
        MessageType::EventAdded => label::<AddedNews<'_>>(),
        MessageType::EventRevised | MessageType::EventRetracted => label::<EventsNews<'_>>(),
        MessageType::EstimateChanged => label::<EstimateNews<'_>>(),
        MessageType::StatusChanged | MessageType::Reopened => label::<StatusNews<'_>>(),
        MessageType::OutForDelivery | MessageType::Exception | MessageType::Delivered => {
            label::<MilestoneNews<'_>>()
        }
        MessageType::Updated => label::<UpdatedNews<'_>>(),
        MessageType::Stalled => label::<StalledNews>(),
        MessageType::Late => label::<LateNews<'_>>(),
        MessageType::Expired => label::<ExpiredNews>(),
        MessageType::Unavailable => label::<UnavailableNews<'_>>(),
        MessageType::AccountUnauthorized | MessageType::AccountRecovered => of::<Body<'_, AccountData<'_>>>(),
        MessageType::SubscriberFailing | MessageType::SubscriberRecovered => {
            of::<Body<'_, SubscriberData<'_>>>()
        }
    };
    named(schema, kind.as_str())
}

/// The schema of a ping.
pub fn of_ping() -> Value {
    named(of::<Body<'_, PingData<'_>>>(), PING)
}

fn named(schema: Schema, kind: &str) -> Value {
    let mut schema = schema.to_value();
    schema["title"] = json!(kind);
    schema["properties"]["type"] = json!({ "const": kind });
    schema
}

fn label<N: JsonSchema>() -> Schema {
    of::<Body<'_, LabelData<'_, N>>>()
}

fn of<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    // What we write, not what somebody might read.
    settings.for_serialize().into_generator().into_root_schema_for::<T>()
}

/// The schema of the vendor's own envelopes: what is around the API's bytes, which are the vendor's.
pub fn of_envelope(format: Format) -> Option<Value> {
    let (resource_type, data) = match format {
        Format::Shipstation => ("TRACK_EVENT_V2", json!({ "type": "object" })),
        Format::Shipengine => (
            "API_TRACK",
            json!({
                "type": "object",
                "required": ["label_url", "tracking_number", "status_code", "events"],
                "properties": { "label_url": { "type": "string" }, "events": { "type": ["array", "null"] } },
            }),
        ),
        Format::Standard => return None,
    };
    Some(json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": resource_type,
        "type": "object",
        "required": ["resource_url", "resource_type", "data"],
        "additionalProperties": false,
        "properties": {
            "resource_url": { "type": "string" },
            "resource_type": { "const": resource_type },
            "data": data,
        },
    }))
}

/// Every schema with the name of its file.
pub fn all() -> Vec<(String, Value)> {
    let messages =
        MessageType::ALL.into_iter().map(|kind| (format!("{}.json", kind.as_str()), of_message(kind)));
    let envelopes = Format::ALL
        .into_iter()
        .filter_map(|format| Some((format!("{}.json", format.as_str()), of_envelope(format)?)));
    messages.chain(envelopes).chain([(format!("{PING}.json"), of_ping())]).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The files are what the types say. After a change of the types:
    /// `TRACKPOST_WRITE_SCHEMAS=1 cargo test --lib schema`.
    #[test]
    fn the_files_are_fresh() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/schemas");
        let write = std::env::var_os("TRACKPOST_WRITE_SCHEMAS").is_some();
        let schemas = all();
        for (name, schema) in &schemas {
            let text = serde_json::to_string_pretty(schema).unwrap() + "\n";
            let path = folder.join(name);
            if write {
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(&path, &text).unwrap();
            }
            let kept = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(kept == text, "{} is not what the types say", path.display());
        }
        let kept = std::fs::read_dir(&folder).unwrap().count();
        assert_eq!(kept, schemas.len(), "a schema of nothing lies in {}", folder.display());
    }

    #[test]
    fn every_schema_is_one() {
        for (name, schema) in all() {
            assert!(jsonschema::meta::is_valid(&schema), "{name}");
        }
    }
}
