//! `GET /messages?after=CURSOR&limit=N&subscriber=NAME`: all messages in order, for catching up (contract 9.3).
//!
//! A client that stores `next` and passes it as `after` gets every message once, regardless of callbacks. An empty page
//! is the current end; its `next` equals its `after`. A wrong parameter is rejected with an error that names it.

use std::borrow::Cow;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::{HttpState, json, json_error};
use crate::domain::messages::subscriber::SubscriberName;
use crate::store::StoreError;
use crate::store::feed::{Cursor, FeedMessage};

/// Default number of messages in a page.
const DEFAULT_LIMIT: u32 = 100;
/// Maximum number of messages in a page.
const MAX_LIMIT: u32 = 1000;

#[derive(Debug, Serialize)]
struct FeedPage {
    messages: Vec<FeedMessage>,
    /// Cursor after these messages.
    next: Cursor,
}

/// Query parameters of a page.
#[derive(Debug, PartialEq, Eq)]
struct FeedQuery {
    after: Cursor,
    limit: u32,
    subscriber: Option<String>,
}

/// A wrong parameter.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct ParameterError {
    error: Cow<'static, str>,
    parameter: String,
}

fn parameter_error(parameter: &str, error: impl Into<Cow<'static, str>>) -> ParameterError {
    ParameterError { error: error.into(), parameter: parameter.to_owned() }
}

impl FeedQuery {
    fn read(parameters: Vec<(String, String)>) -> Result<Self, ParameterError> {
        let (mut after, mut limit, mut subscriber) = (None, None, None);
        for (name, value) in parameters {
            let value_of = match name.as_str() {
                "after" => &mut after,
                "limit" => &mut limit,
                "subscriber" => &mut subscriber,
                _ => {
                    return Err(parameter_error(
                        &name,
                        "unknown parameter; valid are: after, limit, subscriber",
                    ));
                }
            };
            if value_of.replace(value).is_some() {
                return Err(parameter_error(&name, format!("{name} is given twice")));
            }
        }
        let after = match after.as_deref() {
            None | Some("") => Cursor::default(),
            Some(text) => Cursor::parse(text).ok_or_else(|| {
                parameter_error("after", "after is not a valid cursor: use `next` of an earlier page")
            })?,
        };
        let limit = match limit.as_deref() {
            None => DEFAULT_LIMIT,
            Some(text) => {
                text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit)).ok_or_else(|| {
                    parameter_error("limit", format!("limit is not a number from 1 to {MAX_LIMIT}"))
                })?
            }
        };
        if subscriber.as_deref() == Some("") {
            return Err(parameter_error("subscriber", "subscriber is empty"));
        }
        Ok(Self { after, limit, subscriber })
    }
}

pub(super) async fn messages(
    State(state): State<HttpState>,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Response {
    match FeedQuery::read(parameters) {
        Ok(query) => page(&state, query)
            .await
            .unwrap_or_else(|error| json_error(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())),
        Err(error) => parameter_error_response(StatusCode::BAD_REQUEST, &error),
    }
}

async fn page(state: &HttpState, query: FeedQuery) -> Result<Response, StoreError> {
    let store = &state.store;
    let is_configured =
        |name: &str| state.configured.borrow().subscribers.contains_key(&SubscriberName::new(name));
    if let Some(name) = query.subscriber.as_deref()
        && !is_configured(name)
        && !store.knows_subscriber(name).await?
    {
        let error = "no subscriber has this name";
        return Ok(parameter_error_response(StatusCode::NOT_FOUND, &parameter_error("subscriber", error)));
    }
    if !store.issued(&query.after).await? {
        let error = "after is not a cursor of this database, which may have been restored from a copy: start again without after";
        return Ok(parameter_error_response(StatusCode::BAD_REQUEST, &parameter_error("after", error)));
    }
    let messages = store.feed(&query.after, query.limit, query.subscriber.as_deref()).await?;
    let next = messages.last().map_or(query.after, |last| last.cursor.clone());
    let page = FeedPage { messages, next };
    Ok(json(StatusCode::OK, serde_json::to_string(&page).expect("messages are plain values")))
}

fn parameter_error_response(status: StatusCode, error: &ParameterError) -> Response {
    json(status, serde_json::to_string(error).expect("an error is plain text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parameters: &[(&str, &str)]) -> Result<FeedQuery, String> {
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        FeedQuery::read(parameters.collect()).map_err(|error| error.parameter)
    }

    #[test]
    fn missing_parameters_have_defaults() {
        let bare = FeedQuery { after: Cursor::default(), limit: 100, subscriber: None };
        assert_eq!(read(&[]).unwrap(), bare);
        assert_eq!(read(&[("after", "")]).unwrap(), bare);
        assert_eq!(read(&[("limit", "1000"), ("subscriber", "orders")]).unwrap().limit, 1000);
    }

    #[test]
    fn an_error_names_the_wrong_parameter() {
        for (name, value) in [
            ("after", "yesterday"),
            ("limit", "0"),
            ("limit", "1001"),
            ("limit", "ten"),
            ("limit", ""),
            ("subscriber", ""),
            ("cursor", "0"),
        ] {
            assert_eq!(read(&[(name, value)]).unwrap_err(), name, "{value}");
        }
        assert_eq!(read(&[("limit", "1"), ("limit", "2")]).unwrap_err(), "limit");
    }
}
