//! Status page: contents, access, and escaping of text from outside (contract 9.3).

use serde_json::json;
use trackpost::sandbox::{Answer, SandboxOptions};

use crate::harness::child::Site;
use crate::harness::parcel::in_transit;
use crate::harness::server::Server;
use crate::harness::{Harness, hours};

const BROWSER: &str = "accept: text/html\r\n";

#[tokio::test]
async fn the_page_of_an_empty_daemon_shows_the_next_step() {
    let harness = Harness::with("").await;
    let server = Server::with(&harness, None, Default::default()).await;
    let page = server.ok("/").await;
    for said in [
        "Nothing needs attention",
        "The configuration has no accounts",
        "trackpost labels add",
        "trackpost listen",
    ] {
        assert!(page.contains(said), "{said}: {page}");
    }
}

#[tokio::test]
async fn the_pages_lead_from_the_search_to_the_attempts_of_a_parcel() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1", "se-2"]).await;
    harness.says("se-1", &in_transit());
    harness.poll_and_deliver().await;
    let server = Server::of(&harness, None).await;
    // A search with one result shows that label at once. Metadata matches both labels.
    let (status, head, _) = server.get_with("/?find=SE-1", BROWSER).await;
    assert_eq!(status, 303);
    assert!(head.contains("location: /labels/se-1?account=main"), "{head}");
    let list = server.ok("/?find=a-1001").await;
    assert!(
        list.contains("/labels/se-1?account=main") && list.contains("/labels/se-2?account=main"),
        "{list}"
    );
    assert!(server.ok("/?state=active").await.contains("se-2"));
    assert!(server.ok("/?find=nothing+like+it").await.contains("No label matches"));
    let label = server.ok("/labels/se-1").await;
    for expected in
        ["Next poll", "row IT of the cadence", "Timeline", "tracking.event.added", "orders", "1 attempt"]
    {
        assert!(label.contains(expected), "{expected}: {label}");
    }
    let id = harness.callbacks("orders")[0].message_id.clone().unwrap();
    let message = server.ok(&format!("/messages/{id}")).await;
    assert!(
        message.contains("To <a href=\"/subscribers/orders\"") && message.contains("delivered"),
        "{message}"
    );
    assert!(server.ok("/subscribers/orders").await.contains("No pending deliveries"));
}

#[tokio::test]
async fn unknown_ids_get_pages_with_help() {
    let harness = Harness::new().await;
    let server = Server::of(&harness, None).await;
    for (target, help) in [
        ("/labels/se-9", "trackpost labels add se-9"),
        ("/messages/msg_none", "does not exist. Messages are pruned"),
        ("/subscribers/nobody", "is not configured"),
        ("/nowhere", "The overview"),
        ("/labels/%3Cscript%3E", "&lt;script&gt;"),
    ] {
        let (status, _, body) = server.get_with(target, BROWSER).await;
        assert_eq!(status, 404, "{target}");
        assert!(body.contains(help), "{target}: {body}");
    }
    let (status, head, _) = server.get_with("/nowhere", "").await;
    assert!(status == 404 && head.contains("application/json"), "{head}");
}

#[tokio::test]
async fn scripts_in_every_field_stay_text() {
    let evil = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>";
    let event = |description: String| {
        json!({
            "occurred_at": evil, "carrier_occurred_at": evil, "description": description, "city_locality": evil,
            "state_province": evil, "postal_code": evil, "country_code": evil, "company_name": evil, "signer": evil,
            "event_code": evil, "carrier_detail_code": evil, "status_code": evil, "status_description": evil,
            "status_detail_code": evil, "status_detail_description": evil, "latitude": evil, "longitude": evil, evil: evil,
        })
    };
    let answer = |description: &str| {
        json!({
            "tracking_number": evil, "carrier_code": evil, "status_code": "IT", "status_description": evil,
            "status_detail_code": evil, "estimated_delivery_date": evil, "ship_date": evil, evil: evil,
            "events": [event(format!("{evil}{description}"))],
        })
        .to_string()
    };
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &answer(""));
    harness.poll_and_deliver().await;
    harness.says("se-1", &answer("once more"));
    harness.pass(hours(5));
    harness.receiver.answer_always(Answer::json(500, evil.to_owned()));
    harness.poll_and_deliver().await;
    harness.answers("se-1", Answer::json(500, evil.to_owned()));
    harness.pass(hours(9));
    harness.poll().await;
    let server = Server::of(&harness, None).await;
    let id = harness.callbacks("orders")[0].message_id.clone().unwrap();
    let message = format!("/messages/{id}");
    let search = format!(
        "/?find={}",
        evil.replace(' ', "+").replace('<', "%3C").replace('>', "%3E").replace('"', "%22")
    );
    let mut escaped = 0;
    for target in ["/", "/labels/se-1", "/subscribers/orders", &message, &search, "/?state=%3Cscript%3E"] {
        let (_, head, body) = server.get_with(target, BROWSER).await;
        let body = body.replace("<script>for (const", "");
        assert!(!body.contains("<script>") && !body.contains("<img"), "{target}: {body}");
        assert!(!body.contains("\"'>"), "{target}: {body}");
        assert!(!head.contains("<script>"), "{head}");
        escaped += body.matches("&lt;script&gt;").count();
    }
    assert!(escaped > 10, "{escaped}");
}

#[tokio::test]
async fn only_the_label_page_has_personal_data() {
    let answer = json!({
        "tracking_number": "1Z", "carrier_code": "ups", "status_code": "DE", "status_description": "Delivered",
        "events": [{"occurred_at": "2030-03-04T10:00:00Z", "description": "Delivered", "city_locality": "Kleinkleckersdorf",
            "postal_code": "QX9 8ZZ", "signer": "Frau Mustermann", "status_code": "DE"}],
    });
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &answer.to_string());
    harness.poll_and_deliver().await;
    let server = Server::of(&harness, None).await;
    let label = server.ok("/labels/se-1").await;
    assert!(label.contains("Kleinkleckersdorf") && label.contains("Frau Mustermann"), "{label}");
    let id = harness.callbacks("orders")[0].message_id.clone().unwrap();
    for target in
        ["/", "/?state=finished", "/subscribers/orders", &format!("/messages/{id}"), "/metrics", "/healthz"]
    {
        let page = server.ok(target).await;
        for personal in ["Kleinkleckersdorf", "QX9 8ZZ", "Mustermann"] {
            assert!(!page.contains(personal), "{target}: {page}");
        }
    }
}

#[tokio::test]
async fn security_headers_restrict_every_page() {
    let harness = Harness::new().await;
    let server = Server::of(&harness, None).await;
    let (_, head, body) = server.get_with("/", &format!("{BROWSER}origin: https://evil.example\r\n")).await;
    for line in [
        "content-security-policy: default-src 'none'; style-src 'sha256-",
        "frame-ancestors 'none'",
        "x-frame-options: deny",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "cache-control: no-store",
    ] {
        assert!(head.to_lowercase().contains(line), "{line}: {head}");
    }
    assert!(!head.to_lowercase().contains("access-control"), "{head}");
    assert!(
        !body.contains("http://") && !body.contains("https://") && !body.contains(" style="),
        "no resource of another origin"
    );
    let (status, ..) = server.get_host("/", "evil.example").await;
    assert_eq!(status, 421);
}

#[tokio::test]
async fn with_a_token_a_browser_logs_in_by_a_cookie() {
    let harness = Harness::new().await;
    let server = Server::of(&harness, Some("open sesame")).await;
    for target in ["/", "/labels/se-1", "/subscribers/orders", "/messages/msg_a", "/?find=a"] {
        let (status, _, body) = server.get_with(target, BROWSER).await;
        assert_eq!(status, 401, "{target}");
        assert!(body.contains("type=\"password\"") && !body.contains("Overview</h1>"), "{target}: {body}");
    }
    let (status, head, _) = server.get_with("/metrics", "").await;
    assert!(status == 401 && head.contains("application/json"), "{head}");
    let (status, ..) = server.get_with("/metrics", "authorization: Bearer open sesame\r\n").await;
    assert_eq!(status, 200);
    let (status, head, _) = server.post("/login", "token=wrong&to=%2F").await;
    assert!(status == 401 && !head.contains("set-cookie"), "{head}");
    for (to, leads) in [
        ("%2Flabels%2Fse-1", "/labels/se-1"),
        ("%2F%2Fevil.example", "/"),
        ("https%3A%2F%2Fevil", "/"),
        ("%2F%5Cevil", "/"),
    ] {
        let (status, head, _) = server.post("/login", &format!("token=open+sesame&to={to}")).await;
        assert!(status == 303 && head.contains(&format!("location: {leads}\r\n")), "{to}: {head}");
        let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
        assert!(
            cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && !cookie.contains("sesame"),
            "{cookie}"
        );
        let cookie = cookie.split(';').next().unwrap();
        assert_eq!(server.get_with("/", &format!("cookie: {cookie}\r\n")).await.0, 200);
        assert_eq!(server.get_with("/", &format!("cookie: {cookie}0\r\n")).await.0, 401);
    }
}

#[tokio::test]
async fn the_daemon_shows_its_accounts_and_subscribers() {
    let site = Site::new(SandboxOptions::default()).await;
    site.sandbox.script("se-1", Answer::json(200, in_transit()));
    let addr = site.listen("[\"se-1\"]", "");
    let daemon = site.start();
    site.received(|counts| counts.accepted == 3).await;
    let server = Server::at(addr);
    let page = server.ok("/").await;
    for expected in
        ["Forecast", "of 60\u{202f}000", "orders", "/?state=active", "<svg", "Polls with a change"]
    {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    assert!(server.ok("/labels/se-1").await.contains("row IT of the cadence"));
    assert!(server.ok("/subscribers/orders").await.contains("accepted"));
    daemon.stop().await;
    site.inspect();
}
