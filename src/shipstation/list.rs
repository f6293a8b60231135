//! One page of the list of labels, `GET /v2/labels`, without personal data.
//!
//! A label in the list has names, addresses, telephone numbers and links that open it. The parser has no field for
//! them, and no error quotes an answer; serde's own errors quote the value, so they are not used.

use http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value as Json;
use url::Url;

use super::account::{Client, WholeAnswer};
use super::wire;
use crate::domain::account::Account;
use crate::domain::label::{LabelId, Metadata};
use crate::domain::polling::discovery::{ListPage, ListRequest, ListedLabel, ListedState};
use crate::domain::tracking::Text;
use crate::domain::tracking::reading::Reading;

/// Maximum length of an id or code in bytes; longer ones are left out.
const MAX_TEXT_BYTES: usize = 128;

impl Client {
    /// Requests a page of the list of labels at `url`. `now` is the base of a relative `Retry-After`.
    ///
    /// # Errors
    /// The reading of any other answer.
    pub async fn list(
        &self,
        account: &Account,
        url: &str,
        request: ListRequest,
        now: Timestamp,
    ) -> Result<ListPage, Reading> {
        let ListRequest { created_from: from, page, page_size, voided_only } = request;
        let voided = if voided_only { "&label_status=voided" } else { "" };
        let no_url = |_| Reading::WrongEndpoint {
            status: None,
            url: url.to_owned(),
            detail: "it is not a valid URL".to_owned(),
        };
        let path = Url::parse(url).map_err(no_url)?.path().to_owned();
        let target = format!(
            "{path}?created_at_start={from}&sort_by=created_at&sort_dir=asc&page={page}&page_size={page_size}{voided}"
        );
        let WholeAnswer { status, body, .. } = self.get(account, &target, now).await?;
        classify(status, &body, page, url)
    }
}

fn classify(status: StatusCode, body: &[u8], number: u32, url: &str) -> Result<ListPage, Reading> {
    let code = status.as_u16();
    let error_text = || wire::code(body);
    Err(match status {
        StatusCode::OK => {
            return parse(body, number).map_err(|detail| Reading::Garbled { status: 200, detail });
        }
        StatusCode::UNAUTHORIZED | StatusCode::PAYMENT_REQUIRED | StatusCode::FORBIDDEN => {
            Reading::Unauthorized { status: code, detail: error_text() }
        }
        StatusCode::BAD_REQUEST if wire::is_about_account(body) => {
            Reading::Unauthorized { status: code, detail: error_text() }
        }
        StatusCode::NOT_FOUND => {
            Reading::WrongEndpoint { status: Some(404), url: url.to_owned(), detail: error_text() }
        }
        _ if status.is_client_error() => {
            Reading::Refused { status: code, detail: format!("the server answered {code}: {}", error_text()) }
        }
        _ => Reading::Garbled {
            status: code,
            detail: format!("the server answered {code}, which is not a list of labels"),
        },
    })
}

#[derive(Deserialize)]
struct WirePage {
    labels: Vec<WireLabel>,
    #[serde(default)]
    pages: Option<u64>,
    #[serde(default)]
    links: Option<Links>,
}

#[derive(Deserialize)]
struct Links {
    #[serde(default)]
    next: Option<Link>,
}

/// An absent object is an empty object.
#[derive(Deserialize)]
struct Link {
    #[serde(default)]
    href: Text,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireLabel {
    label_id: Text,
    status: Text,
    voided: Text,
    trackable: Text,
    created_at: Text,
    external_order_id: Text,
    shipment_id: Text,
    external_shipment_id: Text,
    carrier_code: Text,
    service_code: Text,
}

/// Returns the page, or an error that does not quote the answer.
fn parse(body: &[u8], number: u32) -> Result<ListPage, String> {
    let wire: WirePage = serde_json::from_slice(body).map_err(|error| {
        format!("not a valid list of labels: error at line {}, column {}", error.line(), error.column())
    })?;
    let total = wire.labels.len();
    let labels: Vec<ListedLabel> = wire.labels.into_iter().filter_map(WireLabel::into_listed).collect();
    let next = wire.links.and_then(|links| links.next).and_then(|next| next.href.into_option());
    let more = wire.pages.map_or(next.is_some(), |pages| u64::from(number) < pages);
    Ok(ListPage { more, invalid_ids: total - labels.len(), labels })
}

impl WireLabel {
    fn into_listed(self) -> Option<ListedLabel> {
        let id: LabelId = self.label_id.as_deref()?.parse().ok()?;
        let flag = |text: &Text| match text.as_deref() {
            Some("true") => Some(true),
            Some("false") => Some(false),
            _ => None,
        };
        let state = ListedState::of(self.status.as_deref(), flag(&self.voided), flag(&self.trackable));
        let created_at = self.created_at.as_deref().and_then(instant);
        let named = [
            ("order", self.external_order_id),
            ("shipment", self.shipment_id),
            ("external_shipment", self.external_shipment_id),
            ("carrier", self.carrier_code),
            ("service", self.service_code),
        ];
        let short = named.into_iter().filter_map(|(key, text)| {
            let text = text.into_option().filter(|text| text.len() <= MAX_TEXT_BYTES)?;
            Some((key.to_owned(), Json::String(text)))
        });
        let metadata: Metadata = short.collect();
        Some(ListedLabel { id, created_at, state, metadata })
    }
}

/// A time with a zone; without a zone it is UTC.
fn instant(text: &str) -> Option<Timestamp> {
    text.parse().or_else(|_| format!("{text}Z").parse()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer of the vendor with invented people.
    const PAGE: &str = include_str!("../../tests/it/harness/labels.json");

    #[test]
    fn a_page_of_the_vendor_is_read_without_personal_data() {
        let page = parse(PAGE.as_bytes(), 1).unwrap();
        assert_eq!((page.labels.len(), page.more, page.invalid_ids), (1, false, 0));
        let label = &page.labels[0];
        assert_eq!(label.id.as_str(), "se-184976210");
        assert_eq!(label.created_at.unwrap().to_string(), "2026-08-12T19:46:28.8Z");
        assert_eq!(label.state, ListedState::Tracked);
        assert_eq!(
            Json::from(label.metadata.clone()),
            serde_json::json!({"order": "A-1001", "shipment": "se-394477236", "carrier": "fedex",
                "external_shipment": "SEAuto-PFQMq_1lRUCdjj_UHKBsJg", "service": "fedex_ground"})
        );
        let kept = format!("{page:?}");
        for personal in
            ["Erika", "Mustermann", "555-0199", "Heidestr", "example.com", "TOKEN", "38314", "downloads"]
        {
            assert!(PAGE.contains(personal), "{personal} is in the fixture");
            assert!(!kept.contains(personal), "{personal} is kept: {kept}");
        }
    }

    #[test]
    fn errors_do_not_quote_the_answer() {
        let body = PAGE.replace("\"pages\": 1", "\"pages\": \"Erika Mustermann\"");
        assert_ne!(body, PAGE);
        for body in
            [body.as_str(), &PAGE[..900], r#"{"labels":["Erika Mustermann"]}"#, "\"Erika Mustermann\"", ""]
        {
            let error_text = format!("{:?}", classify(StatusCode::OK, body.as_bytes(), 1, "URL"));
            assert!(error_text.contains("not a valid list of labels: error at line"), "{error_text}");
            assert!(!error_text.contains("Erika"), "{error_text}");
        }
        for status in [302, 400, 401, 403, 404, 418] {
            let status = StatusCode::from_u16(status).unwrap();
            let body = r#"{"errors":[{"error_code":"Erika Mustermann","message":"Erika Mustermann"}]}"#;
            let error_text = format!("{:?}", classify(status, body.as_bytes(), 1, "URL"));
            assert!(!error_text.contains("Erika"), "{error_text}");
        }
    }

    #[test]
    fn pages_links_and_labels_of_any_form() {
        let more = |text: &str, number| parse(text.as_bytes(), number).map(|page| page.more);
        assert_eq!(more(r#"{"labels":[],"pages":0,"links":{"next":{}}}"#, 1), Ok(false));
        assert_eq!(more(r#"{"labels":[],"pages":3}"#, 2), Ok(true));
        assert_eq!(more(r#"{"labels":[],"pages":3}"#, 3), Ok(false));
        assert_eq!(more(r#"{"labels":[],"links":{"next":{"href":"https://a"}}}"#, 1), Ok(true));
        assert_eq!(more(r#"{"labels":[],"links":{"next":{"href":null}}}"#, 1), Ok(false));
        assert_eq!(more(r#"{"labels":[]}"#, 1), Ok(false));
        let labels = r#"{"labels":[{"label_id":"SE-1"},{},{"label_id":"se-1","voided":true,"created_at":"soon"},
            {"label_id":"se-2","status":"completed","voided":null,"created_at":"2026-08-12T19:46:28","service_code":7},
            {"label_id":"se-3","trackable":true,"created_at":"2026-08-12T19:46:28+02:00","external_order_id":""}]}"#;
        let page = parse(labels.as_bytes(), 1).unwrap();
        assert_eq!(page.invalid_ids, 2);
        let seen: Vec<_> = page.labels.iter().map(|label| (label.id.as_str(), label.state)).collect();
        assert_eq!(
            seen,
            [("se-1", ListedState::Voided), ("se-2", ListedState::Tracked), ("se-3", ListedState::Tracked)]
        );
        let created: Vec<_> =
            page.labels.iter().map(|label| label.created_at.map(Timestamp::as_second)).collect();
        assert_eq!(created, [None, Some(1_786_563_988), Some(1_786_556_788)]);
        assert_eq!(page.labels[1].metadata["service"], "7");
        assert!(page.labels[2].metadata.is_empty());
    }
}
