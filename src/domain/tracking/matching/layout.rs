//! The order in which an event object has its fields.
//!
//! The events of a list are laid out alike, and so are those of the list before. So names are read, sorted and looked
//! up once. Many values are those of the event before, too: the same bytes say the same.

use std::cell::RefCell;
use std::sync::Arc;

use super::canonical::Canonical;
use super::value;

/// The fields that decide something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    OccurredAt,
    CarrierOccurredAt,
    EventCode,
    CarrierDetailCode,
    CarrierStatusCode,
    City,
    Company,
    State,
    PostalCode,
    Country,
    StatusCode,
    StatusDetailCode,
    Longitude,
}

impl Field {
    const ALL: [(Self, &str); 13] = [
        (Self::OccurredAt, "occurred_at"),
        (Self::CarrierOccurredAt, "carrier_occurred_at"),
        (Self::EventCode, "event_code"),
        (Self::CarrierDetailCode, "carrier_detail_code"),
        (Self::CarrierStatusCode, "carrier_status_code"),
        (Self::City, "city_locality"),
        (Self::Company, "company_name"),
        (Self::State, "state_province"),
        (Self::PostalCode, "postal_code"),
        (Self::Country, "country_code"),
        (Self::StatusCode, "status_code"),
        (Self::StatusDetailCode, "status_detail_code"),
        (Self::Longitude, "longitude"),
    ];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known)| *known == name).map(|(field, _)| field)
    }

    fn is_clock(self) -> bool {
        matches!(self, Self::OccurredAt | Self::CarrierOccurredAt)
    }
}

/// Whether a field of this name is read as a wall clock.
pub fn is_clock(name: &str) -> bool {
    Field::named(name).is_some_and(Field::is_clock)
}

/// The names of an object's fields, no two alike.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    columns: Vec<Column>,
    /// The columns by name.
    sorted: Vec<usize>,
    known: [Option<usize>; Field::ALL.len()],
    /// How much of an object's length the names make up.
    names_len: usize,
}

#[derive(Debug, PartialEq, Eq)]
struct Column {
    /// The name, in quotes.
    quoted: String,
    /// The name with its length before it, as a form has it.
    framed: Vec<u8>,
    is_clock: bool,
}

/// A field as it was read last.
#[derive(Debug, Default)]
struct Last {
    /// From the comma before its name to its value.
    raw: String,
    said: String,
}

impl Column {
    fn name(&self) -> &str {
        &self.quoted[1..self.quoted.len() - 1]
    }
}

impl Layout {
    /// `None` if a name comes twice.
    pub fn new<'n>(names: impl IntoIterator<Item = &'n str>) -> Option<Self> {
        let column = |name: &str| Column {
            quoted: format!("\"{name}\""),
            framed: [&(name.len() as u64).to_be_bytes(), name.as_bytes()].concat(),
            is_clock: is_clock(name),
        };
        let columns: Vec<_> = names.into_iter().map(column).collect();
        let mut sorted: Vec<_> = (0..columns.len()).collect();
        sorted.sort_unstable_by_key(|&column| columns[column].name());
        if sorted.is_sorted_by(|&one, &next| columns[one].name() < columns[next].name()) {
            let known = Field::ALL.map(|(_, name)| columns.iter().position(|column| column.name() == name));
            let names_len = columns.iter().map(|column| column.quoted.len()).sum();
            Some(Self { columns, sorted, known, names_len })
        } else {
            None
        }
    }

    /// The layout of `raw`. `None` if names are spelled with escapes or come twice, or if it is no object.
    fn of(raw: &str) -> Option<Self> {
        let (mut names, mut ignored) = (Vec::new(), String::new());
        let mut rest = unspaced(raw.strip_prefix('{')?);
        while rest != "}" {
            let (name, behind) = rest.strip_prefix('"')?.split_once('"')?;
            if name.contains('\\') {
                return None;
            }
            names.push(name);
            rest = unspaced(value::read(unspaced(unspaced(behind).strip_prefix(':')?), false, &mut ignored)?);
            rest = rest.strip_prefix(',').map_or(rest, unspaced);
        }
        Self::new(names)
    }

    /// What the values of `raw` say, if it is laid out so: all in one text, and where each ends, in the object's order.
    fn read(&self, raw: &str, last: &mut [Last]) -> Option<(String, Vec<usize>)> {
        let mut said = String::with_capacity(raw.len().saturating_sub(self.names_len));
        let mut ends = Vec::with_capacity(self.columns.len());
        let mut rest = raw.strip_prefix('{')?;
        for (at, (column, last)) in self.columns.iter().zip(last).enumerate() {
            match rest.strip_prefix(last.raw.as_str()) {
                // A number is over only where something else begins.
                Some(behind)
                    if !last.raw.is_empty() && matches!(behind.as_bytes().first(), Some(b',' | b'}')) =>
                {
                    said.push_str(&last.said);
                    rest = behind;
                }
                _ => {
                    let (field, start) = (rest, said.len());
                    if at > 0 {
                        rest = unspaced(rest).strip_prefix(',')?;
                    }
                    rest = unspaced(rest).strip_prefix(column.quoted.as_str())?;
                    rest = unspaced(rest).strip_prefix(':')?;
                    rest = value::read(unspaced(rest), column.is_clock, &mut said)?;
                    field[..field.len() - rest.len()].clone_into(&mut last.raw);
                    said[start..].clone_into(&mut last.said);
                }
            }
            ends.push(said.len());
        }
        (unspaced(rest) == "}").then_some((said, ends))
    }

    fn blank(&self) -> Vec<Last> {
        self.columns.iter().map(|_| Last::default()).collect()
    }

    pub fn name(&self, column: usize) -> &str {
        self.columns[column].name()
    }

    /// The name with its length before it, as a form has it.
    pub fn framed_name(&self, column: usize) -> &[u8] {
        &self.columns[column].framed
    }

    pub fn is_clock(&self, column: usize) -> bool {
        self.columns[column].is_clock
    }

    /// The columns by name.
    pub fn sorted(&self) -> &[usize] {
        &self.sorted
    }

    pub fn column(&self, field: Field) -> Option<usize> {
        self.known[field as usize]
    }

    pub fn column_named(&self, name: &str) -> Option<usize> {
        let at = self.sorted.binary_search_by(|&column| self.name(column).cmp(name)).ok()?;
        Some(self.sorted[at])
    }
}

/// The layouts met so far, and how each was filled last.
#[derive(Debug, Default)]
pub struct Layouts(RefCell<Vec<(Arc<Layout>, Vec<Last>)>>);

/// A list made of more than so many feeds has its events laid out anew each time.
const MOST: usize = 8;

impl Layouts {
    /// Those of events that have been read.
    pub fn of<'c>(read: impl IntoIterator<Item = &'c Canonical>) -> Self {
        let mut layouts: Vec<(Arc<Layout>, Vec<Last>)> = Vec::new();
        for canonical in read {
            let layout = canonical.layout();
            if layouts.len() < MOST && !layouts.iter().any(|(met, _)| Arc::ptr_eq(met, layout)) {
                layouts.push((Arc::clone(layout), layout.blank()));
            }
        }
        Self(RefCell::new(layouts))
    }

    /// What the values of `raw` say, and how it is laid out; `None` if names are spelled with escapes or come twice.
    pub fn read(&self, raw: &str) -> Option<(Arc<Layout>, String, Vec<usize>)> {
        let met = |(layout, last): &mut (Arc<Layout>, Vec<Last>)| {
            let (said, ends) = layout.read(raw, last)?;
            Some((Arc::clone(layout), said, ends))
        };
        let mut layouts = self.0.borrow_mut();
        if let Some(read) = layouts.iter_mut().find_map(met) {
            return Some(read);
        }
        let layout = Layout::of(raw)?;
        let last = layout.blank();
        layouts.truncate(MOST - 1);
        layouts.insert(0, (Arc::new(layout), last));
        layouts.first_mut().and_then(met)
    }
}

/// Without the white space of JSON at its head.
fn unspaced(json: &str) -> &str {
    match json.as_bytes().first() {
        Some(b' ' | b'\t' | b'\r' | b'\n') => json.trim_start_matches([' ', '\t', '\r', '\n']),
        _ => json,
    }
}
