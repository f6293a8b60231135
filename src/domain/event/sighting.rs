//! One carrier event as matching sees it: when, what, where.
//!
//! Nothing of it is stored. Time and code carry identity; the place may be missing, cut short or moved between fields,
//! so it only must not contradict; every text merely helps to choose among several that fit.

use super::canonical::{Canonical, Form};
use super::wall::WallClock;

/// A carrier event, taken apart.
#[derive(Debug)]
pub struct Sighting {
    pub canonical: Canonical,
    pub form: Form,
    /// `carrier_occurred_at` as a wall clock, else `occurred_at`.
    pub clock: Option<WallClock>,
    pub moment: Moment,
    /// `event_code`, else `carrier_detail_code`, else `carrier_status_code`. Never a status code: they collide.
    pub code: Option<String>,
    /// `carrier_detail_code`: where the code is as coarse as UPS's `I`, this is what tells an arrival from a departure.
    pub detail: Option<String>,
    pub place: Place,
}

/// The key of time: to the minute, since feeds differ in whether they know seconds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    Minute(i64),
    /// A time that nobody can read is still the same time when it is spelled the same.
    Text(String),
    Unknown,
}

impl Sighting {
    pub fn of(raw: &str) -> Self {
        let canonical = Canonical::of(raw);
        let first_of = |names: &[&str]| names.iter().find_map(|name| canonical.get(name)).map(str::to_owned);
        let times = ["carrier_occurred_at", "occurred_at"];
        let clock = times.iter().find_map(|name| WallClock::parse(canonical.get(name)?));
        let moment = match (clock, first_of(&times)) {
            (Some(clock), _) => Moment::Minute(clock.minute()),
            (None, Some(text)) => Moment::Text(text),
            (None, None) => Moment::Unknown,
        };
        Self {
            form: canonical.form(),
            clock,
            moment,
            code: first_of(&["event_code", "carrier_detail_code", "carrier_status_code"]),
            detail: first_of(&["carrier_detail_code"]),
            place: Place::of(&canonical),
            canonical,
        }
    }

    pub fn minute(&self) -> Option<i64> {
        self.clock.map(WallClock::minute)
    }

    /// The minute of `occurred_at`, whatever `carrier_occurred_at` says.
    pub fn occurred_minute(&self) -> Option<i64> {
        self.canonical.get("occurred_at").and_then(WallClock::parse).map(WallClock::minute)
    }

    pub fn has_carrier_time(&self) -> bool {
        self.canonical.get("carrier_occurred_at").is_some_and(|text| WallClock::parse(text).is_some())
    }

    /// Whether one may be the other with its clock moved: place and detail code do not contradict.
    pub fn fits(&self, other: &Self) -> bool {
        let same_detail = self.detail == other.detail || self.detail.is_none() || other.detail.is_none();
        same_detail && self.place.fits(&other.place)
    }

    /// How alike two sightings are, the greater the closer; `None` when their places contradict.
    pub fn closeness(&self, other: &Self) -> Option<impl Ord + use<>> {
        self.place.fits(&other.place).then(|| {
            let same_place = self.place == other.place;
            let same_detail = self.detail == other.detail;
            (same_place, same_detail, self.clock == other.clock, self.canonical.agreement(&other.canonical))
        })
    }
}

/// Where it happened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    city: Option<String>,
    /// One feed has the facility in the city's field, cut at 31 characters, the other has it here beside the city.
    company: Option<String>,
    /// State, postal code, country: they count where there is no city to go by.
    region: [Option<String>; 3],
}

impl Place {
    fn of(canonical: &Canonical) -> Self {
        let field = |name| canonical.get(name).map(str::to_owned);
        Self {
            city: field("city_locality"),
            company: field("company_name"),
            region: ["state_province", "postal_code", "country_code"].map(field),
        }
    }

    /// Whether two places may be one: the city of the one begins the city or company of the other, or the other way
    /// round; where a side has no city, nothing else may say otherwise.
    pub fn fits(&self, other: &Self) -> bool {
        let named_alike =
            [(&self.city, &other.city), (&self.city, &other.company), (&self.company, &other.city)]
                .into_iter()
                .any(|(mine, theirs)| mine.is_some() && theirs.is_some() && agree(mine, theirs));
        if named_alike || (self.city.is_some() && other.city.is_some()) {
            return named_alike;
        }
        agree(&self.company, &other.company)
            && self.region.iter().zip(&other.region).all(|(mine, theirs)| agree(mine, theirs))
    }
}

/// Equal, or one is missing or cut short.
fn agree(mine: &Option<String>, theirs: &Option<String>) -> bool {
    match (mine, theirs) {
        (Some(mine), Some(theirs)) => mine.starts_with(theirs) || theirs.starts_with(mine),
        _ => true,
    }
}
