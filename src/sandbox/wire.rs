//! The tracking answer in the vendor's format: 16 keys and events of 20 keys, always all present and in this order.

use serde::Serialize;

#[derive(Serialize)]
pub(super) struct TrackingBody {
    pub(super) tracking_number: String,
    pub(super) tracking_url: String,
    pub(super) status_code: &'static str,
    pub(super) status_detail_code: Option<&'static str>,
    pub(super) status_detail_description: Option<&'static str>,
    pub(super) carrier_code: &'static str,
    pub(super) carrier_id: u32,
    pub(super) carrier_detail_code: Option<&'static str>,
    pub(super) status_description: &'static str,
    pub(super) carrier_status_code: String,
    pub(super) carrier_status_description: String,
    pub(super) ship_date: Option<String>,
    pub(super) estimated_delivery_date: Option<String>,
    pub(super) actual_delivery_date: Option<String>,
    pub(super) exception_description: Option<String>,
    /// Newest first.
    pub(super) events: Vec<WireEvent>,
}

#[derive(Serialize)]
pub(super) struct WireEvent {
    pub(super) occurred_at: String,
    pub(super) carrier_occurred_at: String,
    pub(super) description: String,
    pub(super) city_locality: Option<String>,
    pub(super) state_province: Option<String>,
    pub(super) postal_code: Option<String>,
    pub(super) country_code: Option<&'static str>,
    pub(super) company_name: Option<String>,
    pub(super) signer: Option<&'static str>,
    pub(super) event_code: &'static str,
    pub(super) carrier_detail_code: Option<&'static str>,
    pub(super) status_code: &'static str,
    pub(super) status_description: &'static str,
    pub(super) carrier_status_code: &'static str,
    pub(super) carrier_status_description: String,
    pub(super) status_detail_code: Option<&'static str>,
    pub(super) status_detail_description: Option<&'static str>,
    pub(super) proof_of_delivery_url: Option<String>,
    pub(super) latitude: Option<f64>,
    pub(super) longitude: Option<f64>,
}
