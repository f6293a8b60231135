//! Subscribers and accounts, with their certificates, proxies and signatures.

use super::*;

#[test]
fn subscribers_and_accounts_as_configured() {
    let setup = Setup::new(&format!(
        "[accounts.main]\napi_key = \"k\"\nbase_url = \"http://127.0.0.1:9/api/\"\ntracking_path = \"/v1/labels/{{label_id}}/track\"\n\
         [subscribers.a]\nurl = \"http://8.8.8.8/x?t=1\"\nallow_insecure = true\nformat = \"standard\"\nsecrets = [\"{WHSEC}\", \"{WHSEC}\"]\n\
         [subscribers.b]\nurl = \"http://hooks.internal/\"\nsecret = \"{WHSEC}\"\naccounts = [\"main\"]\n\
         [subscribers.c]\nurl = \"http://10.0.0.1/\"\nsecret = \"{WHSEC}\"\n"
    ));
    let config = setup.loaded().config;
    let main = &config.accounts[&AccountName::new("main")];
    let label: LabelId = "se-1".parse().unwrap();
    assert_eq!(main.tracking_url(&label), "http://127.0.0.1:9/api/v1/labels/se-1/track");
    let a = &config.subscribers[&SubscriberName::new("a")];
    assert_eq!((a.shown_url.as_str(), a.format, a.secrets.len()), ("http://8.8.8.8/x", Format::Standard, 2));
    assert!(a.wants(MessageType::Updated, None) && !a.wants(MessageType::EventAdded, None));
    assert_eq!(config, setup.loaded().config, "two readings are equal");

    let report = Setup::new(
        "[subscribers.a]\nurl = \"https://a/\"\n[subscribers.b]\nurl = \"https://b/\"\nsecrets = []",
    )
    .report();
    assert!(report.contains("subscribers.a.secret: is missing"), "{report}");
    assert!(report.contains("subscribers.b.secrets: is empty"), "{report}");
}

/// A subscriber with `more` in its table, a certificate and its key in files.
fn connected(more: &str) -> Setup {
    let pair = rcgen::generate_simple_self_signed(vec!["trackpost".to_owned()]).unwrap();
    let other = rcgen::KeyPair::generate().unwrap();
    Setup::new(&format!("{}{more}\n", sound()))
        .file("a.pem", &pair.cert.pem())
        .file("a.key", &pair.signing_key.serialize_pem())
        .file("other.key", &other.serialize_pem())
        .file("noise.pem", "no certificate\n")
        .file("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
}

/// Asserts one fault of `key` that contains `problem` and no secret.
fn one_fault(setup: &Setup, key: &str, problem: &str) {
    let (faults, report) = (setup.faults(), setup.report());
    assert_eq!(faults.len(), 1, "{problem}: {report}");
    assert_eq!(faults[0].key, key, "{problem}: {report}");
    assert!(report.contains(problem) && !report.contains("s3cret"), "{problem}: {report}");
}

#[test]
fn certificates_and_keys_are_parsed() {
    let sound = "ca_file = \"a.pem\"\nclient_certificate = \"a.pem\"\nclient_key = ";
    for key in ["\"a.key\"", "{ file = \"a.key\" }"] {
        let config = connected(&format!("{sound}{key}")).loaded().config;
        let orders = &config.subscribers[&SubscriberName::new("orders")];
        assert_eq!(orders.roots.len(), 1);
        let identity = orders.identity.as_ref().unwrap();
        assert_eq!(identity.chain, orders.roots);
        assert!(format!("{config:?}").contains("key: (hidden)"));
    }
    for (more, key, problem) in [
        ("ca_file = \"none.pem\"", "ca_file", "none.pem cannot be read: No such file"),
        ("ca_file = \"noise.pem\"", "ca_file", "is not a file of certificates in PEM"),
        ("ca_file = \"a.key\"", "ca_file", "is not a file of certificates in PEM"),
        ("ca_file = \"broken.pem\"", "ca_file", "contains a certificate that cannot be read"),
        ("client_certificate = \"a.pem\"", "client_key", "is missing"),
        ("client_key = \"a.key\"", "client_certificate", "is missing"),
        (
            "client_certificate = \"a.pem\"\nclient_key = \"a.pem\"",
            "client_key",
            "is not a private key in PEM",
        ),
        ("client_certificate = \"a.pem\"\nclient_key = \"other.key\"", "client_key", "does not belong to"),
        (
            "client_certificate = \"a.pem\"\nclient_key = \"-----BEGIN s3cret\"",
            "client_key",
            "contains a key, but the path of a file is expected",
        ),
    ] {
        one_fault(&connected(more), &format!("subscribers.orders.{key}"), problem);
    }
}

#[test]
fn a_proxy_is_a_url_or_that_of_the_environment() {
    let proxies = |setup: Setup| {
        let config = setup.loaded().config;
        assert!(!format!("{config:?}").contains("s3cret"));
        let proxies = config.subscribers[&SubscriberName::new("orders")].proxies.clone();
        let of = |proxy: Option<Hidden<String>>| proxy.map(|url| url.expose().clone()).unwrap_or_default();
        [of(proxies.http), of(proxies.https), proxies.except]
    };
    let environment = |setup: Setup| {
        setup.env("https_proxy", "http://me:s3cret@b:1").env("ALL_PROXY", "c:3").env("NO_PROXY", "x.example")
    };
    assert_eq!(proxies(environment(connected(""))), ["", "", ""], "no proxy unless configured");
    assert_eq!(proxies(environment(connected("proxy = \"\""))), ["", "", ""]);
    let of_environment = environment(connected("proxy = \"environment\""));
    assert_eq!(proxies(of_environment), ["http://c:3", "http://me:s3cret@b:1", "x.example"]);
    assert_eq!(proxies(connected("proxy = \"environment\"")), ["", "", ""]);
    let url = "http://me:s3cret@proxy:3128";
    assert_eq!(proxies(connected(&format!("proxy = \"{url}\""))), [url, url, ""]);
    let secret = connected("proxy = { env = \"PROXY\" }").env("PROXY", url);
    assert_eq!(proxies(secret), [url, url, ""]);

    for (proxy, problem) in [
        ("socks5://me:s3cret@a:1", "is not an http or https URL"),
        ("me:s3cret@a", "is not"),
        ("s3cret", "is not"),
        ("http://me:s3cret@169.254.1.1:1", "169.254.1.1 is a link-local address"),
    ] {
        let report = connected(&format!("proxy = \"{proxy}\"")).report();
        assert!(report.contains(problem) && !report.contains("s3cret"), "{report}");
    }
    let report = connected("proxy = \"environment\"")
        .env("HTTP_PROXY", "http://me:s3cret@[::ffff:169.254.1.1]")
        .report();
    assert!(report.contains("HTTP_PROXY has an address") && !report.contains("s3cret"), "{report}");
}

/// A subscriber with `more` in its table, below `signing`, with the keys of `tests/keys` in files.
fn signing(signing: &str, more: &str) -> Setup {
    Setup::new(&format!("[signing]\n{signing}\n{}{more}\n", sound()))
        .file("a.pem", RSA_KEY)
        .file("a.pkcs1.pem", include_str!("../../../tests/keys/a.pkcs1.pem"))
        .file("b.pem", include_str!("../../../tests/keys/b.pem"))
        .file("short.pem", include_str!("../../../tests/keys/short.pem"))
        .file("long.pem", include_str!("../../../tests/keys/long.pem"))
        .file("curve.pem", include_str!("../../../tests/keys/curve.pem"))
        .file("locked.pem", include_str!("../../../tests/keys/locked.pem"))
}

#[test]
fn the_first_rsa_key_signs_for_subscribers_that_use_it() {
    let keys = |signing: Setup| {
        let config = signing.loaded().config;
        let signs = config.subscribers[&SubscriberName::new("orders")].rsa_key.clone();
        (config.rsa_keys, signs)
    };
    let (all, signs) = keys(signing("rsa_key = { file = \"a.pem\" }", ""));
    assert_eq!((all.len(), signs), (1, None));
    let one = all[0].clone();
    for key in ["rsa_key = { file = \"a.pkcs1.pem\" }".to_owned(), format!("rsa_key = \"\"\"{RSA_KEY}\"\"\"")]
    {
        let (all, signs) = keys(signing(&key, "rsa_signature = true"));
        assert_eq!((all.as_slice(), signs.as_ref()), (&[one.clone()][..], Some(&one)));
    }
    let (all, signs) =
        keys(signing("rsa_keys = [{ file = \"b.pem\" }, { file = \"a.pem\" }]", "rsa_signature = true"));
    assert_eq!((&all[1], signs.as_ref()), (&one, Some(&all[0])));
    assert_ne!(all[0], one);
}

#[test]
fn an_unusable_rsa_key_is_a_fault() {
    let file = |name: &str| format!("rsa_key = {{ file = \"{name}\" }}");
    let make = "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048";
    for (key, problem, hint) in [
        (file("short.pem"), "is an RSA key of less than 2048 bits", make),
        (file("long.pem"), "is an RSA key of more than 4096 bits", make),
        (file("curve.pem"), "is not an RSA key", make),
        (file("locked.pem"), "is an encrypted private key", "openssl pkey -in"),
        (file("trackpost.toml"), "is not a private key in PEM", "{ file ="),
        ("rsa_key = \"a.pem\"".to_owned(), "is not a private key in PEM", "{ file = \"rsa.pem\" }"),
        (file("none.pem"), "none.pem cannot be read: No such file", ""),
        ("rsa_key = { env = \"NONE\" }".to_owned(), "the environment variable NONE is not set", ""),
    ] {
        let faults = signing(&key, "rsa_signature = true").faults();
        assert_eq!(faults.len(), 1, "{key}: {faults:?}");
        assert_eq!(faults[0].key.split_once("rsa_key").map(|(before, _)| before), Some("signing."), "{key}");
        let fault = faults[0].to_string();
        assert!(fault.contains(problem) && fault.contains(hint), "{key}: {fault}");
        assert!(!fault.contains("PRIVATE KEY"), "{fault}");
    }
    let twice = signing("rsa_keys = [{ file = \"a.pem\" }, { file = \"a.pkcs1.pem\" }]", "").report();
    assert!(twice.contains("signing.rsa_keys[1]: is given twice"), "{twice}");
    let both = signing("rsa_key = { file = \"a.pem\" }\nrsa_keys = []", "").report();
    assert!(both.contains("signing.rsa_key: is set in two ways"), "{both}");
    for none in ["", "rsa_keys = []"] {
        let report = signing(none, "rsa_signature = true").report();
        assert!(report.contains("subscribers.orders.rsa_signature = true: needs a key"), "{report}");
    }
}

#[test]
fn a_plain_hmac_header_may_have_any_unused_name() {
    let own = "headers = { X-Own = \"1\" }\n";
    let with = |header: &str| signing("", &format!("{own}hmac_header = {header}"));
    let config = with("{ name = \"X-Signature\", prefix = \"\", secret = \"hm4c-s3cret\" }").loaded().config;
    assert!(!format!("{config:?}").contains("s3cret"));
    let header = config.subscribers[&SubscriberName::new("orders")].hmac_header.clone().unwrap();
    assert_eq!((header.name.as_str(), header.prefix.as_str()), ("X-Signature", ""));
    for (header, key, problem) in [
        ("{ name = \"webhook-signature\", secret = \"s3cret\" }", "name", "is a header that trackpost sets"),
        ("{ name = \"Connection\", secret = \"s3cret\" }", "name", "is a header that trackpost sets"),
        ("{ name = \"X-ShipEngine-Timestamp\", secret = \"s3cret\" }", "name", "is a header that trackpost"),
        ("{ name = \"x-own\", secret = \"s3cret\" }", "name", "is one of the subscriber's own headers"),
        ("{ name = \"a b\", secret = \"s3cret\" }", "name", "is not a valid name of a header"),
        ("{ secret = \"s3cret\" }", "name", "is missing"),
        ("{ name = \"x\" }", "secret", "is missing"),
        ("{ name = \"x\", secret = \"\" }", "secret", "is empty"),
        ("{ name = \"x\", secret = \"s3cret\", prefix = \" v\" }", "prefix", "not allowed in a header"),
        ("{ name = \"x\", secrte = \"s3cret\", secret = \"s3cret\" }", "secrte", "did you mean \"secret\""),
    ] {
        one_fault(&with(header), &format!("subscribers.orders.hmac_header.{key}"), problem);
    }
}

#[test]
fn an_account_may_have_its_own_proxy_or_none() {
    let account = |more: &str| {
        let text = sound().replace("api_key", &format!("{more}\napi_key"));
        let setup = Setup::new(&text).env("HTTPS_PROXY", "http://me:s3cret@b:1");
        let config = setup.loaded().config;
        assert!(!format!("{config:?}").contains("s3cret"));
        config.accounts[&AccountName::new("main")].proxies.https.as_ref().map(|url| url.expose().clone())
    };
    assert_eq!(account(""), None);
    assert_eq!(account("proxy = \"\""), None);
    assert_eq!(account("proxy = \"environment\"").as_deref(), Some("http://me:s3cret@b:1"));
    assert_eq!(account("proxy = \"http://c:2\"").as_deref(), Some("http://c:2"));
}

#[test]
fn a_forbidden_address_is_a_warning() {
    let setup =
        Setup::new(&sound().replace("https://example.com/h", "http://u:s3cret@169.254.169.254/?t=s3cret"));
    let warnings: Vec<String> = setup.loaded().warnings.iter().map(Fault::to_string).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("cloud metadata address") && !warnings[0].contains("s3cret"),
        "{warnings:?}"
    );
}

#[test]
fn commands_on_the_database_need_no_secrets() {
    let away = "{ credential = \"away\" }";
    let setup = signing(
        &format!("rsa_keys = [{away}, {away}]"),
        &format!(
            "rsa_signature = true\nhmac_header = {{ name = \"x\", secret = {away} }}\nproxy = {away}\n\
             client_certificate = \"away.pem\"\nclient_key = {away}\n"
        ),
    );
    let loaded = Config::load_beside(&setup.path("trackpost.toml"), &Environment::default());
    assert!(loaded.is_ok(), "{loaded:?}");
    assert!(setup.load().is_err());
}

#[test]
fn reading_commands_omit_accounts_and_subscribers_with_faults() {
    let setup = Setup::new(&format!(
        "{}[accounts.main.discover]\ninterval = \"soon\"\n[accounts.mai]\napi_key = \"k\"\n[accounts]\nx = 1\n\
         [subscribers.b]\nurl = \"b\"\nsecret = \"{WHSEC}\"\n[subscribers.order]\nurl = \"https://example.com/h\"\n\
         secret = \"{WHSEC}\"\n[log]\nformat = \"x\"\n",
        sound().replace("[subscribers.orders]", "[subscribers.orders]\nretry = []")
    ));
    let (loaded, faults) =
        Config::load_to_read(&setup.path("trackpost.toml"), &Environment::default()).unwrap();
    assert_eq!(faults.unwrap().faults.len(), 5);
    assert_eq!(loaded.config.account_names(), [AccountName::new("mai")]);
    let subscribers: Vec<_> = loaded.config.subscribers.keys().map(SubscriberName::as_str).collect();
    assert_eq!(subscribers, ["order"]);
    assert_eq!(loaded.config.log.format, LogFormat::Auto);
    assert_eq!(loaded.warnings, []);
}

#[test]
fn an_api_key_needs_https_except_to_private_addresses() {
    let with = |url: &str, more: &str| {
        Setup::new(&sound().replace("api_key", &format!("base_url = \"{url}\"\n{more}\napi_key")))
    };
    for url in ["http://8.8.8.8", "http://[2001:4860:4860::8888]:80/api"] {
        let report = with(url, "").report();
        assert!(report.contains("base_url") && report.contains("allow_insecure = true"), "{url} {report}");
        assert!(
            with(url, "allow_insecure = true").loaded().config.accounts[&AccountName::new("main")]
                .allow_insecure
        );
    }
    for url in ["https://8.8.8.8", "http://127.0.0.1:1", "http://10.1.2.3", "http://shipstation.internal"] {
        assert_eq!(with(url, "").loaded().warnings, [], "{url}");
    }
    for (url, warning) in [
        ("https://api.shipstation.com/v2", "ends with a version"),
        ("https://api.shipengine.com/v1/", "ends with a version"),
        ("http://api.shipstation.com", "others on the network can read the API key"),
        ("http://169.254.1.1", "is always refused"),
        ("http://[fe80::1]", "is always refused"),
    ] {
        let warnings = with(url, "").loaded().warnings;
        assert!(warnings.len() == 1 && warnings[0].to_string().contains(warning), "{url} {warnings:?}");
        assert!(warnings[0].hint.is_some());
    }
}

#[test]
fn further_names_of_the_page_are_hosts() {
    let hosts = |hosts: &str| Setup::new(&format!("{}[http]\nhosts = {hosts}\n", sound()));
    let config = hosts("[\"Trackpost.example.com\", \"10.0.0.1:8787\", \"[::1]:80\"]").loaded().config;
    assert_eq!(config.http.hosts, ["trackpost.example.com", "10.0.0.1:8787", "[::1]:80"]);
    for wrong in ["[\"http://a\"]", "[\"\"]", "[\"a/b\"]", "[\"a b\"]", "[\"u@a\"]", "\"a\"", "[1]"] {
        assert!(hosts(wrong).report().contains("http.hosts"), "{wrong}");
    }
}
