//! Access control: data about parcels needs the token, if one is configured.
//!
//! A program sends it as `Authorization: Bearer …`. A browser sends it once, with the form of `/login`, and gets a
//! cookie that is derived from it and does not reveal it.

use axum::extract::{Form, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::pages::{self, wants_html};
use super::{HttpState, json_error};
use crate::domain::digest;

const COOKIE: &str = "trackpost";
/// Lifetime of the cookie in seconds: 30 days.
const COOKIE_SECONDS: u32 = 30 * 86_400;

/// Lets a request pass if it has the token, or if the configuration has no token.
pub(super) async fn require_token(State(state): State<HttpState>, request: Request, next: Next) -> Response {
    if may_read(&state, request.headers()) {
        return next.run(request).await;
    }
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let mut response = if wants_html(request.headers()) {
        pages::login(target, false)
    } else {
        let error = "a token is required: send the header Authorization: Bearer TOKEN";
        json_error(StatusCode::UNAUTHORIZED, error)
    };
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Fields of the login form.
#[derive(serde::Deserialize)]
pub(super) struct Login {
    token: String,
    #[serde(default)]
    to: String,
}

/// `POST /login`: exchanges the token for a cookie, and redirects to the requested page.
pub(super) async fn login(State(state): State<HttpState>, Form(sent): Form<Login>) -> Response {
    // Only a path of this server, and nothing that a browser reads as another server.
    let ours = sent.to.starts_with('/')
        && !sent.to.starts_with("//")
        && !sent.to.contains(|c: char| c == '\\' || c.is_ascii_control());
    let to = if ours { sent.to.as_str() } else { "/" };
    let Some(token) = state.token.as_ref().map(|token| token.expose().as_str()) else {
        return (StatusCode::SEE_OTHER, [(header::LOCATION, to)]).into_response();
    };
    if !equal_in_constant_time(sent.token.trim().as_bytes(), token.as_bytes()) {
        return pages::login(to, true);
    }
    let cookie =
        format!("{COOKIE}={}; HttpOnly; SameSite=Strict; Path=/; Max-Age={COOKIE_SECONDS}", cookie_of(token));
    (StatusCode::SEE_OTHER, [(header::LOCATION, to), (header::SET_COOKIE, cookie.as_str())]).into_response()
}

/// Returns the value of the cookie.
fn cookie_of(token: &str) -> String {
    digest::hex(&digest::of_bytes(format!("trackpost status page\n{token}").as_bytes()))
}

/// Whether a request has the token, or the configuration has none.
pub(super) fn may_read(state: &HttpState, headers: &HeaderMap) -> bool {
    let token = state.token.as_ref().map(|token| token.expose().as_str());
    token.is_none_or(|token| has_token(headers, token) || has_cookie(headers, token))
}

fn has_cookie(headers: &HeaderMap, token: &str) -> bool {
    let wanted = cookie_of(token);
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    let mut values =
        cookies.flat_map(|cookies| cookies.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
    values.any(|(name, value)| name == COOKIE && equal_in_constant_time(value.as_bytes(), wanted.as_bytes()))
}

fn has_token(headers: &HeaderMap, token: &str) -> bool {
    let Some(sent) =
        headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().split_at_checked(7))
    else {
        return false;
    };
    sent.0.eq_ignore_ascii_case(b"Bearer ") && equal_in_constant_time(sent.1.trim_ascii(), token.as_bytes())
}

/// Whether both are equal, in constant time.
fn equal_in_constant_time(a: &[u8], b: &[u8]) -> bool {
    let (a, b) = (digest::of_bytes(a), digest::of_bytes(b));
    let differing = a.iter().zip(&b).fold(0, |differing, (a, b)| differing | (a ^ b));
    std::hint::black_box(differing) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_is_accepted() {
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

    #[test]
    fn a_cookie_is_accepted_and_does_not_reveal_the_token() {
        let has = |sent: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, sent.parse().unwrap());
            has_cookie(&headers, "open sesame")
        };
        let cookie = cookie_of("open sesame");
        assert!(!cookie.contains("sesame"));
        assert!(has(&format!("a=b; {COOKIE}={cookie}")));
        for wrong in
            [format!("{COOKIE}=open sesame"), format!("other={cookie}"), format!("{COOKIE}={cookie}0")]
        {
            assert!(!has(&wrong), "{wrong}");
        }
    }
}
