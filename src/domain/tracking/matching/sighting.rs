//! One carrier event as matching sees it: when, what, where.
//!
//! Nothing of it is stored. Time and code carry identity; the place may be missing, cut short or moved between fields,
//! so it only must not contradict; every text merely helps to choose among several that fit.

use super::canonical::Canonical;
use super::layout::{Field, Layouts};
use super::wall::WallClock;

/// A time that is put right by no more than this was a rounded or a mistyped one.
const FEW_MINUTES: u64 = 10;

/// A carrier event, taken apart.
#[derive(Clone, Debug)]
pub struct Sighting {
    pub canonical: Canonical,
    /// `carrier_occurred_at` as a wall clock, else `occurred_at`.
    pub clock: Option<WallClock>,
    /// `occurred_at` as a wall clock, whatever `carrier_occurred_at` says.
    occurred: Option<WallClock>,
    minute: Option<i64>,
    occurred_minute: Option<i64>,
    has_carrier_time: bool,
}

/// The key of time: to the minute, since feeds differ in whether they know seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment<'s> {
    Minute(i64),
    /// A time that nobody can read is still the same time when it is spelled the same.
    Text(&'s str),
    Unknown,
}

impl Sighting {
    pub fn of(raw: &str, layouts: &Layouts) -> Self {
        let canonical = Canonical::of(raw, layouts);
        let clock_in = |field| WallClock::parse(canonical.get(field)?);
        let (carrier, occurred) = (clock_in(Field::CarrierOccurredAt), clock_in(Field::OccurredAt));
        let occurred_minute = occurred.map(WallClock::minute);
        let minute = carrier.map(WallClock::minute).or(occurred_minute);
        let clock = carrier.or(occurred);
        Self { canonical, clock, occurred, minute, occurred_minute, has_carrier_time: carrier.is_some() }
    }

    fn first_of(&self, fields: &[Field]) -> Option<&str> {
        fields.iter().find_map(|&field| self.canonical.get(field))
    }

    pub fn moment(&self) -> Moment<'_> {
        match (self.minute(), self.first_of(&[Field::CarrierOccurredAt, Field::OccurredAt])) {
            (Some(minute), _) => Moment::Minute(minute),
            (None, Some(text)) => Moment::Text(text),
            (None, None) => Moment::Unknown,
        }
    }

    /// `event_code`, else `carrier_detail_code`, else `carrier_status_code`. Never a status code: they collide.
    pub fn code(&self) -> Option<&str> {
        self.first_of(&[Field::EventCode, Field::CarrierDetailCode, Field::CarrierStatusCode])
    }

    /// Where the code is as coarse as UPS's `I`, this is what tells an arrival from a departure.
    pub fn detail(&self) -> Option<&str> {
        self.canonical.get(Field::CarrierDetailCode)
    }

    pub fn status_code(&self) -> Option<&str> {
        self.canonical.get(Field::StatusCode)
    }

    pub fn status_detail_code(&self) -> Option<&str> {
        self.canonical.get(Field::StatusDetailCode)
    }

    pub fn country_code(&self) -> Option<&str> {
        self.canonical.get(Field::Country)
    }

    pub fn longitude(&self) -> Option<&str> {
        self.canonical.get(Field::Longitude)
    }

    pub fn place(&self) -> Place<'_> {
        let field = |field| self.canonical.get(field);
        Place {
            city: field(Field::City),
            company: field(Field::Company),
            region: [Field::State, Field::PostalCode, Field::Country].map(field),
        }
    }

    pub fn minute(&self) -> Option<i64> {
        self.minute
    }

    /// The minute of `occurred_at`, whatever `carrier_occurred_at` says.
    pub fn occurred_minute(&self) -> Option<i64> {
        self.occurred_minute
    }

    pub fn has_carrier_time(&self) -> bool {
        self.has_carrier_time
    }

    /// Whether one may be the other with its clock moved: place and detail code do not contradict.
    pub fn fits(&self, other: &Self) -> bool {
        let (detail, theirs) = (self.detail(), other.detail());
        (detail == theirs || detail.is_none() || theirs.is_none()) && self.place().fits(&other.place())
    }

    /// How far a refined time may be from the one before: one of the two is vague, or they are a few minutes apart.
    /// `None`: these are two times. The smaller, the closer.
    pub fn refinement(&self, other: &Self) -> Option<u64> {
        let known = |sighting: &Self| sighting.clock.filter(|clock| clock.is_plausible());
        let (Some(clock), Some(theirs)) = (known(self), known(other)) else { return Some(u64::MAX) };
        let apart = (clock.minute() - theirs.minute()).unsigned_abs();
        (apart <= FEW_MINUTES || self.is_day_of(other) || other.is_day_of(self)).then_some(apart)
    }

    /// Whether it says only the day, and the other one a time of that day.
    fn is_day_of(&self, other: &Self) -> bool {
        let days = [self.clock, self.occurred].into_iter().flatten().filter(|clock| clock.is_midnight());
        let theirs = [other.clock, other.occurred].into_iter().flatten();
        days.map(WallClock::day).any(|day| theirs.clone().map(WallClock::day).any(|other| other == day))
    }

    /// Whether it names a day at all.
    pub fn has_day(&self) -> bool {
        self.clock.is_some_and(WallClock::is_plausible)
    }

    /// How alike two sightings are, the greater the closer; `None` when their places contradict.
    pub fn closeness(&self, other: &Self) -> Option<impl Ord + use<>> {
        let (place, theirs) = (self.place(), other.place());
        place.fits(&theirs).then(|| {
            let same_detail = self.detail() == other.detail();
            let agreement = self.canonical.agreement(&other.canonical);
            (place == theirs, same_detail, self.clock == other.clock, agreement)
        })
    }
}

/// Where it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place<'s> {
    city: Option<&'s str>,
    /// One feed has the facility in the city's field, cut at 31 characters, the other has it here beside the city.
    company: Option<&'s str>,
    /// State, postal code, country: they count where there is no city to go by.
    region: [Option<&'s str>; 3],
}

impl Place<'_> {
    /// Whether two places may be one: the city of the one begins the city or company of the other, or the other way
    /// round; where a side has no city, nothing else may say otherwise.
    pub fn fits(&self, other: &Self) -> bool {
        let named_alike = [(self.city, other.city), (self.city, other.company), (self.company, other.city)]
            .into_iter()
            .any(|(mine, theirs)| mine.is_some() && theirs.is_some() && agree(mine, theirs));
        if named_alike || (self.city.is_some() && other.city.is_some()) {
            return named_alike;
        }
        agree(self.company, other.company)
            && self.region.iter().zip(other.region).all(|(mine, theirs)| agree(*mine, theirs))
    }
}

/// Equal, or one is missing or cut short.
fn agree(mine: Option<&str>, theirs: Option<&str>) -> bool {
    match (mine, theirs) {
        (Some(mine), Some(theirs)) => mine.starts_with(theirs) || theirs.starts_with(mine),
        _ => true,
    }
}
