//! Secrets and environment variables.

use super::*;

#[test]
fn a_secret_is_never_printed() {
    let secret = "v3ry-s3cret";
    for config in [
        format!("[accounts.main]\napi_kye = \"{secret}\""),
        format!("[accounts]\nmain = \"{secret}\""),
        format!("accounts = \"{secret}\""),
        format!("[accounts.main]\napi_key = [\"{secret}\"]"),
        format!("[accounts.main]\napi_key = \"a\\u0001{secret}\""),
        format!("[accounts.main]\napi_key = {{ value = \"{secret}\" }}"),
        format!("[accounts.main]\napi_key = \"{secret}"),
        format!("[http]\nlisten = \"0.0.0.0:1\"\ntoken = [\"{secret}\"]"),
        format!("[http]\ntokn = \"{secret}\""),
        format!("[subscribers.a]\nurl = \"https://{secret}@:x/\"\nsecrets = \"{secret}\""),
        format!("[subscribers.a]\nsecrets = [\"{secret}\", \"whsec_{secret}\"]"),
        format!("[subscribers.a]\nsecrets = [\"{secret}\"]\nsecret = \"{secret}\""),
        format!(
            "[subscribers.a]\nheaders = {{ Host = \"{secret}\", \"\" = \"{secret}\", a = \"{secret}\\n.\" }}"
        ),
        format!("[subscribers.a]\nheaders = [\"{secret}\"]"),
    ] {
        let report = Setup::new(&config).report();
        assert!(!report.is_empty(), "{config}");
        assert!(!report.contains("s3cret"), "{config}\n{report}");
    }
    let setup = Setup::new(&format!(
        "[http]\ntoken = \"{secret}\"\n[accounts.main]\napi_key = \"{secret}\"\n[subscribers.a]\nsecret = \"{WHSEC}\"\n\
         url = \"https://u:{secret}@example.com/?t={secret}\"\nheaders = {{ a = {{ env = \"A\" }} }}"
    ))
    .env("A", secret);
    let debug =
        format!("{:?} {:?}", setup.loaded(), setup.environment.iter().cloned().collect::<Environment>());
    assert!(!debug.contains("s3cret") && !debug.contains("MfKQ"), "{debug}");
}

#[test]
fn secrets_are_read_from_every_source() {
    let setup =
        Setup::new("[accounts.a]\napi_key = { file = \"keys/a\" }\n[accounts.b]\napi_key = { env = \"B\" }")
            .file("keys/a", "k3y\r\n")
            .env("B", "k\u{1}y");
    assert!(
        setup.report().contains("accounts.b.api_key: contains the character U+0001"),
        "{}",
        setup.report()
    );
    let setup = setup.env("B", "12345");
    let accounts = setup.loaded().config.accounts;
    assert_eq!(accounts[&AccountName::new("a")].api_key.expose(), "k3y");
    assert_eq!(accounts[&AccountName::new("b")].api_key.expose(), "12345");

    let report = Setup::new(
        "[accounts.a]\napi_key = { file = \"none\" }\n[accounts.b]\napi_key = { env = \"NONE\" }\n\
         [accounts.c]\napi_key = { credential = \"c\" }\n[accounts.d]\napi_key = { credential = \"../c\" }\n\
         [accounts.e]\napi_key = { file = \"a\", env = \"b\" }\n[accounts.f]\napi_key = \"\"",
    )
    .report();
    for line in [
        "none cannot be read: No such file",
        "variable NONE is not set",
        "CREDENTIALS_DIRECTORY is not set (hint: systemd sets it by LoadCredential=c:/path; in a shell: export \
         CREDENTIALS_DIRECTORY=/directory/of/c)",
        "\"../c\" is not the name of a credential",
        "exactly one of file, env, credential",
        "accounts.f.api_key: is empty",
    ] {
        assert!(report.contains(line), "{line}\n{report}");
    }
}

#[test]
fn a_file_is_read_once_even_if_there_are_faults() {
    let setup = Setup::new(
        "[accounts.main]\napi_key = { file = \"pipe\" }\n[log]\nlevel = \"loud\"\n[store]\nverbose = 1\n",
    );
    let pipe = setup.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let writer = std::thread::spawn(move || std::fs::write(pipe, "k3y\n"));
    let (sender, faults) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(setup.faults()));
    let faults = faults.recv_timeout(Duration::from_secs(30)).expect("it does not wait for a second text");
    let keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(keys, ["store.verbose", "log.level"]);
    writer.join().unwrap().unwrap();
}

#[test]
fn a_wrong_secret_is_one_fault() {
    for key in ["secret", "secrets"] {
        for wrong in ["5", "{}", "[[]]"] {
            let faults =
                Setup::new(&format!("[subscribers.a]\nurl = \"https://a/\"\n{key} = {wrong}")).faults();
            let keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
            let expected = format!("subscribers.a.{key}");
            assert!(matches!(keys[..], [one] if one.starts_with(&expected)), "{key} = {wrong}: {faults:?}");
        }
    }
}

#[test]
fn the_environment_overrides_the_file() {
    let setup = Setup::new(&sound())
        .env("TRACKPOST__HTTP__LISTEN", "")
        .env("TRACKPOST__HTTP__TOKEN", "12345")
        .env("TRACKPOST__ACCOUNTS__MAIN__REQUESTS_PER_MINUTE", "20")
        .env("TRACKPOST__SUBSCRIBERS__ORDERS__ENABLED", "false")
        .env("TRACKPOST__SUBSCRIBERS__ORDERS__EVENTS", "[\"tracking.*\", \"system.*\"]")
        .env("TRACKPOST__CADENCE__SETTLE", "[\"6h\", \"1h\"]")
        .env("RUST_LOG", "debug")
        .env("STATE_DIRECTORY", "/var/lib/trackpost:/other");
    let config = setup.loaded().config;
    assert_eq!(config.http.listen, None);
    assert_eq!(config.http.token.map(|token| token.expose().clone()).as_deref(), Some("12345"));
    assert_eq!(config.accounts[&AccountName::new("main")].requests_per_minute, 20);
    let orders = &config.subscribers[&SubscriberName::new("orders")];
    assert!(!orders.enabled && orders.events.len() == 2);
    assert_eq!(config.cadence.settle, hours(&[1, 6]));
    assert_eq!(config.log.level, "debug");
    assert_eq!(config.store.path, PathBuf::from("/var/lib/trackpost/trackpost.db"));

    let setup = Setup::new(&sound())
        .env("TRACKPOST__STORE__PAHT", "x")
        .env("TRACKPOST__ACCOUNTS__MAIN__TIMEOUT", "30")
        .env("TRACKPOST__ACCOUNTS__MAIN__MAX_IN_FLIGHT", "many");
    let places: Vec<String> = setup.faults().into_iter().map(|fault| fault.place).collect();
    assert_eq!(
        places,
        [
            "TRACKPOST__STORE__PAHT",
            "TRACKPOST__ACCOUNTS__MAIN__MAX_IN_FLIGHT",
            "TRACKPOST__ACCOUNTS__MAIN__TIMEOUT"
        ]
    );
}

#[test]
fn an_open_listener_needs_a_token() {
    for (listen, token, sound) in [
        ("0.0.0.0:8787", "", false),
        ("0.0.0.0:8787", "t", true),
        ("192.168.1.1:1", "", false),
        ("[::1]:1", "", true),
        ("127.9.9.9:1", "", true),
        ("", "", true),
    ] {
        let report = Setup::new(&format!("[http]\nlisten = \"{listen}\"\ntoken = \"{token}\"")).report();
        assert_eq!(report.is_empty(), sound, "{listen} {token} {report}");
    }
}

#[test]
fn characters_around_a_key_are_removed_with_a_warning_and_inside_it_are_a_fault() {
    for (content, warned) in [
        ("TEST_0123456789\n", false),
        ("\u{feff}TEST_0123456789\n", true),
        ("TEST_0123456789 \r\n", true),
        ("\u{a0}TEST_0123456789\u{200b}", true),
        ("\"TEST_0123456789\"\n", true),
        (" '\u{feff}TEST_0123456789' ", true),
        ("\u{201c}TEST_0123456789\u{201d}", true),
    ] {
        let setup = Setup::new(&sound().replace("\"k3y\"", "{ file = \"key\" }")).file("key", content);
        let loaded = setup.loaded();
        let key = loaded.config.accounts[&AccountName::new("main")].api_key.expose().clone();
        assert_eq!(
            (key.as_str(), loaded.warnings.len()),
            ("TEST_0123456789", usize::from(warned)),
            "{content:?}"
        );
    }
    for (content, problem) in [
        ("TEST_01234\u{200b}56789", "contains the character U+200B at character 11"),
        ("TEST_01234 56789", "contains a space at character 11"),
        ("TEST_01234\n56789", "contains a line break at character 11"),
        ("\"TEST_01234", "contains a quotation mark at character 1"),
        ("\"TEST_01234\",", "contains a quotation mark at character 1"),
        ("TEST'0123", "contains a quotation mark at character 5"),
        ("TEST_01234,", "contains a comma at character 11"),
        ("TEST_\u{fc}", "contains the character U+00FC at character 6"),
        ("\u{feff}", "is empty"),
    ] {
        let report =
            Setup::new(&sound().replace("\"k3y\"", "{ file = \"key\" }")).file("key", content).report();
        assert!(report.contains(problem), "{content:?} {report}");
        assert!(!report.contains("01234"), "{report}");
    }
}

#[test]
fn values_that_may_be_secret_are_masked_under_any_key() {
    let key = "TEST_xKn5pQ8rT2vW4yZ6aB8cD0eF";
    for config in [
        format!("[subscribers.a]\nurl = \"{WHSEC}\"\nsecret = \"{WHSEC}\""),
        format!("[log]\nlevel = \"{key}\"\nformat = \"{key}\""),
        format!("[accounts.main]\napi_key = {{ env = \"{key}\" }}"),
        format!("[accounts.main]\napi_key = {{ file = \"{key}\" }}"),
        format!("[accounts.main]\napi_key = {{ credential = \"{key}\" }}"),
        format!("[accounts.main]\napi_key = {{ credential = \"a/{key}\" }}"),
        format!("[accounts.main]\nbase_url = \"{key}\"\ntracking_path = \"{key}\""),
        format!("[http]\nlisten = \"{key}\"\nhosts = [\"{key} \"]"),
        format!("[registration]\nfirst_poll = \"{key}\"\nlabels = [\"{key}\"]\nfiles = [\"*/{key}\"]"),
        format!("[accounts.main]\n\"{key}\" = 1"),
        format!("[\"{key}\"]"),
    ] {
        let report = Setup::new(&config).report();
        assert!(!report.is_empty(), "{config}");
        assert!(!report.contains("xKn5") && !report.contains("MfKQ"), "{config}\n{report}");
    }
    let setup = Setup::new(
        "[accounts.main]\napi_key = \"k\"\ntracking_path = \"/x?api_key=plain-s3cret\"\n[subscribers.a]\n",
    );
    assert!(setup.report().contains("/x?…") && !setup.report().contains("s3cret"), "{}", setup.report());
}

#[test]
fn every_fault_has_a_hint() {
    let setup = Setup::new(
        "[store]\nverbose = 1\n[log]\nlevel = \"verbose\"\n[accounts.main]\nulr = 1\n[cadence.it]\n[cadence.IT]\n\
         [cadence.DE]\n[cadence.sp]\n",
    );
    let report = setup.report();
    for fault in setup.faults() {
        assert!(fault.hint.is_some(), "{fault}");
    }
    assert!(report.contains("verbose: is not a known key (hint: valid here: path"), "{report}");
    assert!(report.contains("log.level = verbose: is not a log level (hint: valid here: "), "{report}");
    for end in ["DE", "sp"] {
        let line = format!("cadence.{end}: is not a known key (hint: polls of a label end with DE or SP;");
        assert!(report.contains(&line), "{report}");
    }
}

#[test]
fn an_unknown_section_is_a_fault() {
    let report = Setup::new("[acounts.main]\n").env("TRACKPOST__STOER__PATH", "x").report();
    assert!(report.contains("trackpost.toml: acounts: is not a known section"), "{report}");
    assert!(report.contains("did you mean \"accounts\"?"), "{report}");
    assert!(report.contains("TRACKPOST__STOER__PATH: stoer: is not a known section"), "{report}");
}
