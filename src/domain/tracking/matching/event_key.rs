//! Key of a carrier event, for matching: time, code and location.
//!
//! Keys are not stored. Time and code identify an event. A location may be missing, truncated or in another field, so two
//! locations only must not contradict each other. Texts merely rank several possible partners.

use super::canonical::Canonical;
use super::layout::Field;
use super::local_time::LocalTime;

/// A time corrected by at most this much was rounded or mistyped before.
const MAX_CORRECTION_MINUTES: u64 = 10;

/// Canonical form of an event with its parsed times.
#[derive(Clone, Debug)]
pub struct EventKey {
    pub canonical: Canonical,
    /// `carrier_occurred_at`, else `occurred_at`.
    pub time: Option<LocalTime>,
    occurred_at: Option<LocalTime>,
    minute: Option<i64>,
    occurred_minute: Option<i64>,
    has_carrier_time: bool,
}

/// Time as a key: to the minute, because not every feed sends seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimeKey<'s> {
    Minute(i64),
    /// Unreadable times are equal if their texts are.
    Text(&'s str),
    Unknown,
}

impl EventKey {
    pub fn of(raw: &str) -> Self {
        let canonical = Canonical::of(raw);
        let time_in = |field| LocalTime::parse(canonical.get(field)?);
        let (carrier, occurred_at) = (time_in(Field::CarrierOccurredAt), time_in(Field::OccurredAt));
        let occurred_minute = occurred_at.map(LocalTime::minute);
        let minute = carrier.map(LocalTime::minute).or(occurred_minute);
        let time = carrier.or(occurred_at);
        Self { canonical, time, occurred_at, minute, occurred_minute, has_carrier_time: carrier.is_some() }
    }

    fn first_of(&self, fields: &[Field]) -> Option<&str> {
        fields.iter().find_map(|&field| self.canonical.get(field))
    }

    pub fn time_key(&self) -> TimeKey<'_> {
        match (self.minute(), self.first_of(&[Field::CarrierOccurredAt, Field::OccurredAt])) {
            (Some(minute), _) => TimeKey::Minute(minute),
            (None, Some(text)) => TimeKey::Text(text),
            (None, None) => TimeKey::Unknown,
        }
    }

    /// `event_code`, else `carrier_detail_code`, else `carrier_status_code`. A status code is never used: FedEx's event
    /// code `DE` is not the status `DE`.
    pub fn code(&self) -> Option<&str> {
        self.first_of(&[Field::EventCode, Field::CarrierDetailCode, Field::CarrierStatusCode])
    }

    /// `carrier_detail_code`. Where the code is as coarse as UPS's `I`, it distinguishes an arrival from a departure.
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

    pub fn location(&self) -> Location<'_> {
        let field = |field| self.canonical.get(field);
        Location {
            city: field(Field::City),
            company: field(Field::Company),
            region: [Field::State, Field::PostalCode, Field::Country].map(field),
        }
    }

    pub fn minute(&self) -> Option<i64> {
        self.minute
    }

    /// Minute of `occurred_at`, for any `carrier_occurred_at`.
    pub fn occurred_minute(&self) -> Option<i64> {
        self.occurred_minute
    }

    pub fn has_carrier_time(&self) -> bool {
        self.has_carrier_time
    }

    /// Whether location and detail code do not contradict each other.
    pub fn is_compatible(&self, other: &Self) -> bool {
        let (detail, theirs) = (self.detail(), other.detail());
        (detail == theirs || detail.is_none() || theirs.is_none())
            && self.location().is_compatible(&other.location())
    }

    /// Distance in minutes if one of the two times may be a refinement of the other: one is unknown, one is only a date,
    /// or they differ by a few minutes. `None` if they are different times.
    pub fn refinement(&self, other: &Self) -> Option<u64> {
        let known = |key: &Self| key.time.filter(|time| time.is_plausible());
        let (Some(time), Some(theirs)) = (known(self), known(other)) else { return Some(u64::MAX) };
        let apart = (time.minute() - theirs.minute()).unsigned_abs();
        let refines = apart <= MAX_CORRECTION_MINUTES || self.is_date_of(other) || other.is_date_of(self);
        refines.then_some(apart)
    }

    /// Whether this key has only a date and `other` a time of that day.
    fn is_date_of(&self, other: &Self) -> bool {
        let dates = [self.time, self.occurred_at].into_iter().flatten().filter(|time| time.is_midnight());
        let theirs = [other.time, other.occurred_at].into_iter().flatten();
        dates.map(LocalTime::date).any(|date| theirs.clone().map(LocalTime::date).any(|other| other == date))
    }

    pub fn has_plausible_time(&self) -> bool {
        self.time.is_some_and(LocalTime::is_plausible)
    }

    /// Similarity of two events, greater is closer; `None` if their locations contradict each other.
    pub fn similarity(&self, other: &Self) -> Option<impl Ord + use<>> {
        let (location, theirs) = (self.location(), other.location());
        location.is_compatible(&theirs).then(|| {
            let same_detail = self.detail() == other.detail();
            let equal_fields = self.canonical.equal_fields(&other.canonical);
            (location == theirs, same_detail, self.time == other.time, equal_fields)
        })
    }
}

/// Location of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location<'s> {
    city: Option<&'s str>,
    /// One feed has the facility in the city's field, cut at 31 characters; the other has it here, besides the city.
    company: Option<&'s str>,
    /// State, postal code, country. They are compared only if no city is known.
    region: [Option<&'s str>; 3],
}

impl Location<'_> {
    /// Whether two locations may be the same: the city of one is a prefix of the city or company of the other, or the
    /// reverse. Where a side has no city, no other field may differ.
    pub fn is_compatible(&self, other: &Self) -> bool {
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

/// Whether two values are equal, or one is missing or truncated.
fn agree(mine: Option<&str>, theirs: Option<&str>) -> bool {
    match (mine, theirs) {
        (Some(mine), Some(theirs)) => mine.starts_with(theirs) || theirs.starts_with(mine),
        _ => true,
    }
}
