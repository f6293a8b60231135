//! Examples of each command, some after a note, for its help and for the manual page.

macro_rules! examples {
    ($($name:ident $(($note:literal))?: $first:literal $(, $more:literal)+;)*) => {
        $(pub const $name: &str = concat!($($note, "\n\n",)? "Examples:\n  ", $first $(, "\n  ", $more)+);)*
    };
}

examples! {
    TRACKPOST: "trackpost demo", "trackpost init --sandbox", "trackpost status";
    INIT("Existing files are not overwritten."):
        "trackpost init", "trackpost init --sandbox";
    RUN: "trackpost run", "RUST_LOG=debug trackpost run --config ./trackpost.toml";
    RELOAD: "trackpost reload", "trackpost reload --config ./trackpost.toml";
    CHECK: "trackpost check", "trackpost check --online";
    DEMO: "trackpost demo", "trackpost demo --parcels 50 --seconds 60 --keep ./demo";
    SANDBOX: "trackpost sandbox --listen 127.0.0.1:9786 --time-factor 3600",
        "trackpost sandbox --parcels 100 --fail 500:5% --slow 2s:1%";
    LISTEN: "trackpost listen --secret $SECRET", "trackpost listen --status 503 --json";
    VERIFY: "trackpost verify --secret $SECRET -H 'webhook-id:msg_1' -H 'webhook-timestamp:1790000000' body.json",
        "trackpost verify --jwks keys.json -H 'x-shipengine-timestamp:2026-11-27T10:00:00Z' < body.json";
    LABELS: "trackpost labels list --state active", "trackpost labels add se-324658";
    LABELS_LIST: "trackpost labels list --find A-1001",
        "trackpost labels list --json > labels.jsonl; trackpost labels add - < labels.jsonl";
    LABELS_SHOW: "trackpost labels show se-324658", "trackpost labels show 1Z9999W99999999999 --json";
    LABELS_ADD: "trackpost labels add se-324658 se-324659", "trackpost labels add - < orders.csv";
    LABELS_REMOVE: "trackpost labels remove se-324658", "trackpost labels remove --account main se-324658 se-324659";
    LABELS_POLL: "trackpost labels poll se-324658", "trackpost labels poll --wait se-324658 se-324659";
    HISTORY: "trackpost history se-324658", "trackpost history --journeys > own.jsonl";
    EXPLAIN: "trackpost explain se-324658", "trackpost explain 1Z9999W99999999999 --json";
    DELIVERIES: "trackpost deliveries list --state pending", "trackpost deliveries show 5";
    DELIVERIES_LIST: "trackpost deliveries list --since yesterday --type tracking.delivered",
        "trackpost deliveries list --subscriber orders --limit 20 --watch";
    DELIVERIES_SHOW: "trackpost deliveries show dlv_5", "trackpost deliveries show 5 --json";
    DELIVERIES_RETRY: "trackpost deliveries retry dlv_5 dlv_6", "trackpost deliveries retry 5";
    STATUS: "trackpost status", "trackpost status --json";
    ACCOUNTS: "trackpost accounts list", "trackpost accounts list --json";
    ACCOUNTS_LIST: "trackpost accounts list", "trackpost accounts list --json";
    SUBSCRIBERS: "trackpost subscribers list", "trackpost subscribers ping orders";
    SUBSCRIBERS_LIST: "trackpost subscribers list", "trackpost subscribers list --json";
    SUBSCRIBERS_PING: "trackpost subscribers ping orders",
        "trackpost subscribers ping orders --config ./trackpost.toml";
    SUBSCRIBERS_PAUSE: "trackpost subscribers pause orders",
        "trackpost subscribers pause orders --config ./trackpost.toml";
    SUBSCRIBERS_RESUME: "trackpost subscribers resume orders",
        "trackpost subscribers resume orders --config ./trackpost.toml";
    REPLAY("The webhook-id and the body stay the same; the signature is new. Within a label, replayed messages go before waiting ones."):
        "trackpost replay --subscriber orders --since 2d --dry-run",
        "trackpost replay --subscriber orders --since 2026-11-26 --until 2026-11-27 --rate 20";
    BACKUP("The daemon keeps running. The copy is verified, only its owner can read it, and no file is overwritten."):
        "trackpost backup /var/backups/trackpost.db", "trackpost backup ./trackpost-today.db";
    SIMULATE("Without --journeys and --generate, 2,000 journeys are generated. Without --policy, default, hourly and fixed:2h are compared."):
        "trackpost simulate --generate 1000 --policy default --policy fixed:2h",
        "trackpost simulate --journeys own.jsonl --policy ./trackpost.toml";
    JWKS: "trackpost jwks", "trackpost jwks > keys.json";
    COMPLETIONS: "trackpost completions bash > /etc/bash_completion.d/trackpost",
        "trackpost completions fish > ~/.config/fish/completions/trackpost.fish";
    MAN: "trackpost man | man -l -", "trackpost man > /usr/local/share/man/man1/trackpost.1";
}
