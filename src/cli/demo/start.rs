//! Starts the demo: sandbox and receiver on free ports, a directory with a configuration, and the real daemon.

use std::net::{Ipv4Addr, SocketAddr};

use super::super::{Failure, args};
use super::directory::{self, Directory};
use super::plan::DemoPlan;
use super::settings::{self, Addresses, EVERYTHING, SHOP};
use crate::clock;
use crate::config::{Config, Environment};
use crate::daemon::{Daemon, DaemonError, Signals};
use crate::domain::label::AccountName;
use crate::domain::messages::signature::SigningSecret;
use crate::sandbox::ledger::{DeliveryRow, Follows, Rows, Violation, audit};
use crate::sandbox::{Receiver, ReceiverHandle, ReceiverOptions, Sandbox, SandboxHandle, SandboxOptions};
use crate::store::Store;

/// Rate limit of the sandbox: more than the demo needs.
const RATE_LIMIT: u32 = 60_000;

/// The running servers.
pub struct Servers {
    pub sandbox: Sandbox,
    pub receiver: Receiver,
    pub daemon: Daemon,
}

/// Handles to the running servers.
pub struct DemoHandles {
    pub plan: DemoPlan,
    pub directory: Directory,
    pub account: AccountName,
    pub store: Store,
    pub sandbox: SandboxHandle,
    pub receiver: ReceiverHandle,
    pub sandbox_url: String,
    pub receiver_url: String,
    pub health_url: Option<String>,
}

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub async fn start(args: &args::Demo, signals: Signals) -> Result<(DemoHandles, Servers), Failure> {
    let plan = DemoPlan::new(args, clock::now())?;
    let directory = Directory::open(args.keep.as_deref())?;
    let api_key = format!("demo-{:016x}", u64::from_be_bytes(clock::random_bytes()));
    let secret = SigningSecret::encode(&clock::random_bytes::<32>());
    let receiver = Receiver::bind(LOOPBACK, receiver(&secret)?).await?;
    let sandbox = Sandbox::bind(LOOPBACK, sandbox(&plan, &api_key)).await?;
    let (sandbox_url, receiver_url) = (sandbox.base_url(), receiver.url());
    let addresses = Addresses {
        database: &directory.file(directory::DATABASE),
        base_url: &sandbox_url,
        api_key: &api_key,
        receiver: &receiver_url,
        secret: &secret,
    };
    directory.write(directory::LABELS, &settings::labels(&plan.parcels))?;
    let path = directory.write(directory::CONFIG, &settings::config(&plan, &addresses))?;
    // The real environment is not used, so the demo never reaches a real account.
    let environment = Environment::default();
    let loaded = Config::load(&path, &environment).map_err(DaemonError::from)?;
    let account = loaded.config.account_names().into_iter().next();
    let account = account.ok_or_else(|| Failure::new("the demo's configuration has no account"))?;
    let handle = sandbox.handle();
    // The parcels start now, not when the sandbox opened.
    for parcel in &plan.parcels {
        handle.create_on(&parcel.label, parcel.journey, parcel.carrier);
    }
    let daemon = Daemon::start(path, environment, loaded, signals).await?;
    let handles = DemoHandles {
        directory,
        account,
        store: daemon.store().clone(),
        sandbox: handle,
        receiver: receiver.handle(),
        sandbox_url,
        receiver_url,
        health_url: daemon.http_addr().map(|addr| format!("http://{addr}/healthz")),
        plan,
    };
    Ok((handles, Servers { sandbox, receiver, daemon }))
}

fn receiver(secret: &str) -> Result<ReceiverOptions, Failure> {
    Ok(ReceiverOptions {
        secrets: vec![SigningSecret::parse(secret)?],
        // The ledger keeps the facts that the audit needs.
        keep: 1,
        ..ReceiverOptions::default()
    })
}

fn sandbox(plan: &DemoPlan, api_key: &str) -> SandboxOptions {
    SandboxOptions {
        api_keys: vec![api_key.to_owned()],
        rate_limit: Some(RATE_LIMIT),
        auto: false,
        seed: plan.seed,
        time_factor: plan.factor,
        start: Some(plan.start),
        ..SandboxOptions::default()
    }
}

impl DemoHandles {
    /// Returns the recorded deliveries and events.
    pub async fn rows(&self) -> Result<Rows, Failure> {
        let expected = self.store.expected_deliveries().await?.into_iter();
        let deliveries = expected
            .map(|expected| DeliveryRow { subscriber: expected.subscriber, message_id: expected.message_id });
        Ok(Rows { deliveries: deliveries.collect(), events: None })
    }

    /// Returns all violations. The demo kills nothing, so a message accepted twice counts as duplicated.
    pub fn audit(&self, rows: &Rows) -> Vec<Violation> {
        let (served, accepted) = (self.sandbox.served(), self.receiver.accepted());
        let subscribers = [(EVERYTHING, Follows::Events), (SHOP, Follows::Answers)];
        let mut found = audit(&served, &accepted, &subscribers, Some(rows), Some(RATE_LIMIT as usize));
        found.extend(accepted.repetitions());
        found
    }
}
