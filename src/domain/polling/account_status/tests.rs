use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

fn unauthorized() -> AccountSignal {
    AccountSignal::Unauthorized { detail: "401".to_owned() }
}

fn failed() -> AccountSignal {
    AccountSignal::Failed { detail: "500".to_owned() }
}

#[test]
fn a_refused_key_is_reported_once_and_probed_at_growing_intervals() {
    let mut account = AccountState::new(at(0));
    assert_eq!(account.observe(Some(1), &unauthorized(), 3, false, at(0)), Some(AccountChange::Refused));
    // Answers of seven requests that were in flight.
    for label in 2..9 {
        assert_eq!(account.observe(Some(label), &unauthorized(), 3, false, at(1)), None);
    }
    let mut now = 60;
    for wait in [120, 240, 480, 960, 1920, 3600, 3600] {
        assert_eq!(account.probe_at, Some(at(now)));
        assert_eq!(account.observe(Some(1), &unauthorized(), 3, true, at(now)), None);
        now += wait;
    }
    assert_eq!(
        account.observe(Some(1), &AccountSignal::Good, 3, true, at(now)),
        Some(AccountChange::Accepted)
    );
    assert_eq!(account.open_at(at(now)), None);
}

fn refused(detail: &str) -> AccountSignal {
    AccountSignal::Refused { detail: detail.to_owned() }
}

#[test]
fn three_labels_in_a_row_with_the_same_refusal_suspend_the_account() {
    let mut account = AccountState::new(at(0));
    let mut observe = |label, signal: &AccountSignal| account.observe(Some(label), signal, 12, false, at(0));
    let plan = refused("the server answered 400: plan");
    assert_eq!([observe(1, &plan), observe(2, &plan)], [None, None]);
    assert_eq!(observe(2, &plan), None, "the same label again");
    assert_eq!(observe(9, &AccountSignal::Good), None, "a good answer between");
    assert_eq!([observe(1, &plan), observe(2, &plan)], [None, None]);
    assert_eq!(observe(3, &refused("the server answered 404: se-3")), None, "another refusal");
    assert_eq!([observe(1, &plan), observe(2, &plan)], [None, None]);
    assert_eq!(observe(3, &plan), Some(AccountChange::Refused));
    assert_eq!(observe(4, &plan), None, "a request that was in flight");
    assert_eq!((account.status, account.status_changed_by), (AccountStatus::Unauthorized, Some(3)));
    // A probe with the same refusal is not reported again, also by a process that has only the stored state.
    account = AccountState { refusal: None, refused: BTreeSet::new(), ..account };
    assert_eq!(account.observe(Some(4), &plan, 12, true, at(60)), None);
    assert_eq!((account.probes, account.probe_at), (1, Some(at(180))));
    let other = refused("the server answered 404: se-5");
    assert_eq!(account.observe(Some(5), &other, 12, true, at(180)), Some(AccountChange::Accepted));
    assert_eq!(account.status, AccountStatus::Ok);
}

#[test]
fn a_refusal_ends_an_outage() {
    let mut account = AccountState::new(at(0));
    for label in 0..3 {
        account.observe(Some(label), &failed(), 3, false, at(0));
    }
    account.observe(Some(3), &failed(), 3, false, at(0));
    let change = account.observe(Some(4), &failed(), 3, false, at(0));
    assert_eq!(change, Some(AccountChange::WentDown));
    assert_eq!(account.observe(Some(1), &refused("404"), 3, true, at(60)), Some(AccountChange::CameBack));
}

#[test]
fn a_shortage_of_this_machine_pauses_polls_and_is_not_a_failure() {
    let mut account = AccountState::new(at(0));
    for label in 0..50 {
        assert_eq!(account.observe(Some(label), &AccountSignal::Shortage, 3, false, at(0)), None);
    }
    assert_eq!((account.status, account.open_at(at(0))), (AccountStatus::Ok, Some(at(5))));
    account.observe(Some(1), &unauthorized(), 3, false, at(5));
    account.observe(Some(1), &AccountSignal::Shortage, 3, true, at(65));
    assert_eq!((account.probes, account.probe_at), (0, Some(at(70))), "no probe that failed");
}

#[test]
fn a_retry_after_is_honoured_for_at_most_a_day() {
    let mut account = AccountState::new(at(0));
    let long = Reading::Throttled { retry_after: Some(Duration::from_secs(31 * 86_400)) }.signal();
    account.observe(Some(1), &long, 3, false, at(0));
    assert_eq!(account.open_at(at(0)), Some(at(86_400)));
}

#[test]
fn an_outage_needs_several_labels() {
    let mut account = AccountState::new(at(0));
    for _ in 0..20 {
        assert_eq!(account.observe(Some(1), &failed(), 3, false, at(0)), None);
    }
    assert_eq!(account.observe(Some(2), &failed(), 3, false, at(0)), None);
    assert_eq!(account.observe(Some(3), &failed(), 3, false, at(0)), Some(AccountChange::WentDown));
    assert_eq!(account.observe(Some(4), &failed(), 3, false, at(1)), None);
    assert_eq!(
        account.observe(Some(1), &AccountSignal::Good, 3, true, at(60)),
        Some(AccountChange::CameBack)
    );
}

#[test]
fn a_recent_good_answer_prevents_an_outage() {
    let mut account = AccountState::new(at(0));
    account.observe(Some(99), &AccountSignal::Good, 100, false, at(0));
    for label in 0..90 {
        assert_eq!(account.observe(Some(label), &failed(), 100, false, at(29)), None);
    }
    assert_eq!(account.observe(Some(90), &failed(), 100, false, at(30)), Some(AccountChange::WentDown));
}

#[test]
fn good_answers_between_failures_prevent_an_outage() {
    let mut account = AccountState::new(at(0));
    for label in 0..50 {
        assert_eq!(account.observe(Some(label), &failed(), 3, false, at(0)), None);
        assert_eq!(account.observe(Some(99), &AccountSignal::Good, 3, false, at(0)), None);
    }
}

#[test]
fn the_later_of_two_retry_afters_counts() {
    let mut account = AccountState::new(at(0));
    account.observe(Some(1), &AccountSignal::Throttled { wait: Duration::from_secs(30) }, 3, false, at(0));
    account.observe(Some(2), &AccountSignal::Throttled { wait: Duration::from_secs(10) }, 3, false, at(1));
    assert_eq!(account.open_at(at(2)), Some(at(30)));
    assert_eq!(account.open_at(at(30)), None);
}
