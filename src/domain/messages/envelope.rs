//! The vendor's own envelopes, cut from a stored `tracking.updated` (contract 6.1, 6.2).
//!
//! `data` is the API's own bytes: key order, nulls and number spelling untouched.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::splice::{Fields, ObjectWriter};
use crate::domain::messages::subscriber::Format;

/// A stored message that can't be put into the vendor's form: a fault of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message holds no tracking answer to put into the {} form", .0.as_str())]
pub struct NoEnvelope(Format);

#[derive(Deserialize)]
struct Updated<'a> {
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    tracking: &'a RawValue,
}

/// The API's answer, as the body of a `tracking.updated` holds it.
pub fn tracking_of(body: &str) -> Option<&RawValue> {
    serde_json::from_str::<Updated<'_>>(body).ok().map(|updated| updated.data.tracking)
}

/// The bytes of a callback in `format`. The same arguments give the same bytes, at every attempt.
pub fn render(format: Format, body: &str, resource_url: Option<&str>) -> Result<String, NoEnvelope> {
    if format == Format::Standard {
        return Ok(body.to_owned());
    }
    let resource_url = resource_url.ok_or(NoEnvelope(format))?;
    let tracking = tracking_of(body).ok_or(NoEnvelope(format))?.get();
    Ok(match format {
        Format::Shipengine => shipengine(resource_url, tracking),
        Format::Shipstation | Format::Standard => ObjectWriter::new()
            .field("resource_url", resource_url)
            .field("resource_type", "TRACK_EVENT_V2")
            .raw("data", tracking)
            .end(),
    })
}

/// The fields of the classic `data`, in the vendor's order, after `label_url`.
const CLASSIC_FIELDS: [&str; 11] = [
    "tracking_number",
    "status_code",
    "carrier_detail_code",
    "status_description",
    "carrier_status_code",
    "carrier_status_description",
    "ship_date",
    "estimated_delivery_date",
    "actual_delivery_date",
    "exception_description",
    "events",
];

fn shipengine(label_track_url: &str, tracking: &str) -> String {
    let fields = Fields::of(tracking).unwrap_or(Fields(Vec::new()));
    let label_url = label_track_url.strip_suffix("/track").unwrap_or(label_track_url);
    let root = label_url.rsplit_once("/labels/").map_or(label_url, |(root, _)| root);
    let text = |name| fields.get(name).and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    let resource_url = format!(
        "{root}/tracking?carrier_code={}&tracking_number={}",
        encoded(&text("carrier_code").unwrap_or_default()),
        encoded(&text("tracking_number").unwrap_or_default()),
    );
    let data = CLASSIC_FIELDS.iter().fold(ObjectWriter::new().field("label_url", label_url), |data, name| {
        let value = match (fields.get(name), *name) {
            // `shipped_date` is what older answers call it.
            (None, "ship_date") => fields.get("shipped_date"),
            (value, _) => value,
        };
        match (value, *name) {
            (Some(value), _) => data.raw(name, value.get()),
            (None, "events") => data.raw(name, "[]"),
            (None, _) => data.raw(name, "null"),
        }
    });
    ObjectWriter::new()
        .field("resource_url", &resource_url)
        .field("resource_type", "API_TRACK")
        .raw("data", &data.end())
        .end()
}

/// Percent-encoding of a query value.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://api.shipstation.com/v2/labels/se-1/track";
    const TRACKING: &str = r#"{"b": 1.50, "tracking_number":"1Z 9", "carrier_code": "ups","status_code":null,"shipped_date":"8/4/2021","events":[ {"é":1e2} ]}"#;

    fn updated() -> String {
        format!(r#"{{"type":"tracking.updated","data":{{"seq":3,"tracking":{TRACKING}}}}}"#)
    }

    #[test]
    fn data_is_byte_for_byte_what_was_read() {
        let body = render(Format::Shipstation, &updated(), Some(URL)).unwrap();
        assert_eq!(
            body,
            format!(r#"{{"resource_url":"{URL}","resource_type":"TRACK_EVENT_V2","data":{TRACKING}}}"#)
        );
    }

    #[test]
    fn the_classic_form_has_the_classic_keys() {
        let body = render(Format::Shipengine, &updated(), Some(URL)).unwrap();
        assert_eq!(
            body,
            concat!(
                r#"{"resource_url":"https://api.shipstation.com/v2/tracking?carrier_code=ups&tracking_number=1Z%209","#,
                r#""resource_type":"API_TRACK","data":{"label_url":"https://api.shipstation.com/v2/labels/se-1","#,
                r#""tracking_number":"1Z 9","status_code":null,"carrier_detail_code":null,"status_description":null,"#,
                r#""carrier_status_code":null,"carrier_status_description":null,"ship_date":"8/4/2021","#,
                r#""estimated_delivery_date":null,"actual_delivery_date":null,"exception_description":null,"#,
                r#""events":[ {"é":1e2} ]}}"#
            )
        );
    }

    #[test]
    fn what_no_poll_made_has_no_envelope() {
        assert!(render(Format::Shipstation, r#"{"data":{}}"#, None).is_err());
    }
}
