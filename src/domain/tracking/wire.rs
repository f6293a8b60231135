//! Deserialization of an answer without copying: fields by name, events in order, each as raw JSON.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::Text;

/// Maximum number of events. A longer list is refused while it is parsed (contract 3). Null elements count.
pub const MAX_EVENTS: usize = 2_000;

/// Fields and events of a tracking object.
pub struct WireTracking<'a> {
    /// All fields but `events`, in order.
    pub fields: Vec<(Cow<'a, str>, &'a RawValue)>,
    pub events: Vec<Option<&'a RawValue>>,
    /// Whether the object has `events`, perhaps null.
    pub has_events: bool,
}

impl WireTracking<'_> {
    /// Value of a field as text; `None` if it is missing or empty.
    pub fn text(&self, name: &str) -> Option<String> {
        let (_, raw) = self.fields.iter().find(|(field, _)| field == name)?;
        serde_json::from_str::<Text>(raw.get()).ok()?.into_option()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for WireTracking<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = WireTracking<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a tracking object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut wire = WireTracking { fields: Vec::new(), events: Vec::new(), has_events: false };
                while let Some(Name(name)) = map.next_key()? {
                    let twice = match &*name {
                        "events" => std::mem::replace(&mut wire.has_events, true),
                        // With two values it is unknown which one is right. Other fields may occur twice.
                        name => USED.contains(&name) && wire.fields.iter().any(|(field, _)| field == name),
                    };
                    if twice {
                        return Err(A::Error::custom(format_args!("{name} occurs twice")));
                    }
                    if name == "events" {
                        wire.events = map.next_value::<Option<Events<'de>>>()?.unwrap_or_default().0;
                    } else if wire.fields.len() < MAX_FIELDS {
                        wire.fields.push((name, map.next_value()?));
                    } else {
                        return Err(A::Error::custom(format_args!("more than {MAX_FIELDS} fields")));
                    }
                }
                Ok(wire)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// Maximum number of fields; real answers have far fewer.
const MAX_FIELDS: usize = 1_000;

/// Fields that trackpost reads.
const USED: [&str; 7] = [
    "tracking_number",
    "status_code",
    "status_description",
    "status_detail_code",
    "carrier_code",
    "carrier_detail_code",
    "estimated_delivery_date",
];

/// A key, borrowed if it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Default)]
struct Events<'a>(Vec<Option<&'a RawValue>>);

impl<'de: 'a, 'a> Deserialize<'de> for Events<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Events<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of events")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut events = Vec::new();
                while let Some(event) = list.next_element()? {
                    if events.len() == MAX_EVENTS {
                        return Err(A::Error::custom(format_args!("more than {MAX_EVENTS} events")));
                    }
                    events.push(event);
                }
                Ok(Events(events))
            }
        }
        deserializer.deserialize_seq(List)
    }
}
