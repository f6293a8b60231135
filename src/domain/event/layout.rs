//! The order in which an event object has its fields.
//!
//! The events of a list are laid out alike, and so are those of the list before. So names are read, sorted and looked
//! up once, and of every other event only the values are.

use std::cell::RefCell;
use std::rc::Rc;

use super::value;

/// The fields that decide who is who.
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
}

impl Field {
    const ALL: [(Self, &str); 10] = [
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
}

#[derive(Debug, PartialEq, Eq)]
struct Column {
    /// The name, in quotes.
    quoted: String,
    is_clock: bool,
}

impl Column {
    fn name(&self) -> &str {
        &self.quoted[1..self.quoted.len() - 1]
    }
}

impl Layout {
    /// `None` if a name comes twice.
    pub fn new<'n>(names: impl IntoIterator<Item = &'n str>) -> Option<Self> {
        let column = |name: &str| Column { quoted: format!("\"{name}\""), is_clock: is_clock(name) };
        let columns: Vec<_> = names.into_iter().map(column).collect();
        let mut sorted: Vec<_> = (0..columns.len()).collect();
        sorted.sort_unstable_by_key(|&column| columns[column].name());
        if sorted.is_sorted_by(|&one, &next| columns[one].name() < columns[next].name()) {
            let known = Field::ALL.map(|(_, name)| columns.iter().position(|column| column.name() == name));
            Some(Self { columns, sorted, known })
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
    fn read(&self, raw: &str) -> Option<(String, Vec<usize>)> {
        let (mut said, mut ends) = (String::with_capacity(raw.len()), Vec::with_capacity(self.columns.len()));
        let mut rest = raw.strip_prefix('{')?;
        for (at, column) in self.columns.iter().enumerate() {
            if at > 0 {
                rest = unspaced(rest).strip_prefix(',')?;
            }
            rest = unspaced(rest).strip_prefix(column.quoted.as_str())?;
            rest = unspaced(rest).strip_prefix(':')?;
            rest = value::read(unspaced(rest), column.is_clock, &mut said)?;
            ends.push(said.len());
        }
        (unspaced(rest) == "}").then_some((said, ends))
    }

    pub fn name(&self, column: usize) -> &str {
        self.columns[column].name()
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

/// The layouts met so far.
#[derive(Debug, Default)]
pub struct Layouts(RefCell<Vec<Rc<Layout>>>);

/// A list made of more than so many feeds has its events laid out anew each time.
const MOST: usize = 8;

impl Layouts {
    /// What the values of `raw` say, and how it is laid out; `None` as for [`Layout::of`].
    pub fn read(&self, raw: &str) -> Option<(Rc<Layout>, String, Vec<usize>)> {
        let met = |layout: &Rc<Layout>| {
            let (said, ends) = layout.read(raw)?;
            Some((Rc::clone(layout), said, ends))
        };
        if let Some(read) = self.0.borrow().iter().find_map(met) {
            return Some(read);
        }
        let layout = Rc::new(Layout::of(raw)?);
        let mut layouts = self.0.borrow_mut();
        layouts.truncate(MOST - 1);
        layouts.insert(0, Rc::clone(&layout));
        met(&layout)
    }
}

/// Without the white space of JSON at its head.
fn unspaced(json: &str) -> &str {
    match json.as_bytes().first() {
        Some(b' ' | b'\t' | b'\r' | b'\n') => json.trim_start_matches([' ', '\t', '\r', '\n']),
        _ => json,
    }
}
