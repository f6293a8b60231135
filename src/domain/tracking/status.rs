//! ShipStation's status codes. Out for delivery is not one of them; [`super::event`] detects it.

/// ShipStation's status code. Any carrier may send any of them, in any order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StatusCode {
    Unknown,
    NotYetInSystem,
    Accepted,
    InTransit,
    DeliveryAttempt,
    Exception,
    Delivered,
    /// Delivered to a collection point.
    ServicePoint,
}

impl StatusCode {
    pub const ALL: [Self; 8] = [
        Self::Unknown,
        Self::NotYetInSystem,
        Self::Accepted,
        Self::InTransit,
        Self::DeliveryAttempt,
        Self::Exception,
        Self::Delivered,
        Self::ServicePoint,
    ];

    /// The API's two-letter code.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "UN",
            Self::NotYetInSystem => "NY",
            Self::Accepted => "AC",
            Self::InTransit => "IT",
            Self::DeliveryAttempt => "AT",
            Self::Exception => "EX",
            Self::Delivered => "DE",
            Self::ServicePoint => "SP",
        }
    }

    /// Parses a code in any case, or its full name. `None` for an unknown code, which is never terminal (contract 3).
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.len() == 2 {
            return Self::ALL.into_iter().find(|code| code.as_str().eq_ignore_ascii_case(text));
        }
        let word: String = text.to_ascii_uppercase().replace([' ', '-'], "_");
        Some(match word.as_str() {
            "UNKNOWN" => Self::Unknown,
            "NOT_YET_IN_SYSTEM" => Self::NotYetInSystem,
            "ACCEPTED" => Self::Accepted,
            "IN_TRANSIT" => Self::InTransit,
            "DELIVERY_ATTEMPT" => Self::DeliveryAttempt,
            "EXCEPTION" => Self::Exception,
            "DELIVERED" => Self::Delivered,
            "DELIVERED_TO_COLLECTION_LOCATION" | "DELIVERED_TO_SERVICE_POINT" => Self::ServicePoint,
            _ => return None,
        })
    }

    /// Whether polling ends with this status. An exception does not end it.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Delivered | Self::ServicePoint)
    }

    /// `tracking_status` of a label, by ShipStation's table (contract 6.3).
    pub fn tracking_status(self) -> Option<&'static str> {
        match self {
            Self::InTransit | Self::NotYetInSystem => Some("in_transit"),
            Self::Delivered => Some("delivered"),
            Self::Exception => Some("error"),
            Self::Unknown => Some("unknown"),
            Self::ServicePoint => Some("delivered_to_service_point"),
            Self::Accepted | Self::DeliveryAttempt => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_any_case_and_refuses_unknown_codes() {
        assert_eq!(StatusCode::parse(" de "), Some(StatusCode::Delivered));
        assert_eq!(StatusCode::parse("DELIVERED"), Some(StatusCode::Delivered));
        assert_eq!(StatusCode::parse("MY"), None);
        assert!(!StatusCode::Exception.is_terminal());
    }
}
