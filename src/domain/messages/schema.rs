//! JSON Schemas of all callback bodies, generated from the types that serialize them.
//!
//! The schemas are stored in `config/schemas/`. A test compares these files with the generated schemas, and tests validate
//! every sent body.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use super::MessageType;
use super::body::{
    AccountData, AddedDetails, Body, EstimateDetails, EventsDetails, ExpiredDetails, LabelData, LateDetails,
    MilestoneDetails, StalledDetails, StatusDetails, SubscriberData, UnavailableDetails, UpdatedDetails,
};
use super::ping::{PING, PingData};
use crate::domain::messages::subscriber::Format;

/// Schema of a message's body in the standard format.
pub fn of_message(kind: MessageType) -> Value {
    let schema = match kind {
        MessageType::EventAdded => label::<AddedDetails<'_>>(),
        MessageType::EventRevised | MessageType::EventRetracted => label::<EventsDetails<'_>>(),
        MessageType::EstimateChanged => label::<EstimateDetails<'_>>(),
        MessageType::StatusChanged | MessageType::Reopened => label::<StatusDetails<'_>>(),
        MessageType::OutForDelivery | MessageType::Exception | MessageType::Delivered => {
            label::<MilestoneDetails<'_>>()
        }
        MessageType::Updated => label::<UpdatedDetails<'_>>(),
        MessageType::Stalled => label::<StalledDetails>(),
        MessageType::Late => label::<LateDetails<'_>>(),
        MessageType::Expired => label::<ExpiredDetails>(),
        MessageType::Unavailable => label::<UnavailableDetails<'_>>(),
        MessageType::AccountUnauthorized | MessageType::AccountRecovered => of::<Body<'_, AccountData<'_>>>(),
        MessageType::SubscriberFailing | MessageType::SubscriberRecovered => {
            of::<Body<'_, SubscriberData<'_>>>()
        }
    };
    with_type(schema, kind.as_str())
}

/// Schema of a ping.
pub fn of_ping() -> Value {
    with_type(of::<Body<'_, PingData<'_>>>(), PING)
}

fn with_type(schema: Schema, kind: &str) -> Value {
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
    settings.for_serialize().into_generator().into_root_schema_for::<T>()
}

/// Schema of an envelope of ShipStation or ShipEngine, without the API's own data.
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

/// All schemas with their file names.
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

    /// After a change of the types, write the files with
    /// `TRACKPOST_WRITE_SCHEMAS=1 cargo test --lib schema`.
    #[test]
    fn the_schema_files_are_up_to_date() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/schemas");
        let write = std::env::var_os("TRACKPOST_WRITE_SCHEMAS").is_some();
        let schemas = all();
        for (name, schema) in &schemas {
            let text = serde_json::to_string_pretty(schema).unwrap() + "\n";
            let path = directory.join(name);
            if write {
                std::fs::create_dir_all(&directory).unwrap();
                std::fs::write(&path, &text).unwrap();
            }
            let kept = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(kept == text, "{} differs from the generated schema", path.display());
        }
        let kept = std::fs::read_dir(&directory).unwrap().count();
        assert_eq!(kept, schemas.len(), "{} contains a schema without a type", directory.display());
    }

    #[test]
    fn every_schema_is_valid() {
        for (name, schema) in all() {
            assert!(jsonschema::meta::is_valid(&schema), "{name}");
        }
    }
}
