//! Vocabulary of the carriers: codes and texts of scans, and the status that ShipStation derives from them.
//!
//! The collisions are real: FedEx's event code `DE` is a delivery exception, and UPS shows out-for-delivery only as `OT`.

use crate::domain::tracking::StatusCode;

use super::carriers::Carrier;
use super::scan::Scan;

/// A scan as a carrier describes it.
pub(super) struct Words {
    pub(super) event_code: &'static str,
    /// Only UPS has one.
    pub(super) carrier_detail_code: Option<&'static str>,
    pub(super) description: &'static str,
}

impl Scan {
    pub(super) fn status(self, carrier: Carrier) -> StatusCode {
        match (self, carrier) {
            (Self::Label, Carrier::Usps) | (Self::PickedUp, Carrier::Fedex) => StatusCode::Accepted,
            (Self::Label, _) => StatusCode::NotYetInSystem,
            (Self::Attempt, _) => StatusCode::DeliveryAttempt,
            (Self::Delay | Self::Refused | Self::Returned, _) => StatusCode::Exception,
            (Self::Collection, _) => StatusCode::ServicePoint,
            (Self::Delivered, _) => StatusCode::Delivered,
            _ => StatusCode::InTransit,
        }
    }

    /// ShipStation's detail code and its text. UPS gets none once the parcel moves.
    pub(super) fn detail(self, carrier: Carrier) -> Option<(&'static str, &'static str)> {
        if carrier == Carrier::Ups && self != Self::Label {
            return None;
        }
        Some(match (self, carrier) {
            (Self::Label, Carrier::Fedex) => (
                "SHIPMENT_CREATED",
                "Your tracking number is ready. Your parcel is waiting to be registered in the carrier system and scheduled for pickup.",
            ),
            (Self::Label, _) => {
                ("ELEC_ADVICE_RECD_BY_CARRIER", "Your shipment is now in the carrier's system.")
            }
            (Self::PickedUp, Carrier::Usps) => (
                "RECEIVED_BY_CARRIER",
                "Your parcel has been received by the carrier and is beginning its journey.",
            ),
            (Self::PickedUp, _) => ("PICKED_UP", "Your parcel has been picked up by the carrier."),
            (Self::HubIn, Carrier::Usps) => {
                ("HUB_SCAN_IN", "Your parcel has arrived at the carrier's hub for processing.")
            }
            (Self::HubIn | Self::Transit, _) => {
                ("IN_TRANSIT", "Your shipment is on its way between the carrier hubs.")
            }
            (Self::HubOut, _) => ("HUB_SCAN_OUT", "Your parcel has left the carrier's hub."),
            (Self::Depot, _) => (
                "RECEIVED_LOCAL_DELIVERY_DEPOT",
                "Your parcel has arrived at the local delivery depot and is almost ready for delivery.",
            ),
            (Self::OutForDelivery, _) => {
                ("OUT_FOR_DELIVERY", "Your parcel is on its way and will be delivered today.")
            }
            (Self::Attempt, _) => {
                ("ATTEMPTED_DELIVERY", "The carrier tried to deliver your parcel and will try again.")
            }
            (Self::Delay, _) => {
                ("CARRIER_DELAYS", "Your parcel is delayed due to issues within the carrier network.")
            }
            (Self::Refused | Self::Returned, _) => {
                ("RETURN_TO_SENDER", "Your parcel is being returned to the sender due to delivery issues.")
            }
            (Self::Collection, _) => (
                "DELIVERED_TO_PICKUP_POINT",
                "Your package has been delivered to the pickup point. You will be notified when its ready for collection.",
            ),
            (Self::Delivered, _) => ("DELIVERED", "Your parcel has been successfully delivered."),
        })
    }

    pub(super) fn words(self, carrier: Carrier) -> Words {
        let (event_code, carrier_detail_code, description) = match carrier {
            Carrier::Ups => {
                let (event_code, detail_code, description) = self.in_ups_words();
                (event_code, Some(detail_code), description)
            }
            Carrier::Fedex => {
                let (event_code, description) = self.in_fedex_words();
                (event_code, None, description)
            }
            Carrier::Usps => {
                let (event_code, description) = self.in_usps_words();
                (event_code, None, description)
            }
        };
        Words { event_code, carrier_detail_code, description }
    }

    fn in_ups_words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Label => ("M", "MP", "Shipper created a label, UPS has not received the package yet."),
            Self::PickedUp => ("I", "XD", "Drop-Off"),
            Self::HubIn => ("I", "AR", "Arrived at Facility"),
            Self::HubOut => ("I", "DP", "Departed from Facility"),
            Self::Transit => ("I", "OR", "Processing at UPS Facility"),
            Self::Depot => ("I", "YP", "Preparing for Delivery"),
            Self::OutForDelivery => ("I", "OT", "Out for Delivery"),
            Self::Attempt => ("X", "48", "The receiver was not available; we will make another attempt."),
            Self::Delay => ("X", "DY", "A late trailer arrival has delayed delivery."),
            Self::Refused => ("X", "26", "The receiver did not want this package; it is on its way back."),
            Self::Returned => ("X", "RS", "Returned to Shipper"),
            Self::Collection => ("X", "2Q", "Delivered to UPS Access Point, awaiting customer pickup"),
            Self::Delivered => ("D", "FS", "DELIVERED"),
        }
    }

    fn in_fedex_words(self) -> (&'static str, &'static str) {
        match self {
            Self::Label => ("OC", "Shipment information sent to FedEx"),
            Self::PickedUp => ("PU", "Picked up"),
            Self::HubIn => ("AR", "Arrived at FedEx location"),
            Self::HubOut => ("DP", "Departed FedEx location"),
            Self::Transit => ("IT", "On the way"),
            Self::Depot => ("AR", "At local FedEx facility"),
            Self::OutForDelivery => ("OD", "On FedEx vehicle for delivery"),
            Self::Attempt => ("CA", "Customer not available or business closed"),
            Self::Delay => ("SE", "Shipment exception"),
            Self::Refused => ("DE", "Delivery exception"),
            Self::Returned => ("RS", "Returned to shipper"),
            Self::Collection => ("HL", "Ready for recipient pickup"),
            Self::Delivered => ("DL", "Delivered"),
        }
    }

    fn in_usps_words(self) -> (&'static str, &'static str) {
        match self {
            Self::Label => ("GX", "Shipping Label Created, USPS Awaiting Item"),
            Self::PickedUp => ("OA", "Accepted at USPS Facility"),
            Self::HubIn => ("10", "Arrived at USPS Facility"),
            Self::HubOut => ("T1", "Departed USPS Facility"),
            Self::Transit => ("A1", "Arrived at USPS Regional Facility"),
            Self::Depot => ("07", "Arrived at Post Office"),
            Self::OutForDelivery => ("OF", "Out for Delivery"),
            Self::Attempt => ("02", "Notice Left (No Authorized Recipient Available)"),
            Self::Delay => ("NT", "In Transit to Next Facility, Arriving Late"),
            Self::Refused => ("21", "No Such Number"),
            Self::Returned => ("09", "Returned to Sender"),
            Self::Collection => ("52", "Held at Post Office, At Customer Request"),
            Self::Delivered => ("01", "Delivered, Front Door/Porch"),
        }
    }
}

/// ShipStation's text for a status.
pub(super) fn status_description(status: StatusCode) -> &'static str {
    match status {
        StatusCode::Unknown => "Unknown",
        StatusCode::NotYetInSystem => "Not Yet In System",
        StatusCode::Accepted => "Accepted",
        StatusCode::InTransit => "In Transit",
        StatusCode::DeliveryAttempt => "Delivery Attempt",
        StatusCode::Exception => "Exception",
        StatusCode::Delivered => "Delivered",
        StatusCode::ServicePoint => "Delivered To Collection Location",
    }
}
