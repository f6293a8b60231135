//! Polling: which label is polled next, when again, and within which limits.

// The monthly budget of requests.
pub mod budget;
// The limit of requests in any 60 seconds.
pub mod quota;
// The fraction of the limit that is used when other clients use the account too.
pub mod adaptive_limit;
// The status of an account with the API.
pub mod account_status;
// Quota, budget, adaptive limit and account status in one value.
pub mod rate_limiter;

// Record of a label between two polls.
pub mod label_record;
// Reason for the time of a label's next poll.
pub mod reason;
// The table of intervals.
pub mod cadence;
// Change rates learned from this installation's polls.
pub mod learning;
// Alerts without a scan as their cause: stalled, late.
pub mod alerts;
// Delay until events are noticed.
pub mod freshness;
// One poll: from the answer to a plan of all that is recorded.
pub mod poll;

// Paces of labels, and the common stretch.
pub mod pace;
// All labels of an account in memory, by due time.
pub mod schedule;
// Expected effect of the quota on an account's labels.
pub mod outlook;

// Discovery of new labels in the account's list.
pub mod discovery;
