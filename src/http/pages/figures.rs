//! Plots as inline SVG, with the same figures as text beside them.

use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};

use super::layout::{number, time};
use crate::domain::polling::freshness::{BOUNDS, Histogram};
use crate::domain::time::earlier;
use crate::metrics::{LATENCY_BOUNDS, Latencies};

/// Maximum number of bars side by side.
const BARS: usize = 96;

/// Bars of counts by minute; the last minute ends now.
pub(super) fn series(title: &str, minutes: &[u32], second_colour: bool, now: Timestamp) -> Markup {
    let each = minutes.len().div_ceil(BARS).max(1);
    // Grouped from the end, so that the newest bar has all its minutes.
    let mut bars: Vec<u32> = minutes.rchunks(each).map(|minutes| minutes.iter().sum()).collect();
    bars.reverse();
    let most = bars.iter().copied().max().unwrap_or(0);
    let total: u64 = minutes.iter().map(|count| u64::from(*count)).sum();
    let span = match each {
        1 => "a minute".to_owned(),
        each => format!("{each} minutes"),
    };
    let summary = format!("{} in total, at most {} in {span}", number(total), number(u64::from(most)));
    let began = earlier(now, SignedDuration::from_mins(i64::try_from(minutes.len()).unwrap_or(0)));
    let wide = bars.len().max(30);
    html! {
        figure {
            figcaption { span { (title) } small { (summary) } }
            svg.series viewBox={ "0 0 " (wide * 10) " 100" } preserveAspectRatio="none" role="img"
                aria-label={ (title) ": " (summary) } {
                @for (at, count) in bars.iter().enumerate() {
                    @if *count > 0 {
                        @let height = (f64::from(*count) / f64::from(most) * 100.0).max(2.0);
                        rect.fill.second[second_colour] x=(at * 10 + 1) width="8" y=(format!("{:.1}", 100.0 - height))
                            height=(format!("{height:.1}")) {}
                    }
                }
            }
            @if bars.len() >= 30 { div.ends { (time(began)) span { "now" } } }
            @else { div.ends { span { "since the start, " (time(began)) } } }
        }
    }
}

/// Horizontal bars of the counts of buckets.
fn histogram(name: &str, rows: &[(String, u64)]) -> Markup {
    let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    html! {
        table.histogram {
            caption.hidden { (name) }
            tbody {
                @for (bucket, count) in rows {
                    tr {
                        th scope="row" { (bucket) }
                        td.much {
                            svg.bar aria-hidden="true" {
                                @let width = format!("{:.1}%", *count as f64 / most as f64 * 100.0);
                                rect.fill width=(width) height="100%" rx="2" {}
                            }
                        }
                        td { (number(*count)) }
                    }
                }
            }
        }
    }
}

/// Histogram of how soon changes were noticed.
pub(super) fn noticed(figures: &Histogram) -> Markup {
    let bounds = BOUNDS.map(|bound| bound.as_secs_f64());
    histogram("New events by the time it took to notice them", &buckets(&bounds, &figures.0))
}

/// Histogram of the time that deliveries took.
pub(super) fn latency(latencies: &Latencies) -> Markup {
    let rows = buckets(&LATENCY_BOUNDS, latencies);
    histogram("Deliveries by the time from the message to its acceptance", &rows)
}

/// Returns the buckets with their names: up to each of `bounds`, in seconds, and over the last one.
fn buckets(bounds: &[f64], counts: &[u64]) -> Vec<(String, u64)> {
    let up_to = bounds.iter().map(|bound| format!("≤ {}", span(*bound)));
    let over = bounds.last().map(|bound| format!("> {}", span(*bound)));
    up_to.chain(over).zip(counts.iter().copied()).collect()
}

fn span(seconds: f64) -> String {
    match seconds {
        ..1.0 => format!("{:.0} ms", seconds * 1_000.0),
        ..60.0 => format!("{seconds:.0} s"),
        ..3_600.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.0} h", seconds / 3_600.0),
    }
}

/// Returns the bound below which this share of all values lies, as text; `None` without values.
pub(super) fn quantile(latencies: &Latencies, share: f64) -> Option<String> {
    let rank = (share * latencies.iter().sum::<u64>() as f64).ceil().max(1.0) as u64;
    let mut reached = 0;
    let bucket = latencies.iter().position(|count| {
        reached += count;
        reached >= rank
    })?;
    Some(match LATENCY_BOUNDS.get(bucket) {
        Some(bound) => format!("within {}", span(*bound)),
        None => format!("in over {}", span(LATENCY_BOUNDS[LATENCY_BOUNDS.len() - 1])),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_bounds() {
        let mut latencies = Latencies::default();
        assert_eq!(quantile(&latencies, 0.5), None);
        (latencies[0], latencies[5], latencies[12]) = (94, 5, 1);
        let summary = |share| quantile(&latencies, share).unwrap();
        assert_eq!([0.5, 0.95, 1.0].map(summary), ["within 25 ms", "within 1 s", "in over 24 h"]);
    }

    #[test]
    fn a_day_has_few_bars() {
        let drawn = series("polls", &[1; 1440], false, Timestamp::UNIX_EPOCH).into_string();
        assert_eq!(drawn.matches("<rect").count(), BARS);
        assert!(drawn.contains("at most 15 in 15 minutes"), "{drawn}");
    }
}
