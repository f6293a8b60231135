//! Who may read what is about parcels: whoever has the token, where there is one.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::{Sources, json};
use crate::domain::digest;

/// Lets a request pass if it has the token, or if none is asked for.
pub(super) async fn let_in(State(sources): State<Sources>, request: Request, next: Next) -> Response {
    if may_read(&sources, request.headers()) {
        return next.run(request).await;
    }
    let body = serde_json::json!({ "error": "this needs the token: Authorization: Bearer …" });
    let mut refusal = json(StatusCode::UNAUTHORIZED, body.to_string());
    refusal.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    refusal
}

/// Whether a request has the token, or none is asked for.
pub(super) fn may_read(sources: &Sources, headers: &HeaderMap) -> bool {
    let token = sources.token.as_ref().map(|token| token.expose().as_str());
    token.is_none_or(|token| has_token(headers, token))
}

fn has_token(headers: &HeaderMap, token: &str) -> bool {
    let Some(sent) =
        headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().split_at_checked(7))
    else {
        return false;
    };
    sent.0.eq_ignore_ascii_case(b"Bearer ") && alike(sent.1.trim_ascii(), token.as_bytes())
}

/// Whether both are the same, in a time that tells nothing of where they differ or how long they are.
fn alike(a: &[u8], b: &[u8]) -> bool {
    let (a, b) = (digest::of_bytes(a), digest::of_bytes(b));
    let differing = a.iter().zip(&b).fold(0, |differing, (a, b)| differing | (a ^ b));
    std::hint::black_box(differing) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_opens() {
        let has = |sent: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, sent.parse().unwrap());
            has_token(&headers, "open sesame")
        };
        assert!(has("Bearer open sesame") && has("bearer  open sesame"));
        for wrong in
            ["Bearer open sesam", "Bearer open sesame2", "Bearer ", "Bearer", "Basic open sesame", "é"]
        {
            assert!(!has(wrong), "{wrong}");
        }
        assert!(!has_token(&HeaderMap::new(), "open sesame"));
    }
}
