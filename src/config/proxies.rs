//! `proxy` of a subscriber or an account: by way of whom it is reached.
//!
//! None unless it is configured, whatever the environment says. Nothing of a proxy's credentials is ever shown.

use super::reader::{Entry, Extent, Table};
use super::{secret, url};
use crate::domain::delivery::address::always_refused;
use crate::domain::proxies::Proxies;
use crate::domain::secret::Hidden;

const FORM: &str = "as in \"http://proxy.internal:3128\", or \"environment\"";

/// What the key `proxy` of `table` says.
pub(super) fn of(table: &Table<'_>) -> Option<Proxies> {
    table.present("proxy").map_or_else(|| Some(Proxies::default()), proxies)
}

fn proxies(entry: &Entry<'_>) -> Option<Proxies> {
    if entry.context.extent == Extent::BesideDaemon {
        return Some(Proxies::default());
    }
    let text = secret::read(entry)?;
    if text.expose() == "environment" {
        return environment(entry);
    }
    let proxy = proxy(entry, text.expose().trim(), "")?;
    Some(Proxies { http: Some(proxy.clone()), https: Some(proxy), except: String::new() })
}

/// What the usual variables say, in capitals or not.
fn environment(entry: &Entry<'_>) -> Option<Proxies> {
    let variable = |names: [&'static str; 2]| {
        let set = |name| entry.context.environment.get(name).map(|value| (name, value.trim()));
        names.into_iter().filter_map(set).find(|(_, value)| !value.is_empty())
    };
    let all = variable(["ALL_PROXY", "all_proxy"]);
    let of = |names| match variable(names).or(all) {
        None => Some(None),
        Some((name, value)) => {
            let scheme = if value.contains("://") { "" } else { "http://" };
            proxy(entry, &format!("{scheme}{value}"), &format!("{name} ")).map(Some)
        }
    };
    let (http, https) = (of(["HTTP_PROXY", "http_proxy"]), of(["HTTPS_PROXY", "https_proxy"]));
    let except = variable(["NO_PROXY", "no_proxy"]).map_or_else(String::new, |(_, hosts)| hosts.to_owned());
    Some(Proxies { http: http?, https: https?, except })
}

/// `whose` names a variable, or nobody.
fn proxy(entry: &Entry<'_>, text: &str, whose: &str) -> Option<Hidden<String>> {
    match url::parse(text) {
        // What is no URL at all may be a secret that went astray.
        Err(problem) if !text.contains("://") => entry.fault_unshown(format!("{whose}{problem}"), FORM),
        Err(problem) => entry.fault_masked(&url::masked(text), format!("{whose}{problem}"), FORM),
        Ok(url) => match url.address.and_then(always_refused) {
            Some(refusal) => entry.fault_masked(
                &url.shown,
                format!("{whose}has an address that won't do: {refusal}"),
                FORM,
            ),
            None => Some(Hidden::new(text.to_owned())),
        },
    }
}
