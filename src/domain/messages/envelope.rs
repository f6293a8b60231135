//! Envelopes of ShipStation and ShipEngine, made from a stored `tracking.updated` (contract 6.1, 6.2).
//!
//! `data` holds the API's own bytes: key order, nulls and number spelling do not change.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::raw_fields::RawFields;
use crate::domain::messages::subscriber::Format;

/// Error for a stored message without a tracking answer: a bug of trackpost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message has no tracking answer for the format {}", .0.as_str())]
pub struct EnvelopeError(Format);

#[derive(Deserialize)]
struct Updated<'a> {
    #[serde(borrow)]
    data: UpdatedData<'a>,
}

#[derive(Deserialize)]
struct UpdatedData<'a> {
    #[serde(borrow)]
    tracking: &'a RawValue,
}

/// Returns the API's answer within the body of a `tracking.updated`.
pub fn tracking_of(body: &str) -> Option<&RawValue> {
    serde_json::from_str::<Updated<'_>>(body).ok().map(|updated| updated.data.tracking)
}

/// Returns the body of a callback in `format`. Equal arguments give equal bytes, at every attempt.
pub fn render(format: Format, body: &str, resource_url: Option<&str>) -> Result<String, EnvelopeError> {
    if format == Format::Standard {
        return Ok(body.to_owned());
    }
    let resource_url = resource_url.ok_or(EnvelopeError(format))?;
    let tracking = tracking_of(body).ok_or(EnvelopeError(format))?;
    let envelope = match format {
        Format::Shipengine => shipengine(resource_url, tracking.get()),
        Format::Shipstation | Format::Standard => {
            serde_json::to_string(&Envelope { resource_url, resource_type: "TRACK_EVENT_V2", data: tracking })
        }
    };
    Ok(envelope.expect("an envelope is made of texts and JSON"))
}

#[derive(Serialize)]
struct Envelope<'a, D> {
    resource_url: &'a str,
    resource_type: &'a str,
    data: D,
}

/// `data` of the classic envelope.
#[derive(Serialize)]
struct Classic<'a> {
    label_url: &'a str,
    #[serde(flatten)]
    fields: RawFields<'a>,
}

/// Fields of the classic `data` after `label_url`, in ShipEngine's order.
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

/// Unreserved characters of RFC 3986.
const QUERY_VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

fn shipengine(label_track_url: &str, tracking: &str) -> serde_json::Result<String> {
    let answer = RawFields::of(tracking).unwrap_or_default();
    let label_url = label_track_url.strip_suffix("/track").unwrap_or(label_track_url);
    let root = label_url.rsplit_once("/labels/").map_or(label_url, |(root, _)| root);
    let text = |name| answer.get(name).and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    let (carrier, number) =
        (text("carrier_code").unwrap_or_default(), text("tracking_number").unwrap_or_default());
    let resource_url = format!(
        "{root}/tracking?carrier_code={}&tracking_number={}",
        utf8_percent_encode(&carrier, QUERY_VALUE),
        utf8_percent_encode(&number, QUERY_VALUE),
    );
    let empty_list: &RawValue = serde_json::from_str("[]")?;
    let fields = CLASSIC_FIELDS.iter().map(|name| {
        let value = match *name {
            // Older answers have `shipped_date`.
            "ship_date" => answer.get("ship_date").or_else(|| answer.get("shipped_date")),
            "events" => answer.get("events").or(Some(empty_list)),
            name => answer.get(name),
        };
        ((*name).to_owned(), value.unwrap_or(RawValue::NULL))
    });
    let data = Classic { label_url, fields: RawFields(fields.collect()) };
    serde_json::to_string(&Envelope { resource_url: &resource_url, resource_type: "API_TRACK", data })
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
    fn data_is_the_answer_byte_for_byte() {
        let body = render(Format::Shipstation, &updated(), Some(URL)).unwrap();
        assert_eq!(
            body,
            format!(r#"{{"resource_url":"{URL}","resource_type":"TRACK_EVENT_V2","data":{TRACKING}}}"#)
        );
    }

    #[test]
    fn the_classic_envelope_has_the_classic_keys() {
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
    fn a_message_without_an_answer_has_no_envelope() {
        assert!(render(Format::Shipstation, r#"{"data":{}}"#, None).is_err());
    }
}
