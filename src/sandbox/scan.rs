//! Scans of the journeys, and the form in which the API lists them.

/// Kind of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    Label,
    PickedUp,
    HubIn,
    HubOut,
    Transit,
    Depot,
    OutForDelivery,
    Attempt,
    Delay,
    Refused,
    Returned,
    Collection,
    Delivered,
}

/// How the API shows a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Full,
    /// The place is missing.
    Bare,
    /// All text is in capitals, as carriers push it before the vendor pulls the list.
    Shouted,
    /// The time is an hour off, until the time zone is known.
    WrongZone,
}
