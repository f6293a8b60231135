//! Towns of the invented parcels: real American cities with invented facilities.

/// A town on a route, with the sorting centre of the carrier.
#[derive(Debug)]
pub(super) struct Town {
    pub(super) city: &'static str,
    pub(super) state: &'static str,
    pub(super) postal_code: &'static str,
    pub(super) latitude: f64,
    pub(super) longitude: f64,
    /// Hours from UTC; summer time all year.
    pub(super) utc_offset: i8,
}

impl Town {
    /// The name of the sorting centre, as USPS spells it.
    pub(super) fn facility(&self) -> String {
        format!("{} {} DISTRIBUTION CENTER", self.city.to_uppercase(), self.state)
    }
}

const fn town(
    city: &'static str,
    state: &'static str,
    postal_code: &'static str,
    latitude: f64,
    longitude: f64,
    utc_offset: i8,
) -> Town {
    Town { city, state, postal_code, latitude, longitude, utc_offset }
}

pub(super) const TOWNS: [Town; 16] = [
    town("Seattle", "WA", "98108", 47.5416, -122.3138, -7),
    town("Portland", "OR", "97217", 45.5946, -122.6861, -7),
    town("Sacramento", "CA", "95814", 38.5804, -121.4922, -7),
    town("Tucson", "AZ", "85706", 32.1416, -110.9462, -7),
    town("Boise", "ID", "83705", 43.5852, -116.2194, -6),
    town("Albuquerque", "NM", "87102", 35.0817, -106.6484, -6),
    town("Denver", "CO", "80216", 39.7836, -104.9667, -6),
    town("Omaha", "NE", "68102", 41.2587, -95.9341, -5),
    town("Minneapolis", "MN", "55401", 44.9835, -93.2683, -5),
    town("Tulsa", "OK", "74103", 36.1543, -95.9955, -5),
    town("Memphis", "TN", "38118", 35.0514, -89.9263, -5),
    town("Columbus", "OH", "43215", 39.9671, -83.0044, -4),
    town("Raleigh", "NC", "27601", 35.7743, -78.6341, -4),
    town("Savannah", "GA", "31401", 32.0749, -81.0883, -4),
    town("Pittsburgh", "PA", "15222", 40.4475, -79.9935, -4),
    town("Providence", "RI", "02903", 41.8204, -71.4128, -4),
];
