//! `proxy` of a subscriber or an account.
//!
//! A proxy is used only if it is configured; the environment alone never sets one. The credentials of a proxy are never
//! shown.

use serde::Deserialize;

use super::table::Context;
use super::url::{self, HttpUrl};
use super::value_error::ValueError;
use crate::domain::proxies::Proxies;
use crate::domain::secret::Hidden;

/// The proxies for http and https, and the hosts without one; read by its name from a secret.
#[derive(Deserialize)]
pub(super) struct ProxyUrls([String; 3]);

impl From<ProxyUrls> for Proxies {
    fn from(ProxyUrls([http, https, except]): ProxyUrls) -> Self {
        let [http, https] = [http, https].map(|url| (!url.is_empty()).then(|| Hidden::new(url)));
        Self { http, https, except }
    }
}

/// Returns the parts of [`ProxyUrls`] for `text`: a URL, `environment` or nothing.
pub(super) fn urls(context: &Context<'_>, text: &str) -> Result<Vec<String>, ValueError> {
    if text.is_empty() {
        return Ok(vec![String::new(); 3]);
    }
    if text != "environment" {
        let proxy = check(text.trim(), "")?;
        return Ok(vec![proxy.clone(), proxy, String::new()]);
    }
    // The usual variables, in upper or lower case.
    let variable = |names: [&'static str; 2]| {
        let set = |name| context.environment.get(name).map(|value| (name, value.trim()));
        names.into_iter().filter_map(set).find(|(_, value)| !value.is_empty())
    };
    let all = variable(["ALL_PROXY", "all_proxy"]);
    let of = |names| match variable(names).or(all) {
        None => Ok(String::new()),
        Some((name, value)) if value.contains("://") => check(value, &format!("{name} ")),
        Some((name, value)) => check(&format!("http://{value}"), &format!("{name} ")),
    };
    let except = variable(["NO_PROXY", "no_proxy"]).map_or_else(String::new, |(_, hosts)| hosts.to_owned());
    Ok(vec![of(["HTTP_PROXY", "http_proxy"])?, of(["HTTPS_PROXY", "https_proxy"])?, except])
}

/// `variable` is the name of the variable with a space, or empty.
fn check(text: &str, variable: &str) -> Result<String, ValueError> {
    let problem = match HttpUrl::parse(text) {
        Ok(url) => match url.refusal() {
            Some(problem) => problem,
            None => return Ok(text.to_owned()),
        },
        // A text that is not a URL at all may be a misplaced secret.
        Err(problem) if !text.contains("://") => problem.to_owned(),
        Err(problem) => format!("{problem}: {}", url::masked(text)),
    };
    let hint = "write it like \"http://proxy.internal:3128\", or \"environment\"";
    Err(ValueError::new(format!("{variable}{problem}"), hint))
}
