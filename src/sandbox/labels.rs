//! `GET /v2/labels`: the list of labels that discovery reads, page by page.
//!
//! Filters, order, pages and links are the vendor's. Filters without values in the sandbox (rates, warehouses) are
//! ignored. The people in it are invented.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::tz::Offset;

use crate::domain::label::LabelId;
use crate::domain::named_enum::named_enum;
use crate::domain::tracking::Tracking;

/// Parameters of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ListQuery {
    page: usize,
    page_size: usize,
    created_at_start: Option<Timestamp>,
    created_at_end: Option<Timestamp>,
    status: Option<LabelStatus>,
    /// Name and value of filters on fields of the label.
    filters: Vec<(&'static str, String)>,
    by_change: bool,
    descending: bool,
}

named_enum! {
    /// The vendor's label statuses.
    enum LabelStatus {
        Processing = "processing",
        Completed = "completed",
        Error = "error",
        Voided = "voided",
    }
}

/// A parameter with an invalid value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadParameter {
    pub(super) name: &'static str,
    pub(super) value: String,
}

/// Filters on fields of the label.
const FIELDS: [&str; 5] = ["service_code", "carrier_id", "tracking_number", "batch_id", "shipment_id"];

impl ListQuery {
    /// Parses the parameters; unknown ones are ignored. A page is never larger than `largest_page`.
    pub(super) fn read(
        parameters: &HashMap<String, String>,
        largest_page: usize,
    ) -> Result<Self, BadParameter> {
        let text = |name| parameters.get(name).map(String::as_str);
        let bad = |name: &'static str, value: &str| BadParameter { name, value: value.to_owned() };
        let count = |name, default| match text(name) {
            None => Ok(default),
            Some(value) => value.parse().ok().filter(|&count| count > 0).ok_or_else(|| bad(name, value)),
        };
        let instant = |name| match text(name) {
            None => Ok(None),
            Some(value) => value.parse().map(Some).map_err(|_| bad(name, value)),
        };
        let filters = FIELDS.into_iter().filter_map(|name| Some((name, parameters.get(name)?.clone())));
        Ok(Self {
            page: count("page", 1)?,
            page_size: count("page_size", 25)?.min(largest_page.max(1)),
            created_at_start: instant("created_at_start")?,
            created_at_end: instant("created_at_end")?,
            status: match text("label_status") {
                None => None,
                Some(name) => Some(LabelStatus::parse(name).ok_or_else(|| bad("label_status", name))?),
            },
            filters: filters.collect(),
            by_change: match text("sort_by") {
                None | Some("created_at") => false,
                Some("modified_at") => true,
                Some(other) => return Err(bad("sort_by", other)),
            },
            descending: match text("sort_dir") {
                None | Some("desc") => true,
                Some("asc") => false,
                Some(other) => return Err(bad("sort_dir", other)),
            },
        })
    }
}

/// An entry of the list, without its tracking status.
#[derive(Clone, Debug)]
pub(super) struct LabelEntry {
    pub(super) id: LabelId,
    pub(super) created_at: Timestamp,
    pub(super) voided_at: Option<Timestamp>,
}

impl LabelEntry {
    fn status(&self) -> LabelStatus {
        if self.voided_at.is_some() { LabelStatus::Voided } else { LabelStatus::Completed }
    }

    fn modified_at(&self) -> Timestamp {
        self.voided_at.map_or(self.created_at, |at| at.max(self.created_at))
    }
}

/// Returns the whole answer. `url` is the URL of the list without its query. `tracking_of` is called only for labels of
/// the page, except for a search by tracking number.
pub(super) fn list(
    query: &ListQuery,
    mut labels: Vec<LabelEntry>,
    url: &str,
    mut tracking_of: impl FnMut(&LabelId) -> Option<Tracking>,
) -> String {
    labels.retain(|label| {
        query.created_at_start.is_none_or(|start| label.created_at >= start)
            && query.created_at_end.is_none_or(|end| label.created_at <= end)
            && query.status.is_none_or(|status| label.status() == status)
    });
    if !query.filters.is_empty() {
        labels.retain(|label| matches(label, tracking_of(&label.id).as_ref(), &query.filters));
    }
    let time = |label: &LabelEntry| if query.by_change { label.modified_at() } else { label.created_at };
    labels.sort_by(|a, b| (time(a), &a.id).cmp(&(time(b), &b.id)));
    if query.descending {
        labels.reverse();
    }
    let total = labels.len();
    let pages = total.div_ceil(query.page_size);
    let skipped = (query.page - 1).saturating_mul(query.page_size);
    let rows: Vec<String> = labels
        .iter()
        .skip(skipped)
        .take(query.page_size)
        .map(|label| row(label, tracking_of(&label.id).as_ref()))
        .collect();
    let href = |page: usize| format!(r#"{{"href":"{url}?{}"}}"#, query.page_parameters(page));
    let link = |there: bool, page: usize| if there { href(page) } else { "{}".to_owned() };
    format!(
        r#"{{"labels":[{}],"total":{total},"page":{page},"pages":{pages},"links":{{"first":{},"last":{},"prev":{},"next":{}}}}}"#,
        rows.join(","),
        href(1),
        href(pages.max(1)),
        link(query.page > 1, query.page.saturating_sub(1)),
        link(query.page < pages, query.page.saturating_add(1)),
        page = query.page,
    )
}

impl ListQuery {
    /// The filters of the request, repeated in links; then the page.
    fn page_parameters(&self, page: usize) -> String {
        let mut text = String::new();
        for (name, value) in &self.filters {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            let value: String = value.chars().filter(|c| plain(*c)).collect();
            text.push_str(&format!("{name}={value}&"));
        }
        if let Some(status) = self.status {
            text.push_str(&format!("label_status={}&", status.as_str()));
        }
        for (name, at) in
            [("created_at_start", self.created_at_start), ("created_at_end", self.created_at_end)]
        {
            if let Some(at) = at {
                text.push_str(&format!("{name}={at}&"));
            }
        }
        let by = if self.by_change { "modified_at" } else { "created_at" };
        let dir = if self.descending { "desc" } else { "asc" };
        text + &format!("sort_by={by}&sort_dir={dir}&page={page}&page_size={}", self.page_size)
    }
}

const CARRIER_ID: &str = "se-100001";
const SERVICE: &str = "ground";

/// Returns another id of a label: this prefix and the digits of the label's id.
fn id_with_prefix(prefix: &str, id: &LabelId) -> String {
    let digits: String = id.as_str().chars().filter(char::is_ascii_digit).take(12).collect();
    format!("{prefix}{digits}")
}

fn matches(label: &LabelEntry, tracking: Option<&Tracking>, wanted: &[(&str, String)]) -> bool {
    wanted.iter().all(|(name, value)| match *name {
        "service_code" => value == SERVICE,
        "carrier_id" => value == CARRIER_ID,
        "batch_id" => *value == id_with_prefix("se-6", &label.id),
        "shipment_id" => *value == id_with_prefix("se-7", &label.id),
        _ => tracking.and_then(|t| t.tracking_number.as_deref()) == Some(value),
    })
}

fn row(label: &LabelEntry, tracking: Option<&Tracking>) -> String {
    let field = |text: Option<&str>| serde_json::to_string(text.unwrap_or_default()).unwrap_or_default();
    let status = tracking.and_then(Tracking::status);
    let carrier = tracking.and_then(|tracking| tracking.carrier_code.as_deref());
    // The list spells the carrier differently from the tracking answer.
    let carrier = if carrier == Some("fedex_walleted") { Some("fedex") } else { carrier };
    let time = |at: Timestamp| format!("{}Z", Offset::UTC.to_datetime(at));
    let voided_at = label.voided_at.map_or("null".to_owned(), |at| format!("\"{}\"", time(at)));
    let number = id_with_prefix("", &label.id).parse::<u64>().unwrap_or(1);
    let tracking_number = tracking.and_then(|tracking| tracking.tracking_number.as_deref());
    TEMPLATE
        .replace('\n', "")
        .replace("{id}", label.id.as_str())
        .replace("{number}", &number.to_string())
        .replace("{batch}", &id_with_prefix("se-6", &label.id))
        .replace("{shipment}", &id_with_prefix("se-7", &label.id))
        .replace("{carrier_id}", CARRIER_ID)
        .replace("{service}", SERVICE)
        .replace("{status}", label.status().as_str())
        .replace("{voided}", if label.voided_at.is_some() { "true" } else { "false" })
        .replace("{voided_at}", &voided_at)
        .replace(
            "{trackable}",
            if tracking.is_some() && label.voided_at.is_none() { "true" } else { "false" },
        )
        .replace("{created_at}", &time(label.created_at))
        .replace("{ship_date}", &format!("{}T07:00:00Z", Offset::UTC.to_datetime(label.created_at).date()))
        .replace("{carrier}", &field(carrier))
        .replace("{tracking_number}", &field(tracking_number))
        .replace(
            "{tracking_url}",
            &format!("https://tracking.example.com/{}", tracking_number.unwrap_or_default()),
        )
        .replace(
            "{tracking_status}",
            status.and_then(|status| status.tracking_status()).unwrap_or("in_transit"),
        )
}

/// A label object, with the vendor's keys in the vendor's order.
const TEMPLATE: &str = r#"{"label_id":"{id}","status":"{status}","shipment_id":"{shipment}",
"external_shipment_id":"SB-{number}","external_order_id":"A-{number}","ship_date":"{ship_date}","created_at":"{created_at}",
"shipment_cost":{"currency":"usd","amount":9.85},"insurance_cost":{"currency":"usd","amount":0.0},
"requested_comparison_amount":null,"rate_details":[],"tracking_number":{tracking_number},"is_return_label":false,
"rma_number":null,"is_international":false,"batch_id":"{batch}","carrier_id":"{carrier_id}","service_code":"{service}",
"package_code":"package","voided":{voided},"voided_at":{voided_at},"void_type":null,"refund_details":null,
"label_format":"pdf","display_scheme":"label","label_layout":"4x6","trackable":{trackable},"label_image_id":null,
"carrier_code":{carrier},"carrier_weight":null,"confirmation":"none","tracking_status":"{tracking_status}",
"label_download":{"pdf":"https://api.shipstation.example/v2/downloads/14/SANDBOXTOKEN/label-{number}.pdf",
"png":"https://api.shipstation.example/v2/downloads/14/SANDBOXTOKEN/label-{number}.png",
"zpl":"https://api.shipstation.example/v2/downloads/14/SANDBOXTOKEN/label-{number}.zpl",
"href":"https://api.shipstation.example/v2/downloads/14/SANDBOXTOKEN/label-{number}.pdf"},
"form_download":null,"qr_code_download":null,"insurance_claim":null,
"paperless_download":null,"packages":[{"package_id":{number},"package_code":"package",
"weight":{"value":18.0,"unit":"ounce"},"dimensions":{"unit":"inch","length":10.0,"width":8.0,"height":4.0},
"insured_value":{"currency":"usd","amount":0.0},"tracking_number":{tracking_number},
"label_download":{"pdf":"https://api.shipstation.example/v2/downloads/14/SANDBOXTOKEN/labelpackage-{number}.pdf"},
"qr_code_download":null,"paperless_download":null,"label_messages":{"reference1":null,"reference2":null,"reference3":null},"external_package_id":null,
"content_description":null,"sequence":1,"alternative_identifiers":[],"has_label_documents":false,
"has_form_documents":false,"has_qr_code_documents":false,"has_paperless_label_documents":false}],"charge_event":"carrier_default",
"alternative_identifiers":[],"shipping_rule_id":null,"tracking_url":"{tracking_url}","pickup_windows":[],
"ship_to":{"geolocation":[],"instructions":null,"name":"Sam Sample","phone":"555-0100",
"email":"sam@example.com","company_name":"","address_line1":"1 Example Street","address_line2":"",
"address_line3":null,"city_locality":"TULSA","state_province":"OK","postal_code":"74103-0000",
"country_code":"US","address_residential_indicator":"yes"}}"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Result<ListQuery, BadParameter> {
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        ListQuery::read(&pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(), 200)
    }

    fn page(text: &str, count: usize) -> serde_json::Value {
        let labels = (0..count)
            .map(|n| LabelEntry {
                id: format!("se-{n}").parse().unwrap(),
                created_at: Timestamp::from_second(1_800_000_000 + n as i64).unwrap(),
                voided_at: (n == 2).then(|| Timestamp::from_second(1_800_009_000).unwrap()),
            })
            .collect();
        let tracking = br#"{"tracking_number":"39","carrier_code":"fedex_walleted","status_code":"DE"}"#;
        let answer = list(&query(text).unwrap(), labels, "http://localhost/v2/labels", |_| {
            Tracking::parse(tracking).ok()
        });
        serde_json::from_str(&answer).expect("valid JSON")
    }

    fn ids(page: &serde_json::Value) -> Vec<&str> {
        page["labels"].as_array().unwrap().iter().map(|label| label["label_id"].as_str().unwrap()).collect()
    }

    #[test]
    fn pages_with_empty_objects_for_absent_links() {
        let first = page("page_size=2&sort_dir=asc", 5);
        assert_eq!(ids(&first), ["se-0", "se-1"]);
        assert_eq!((&first["total"], &first["pages"]), (&5.into(), &3.into()));
        assert_eq!(first["links"]["prev"], serde_json::json!({}));
        assert_eq!(
            first["links"]["next"]["href"],
            "http://localhost/v2/labels?sort_by=created_at&sort_dir=asc&page=2&page_size=2"
        );
        let last = page("page=3&page_size=2&sort_dir=asc", 5);
        assert_eq!(ids(&last), ["se-4"]);
        assert_eq!(last["links"]["next"], serde_json::json!({}));
        assert!(ids(&page("page=9", 5)).is_empty());
        assert_eq!(page("", 0)["pages"], 0);
    }

    #[test]
    fn newest_first_and_filtered_by_creation() {
        assert_eq!(ids(&page("", 3)), ["se-2", "se-1", "se-0"]);
        assert_eq!(ids(&page("created_at_start=2027-01-15T08:00:01Z", 3)), ["se-2", "se-1"]);
        assert_eq!(ids(&page("created_at_end=2027-01-15T08:00:00Z", 3)), ["se-0"]);
        assert_eq!(ids(&page("sort_by=modified_at&page_size=9999", 300)).len(), 200);
        assert_eq!(ids(&page("sort_by=modified_at&page_size=1", 300)), ["se-2"]);
    }

    #[test]
    fn filtered_by_fields_of_the_label() {
        for (filter, expected) in [
            ("label_status=voided", vec!["se-2"]),
            ("label_status=completed", vec!["se-1", "se-0"]),
            ("label_status=processing", vec![]),
            ("tracking_number=39&label_status=voided", vec!["se-2"]),
            ("tracking_number=40", vec![]),
            ("shipment_id=se-71", vec!["se-1"]),
            ("batch_id=se-60&carrier_id=se-100001&service_code=ground", vec!["se-0"]),
            ("carrier_id=se-2", vec![]),
            ("warehouse_id=se-2&page_size=1", vec!["se-2"]),
        ] {
            assert_eq!(ids(&page(filter, 3)), expected, "{filter}");
        }
        let link =
            page("label_status=completed&batch_id=se-60\"&page_size=1", 3)["links"]["first"]["href"].clone();
        assert!(link.as_str().unwrap().contains("?batch_id=se-60&label_status=completed&"), "{link}");
    }

    #[test]
    fn a_label_has_the_status_of_its_tracking() {
        let page = page("", 3);
        let (void, label) = (&page["labels"][0], &page["labels"][1]);
        assert_eq!(label["carrier_code"], "fedex");
        assert_eq!(label["tracking_status"], "delivered");
        assert_eq!(label["tracking_number"], "39");
        assert_eq!(label["created_at"], "2027-01-15T08:00:01Z");
        assert_eq!((&label["voided"], &label["trackable"]), (&false.into(), &true.into()));
        assert_eq!((&void["voided"], &void["status"]), (&true.into(), &"voided".into()));
        assert_eq!((&void["trackable"], &void["voided_at"]), (&false.into(), &"2027-01-15T10:30:00Z".into()));
    }

    #[test]
    fn rejects_invalid_pages() {
        for (text, name) in [
            ("page=0", "page"),
            ("page_size=x", "page_size"),
            ("created_at_start=yesterday", "created_at_start"),
            ("sort_dir=up", "sort_dir"),
            ("sort_by=age", "sort_by"),
            ("label_status=lost", "label_status"),
        ] {
            assert_eq!(query(text).unwrap_err().name, name);
        }
    }
}
