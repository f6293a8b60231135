//! Sets the stage: sandbox and receiver on free ports, a folder with a configuration, and the real daemon over it.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::Value;
use tokio::sync::mpsc;

use super::super::{Failure, args};
use super::folder::{self, Folder};
use super::plan::Plan;
use super::settings::{self, Addresses};
use super::verdict::Truth;
use crate::clock;
use crate::config::{Config, Environment};
use crate::daemon::{Daemon, DaemonError, Signals};
use crate::domain::label::AccountName;
use crate::domain::messages::signature::SigningSecret;
use crate::sandbox::{
    Answer, Delivery, Receiver, ReceiverHandle, ReceiverOptions, Sandbox, SandboxHandle, SandboxOptions,
};
use crate::store::Store;

/// What the sandbox allows in a minute: more than the demo needs, but a limit.
const RATE_LIMIT: u32 = 60_000;

/// What runs.
pub struct Servers {
    pub sandbox: Sandbox,
    pub receiver: Receiver,
    pub daemon: Daemon,
}

/// What the play is steered and watched by.
pub struct Stage {
    pub plan: Plan,
    pub folder: Folder,
    pub account: AccountName,
    pub store: Store,
    pub sandbox: SandboxHandle,
    pub receiver: ReceiverHandle,
    pub callbacks: mpsc::UnboundedReceiver<Delivery>,
    pub sandbox_url: String,
    pub receiver_url: String,
    pub health_url: Option<String>,
}

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub async fn set(what: &args::Demo, signals: Signals) -> Result<(Stage, Servers), Failure> {
    let plan = Plan::new(what, clock::now())?;
    let folder = Folder::open(what.keep.as_deref())?;
    let api_key = format!("demo-{:016x}", u64::from_be_bytes(clock::random_bytes()));
    let secret = SigningSecret::encode(&clock::random_bytes::<32>());
    let (watch, callbacks) = mpsc::unbounded_channel();
    let receiver = Receiver::bind(LOOPBACK, receiver(&secret, watch)?).await?;
    let sandbox = Sandbox::bind(LOOPBACK, sandbox(&plan, &api_key)).await?;
    let (sandbox_url, receiver_url) = (sandbox.base_url(), receiver.url());
    let addresses = Addresses {
        database: &folder.file(folder::DATABASE),
        base_url: &sandbox_url,
        api_key: &api_key,
        receiver: &receiver_url,
        secret: &secret,
    };
    folder.write(folder::LABELS, &settings::labels(&plan.cast))?;
    let path = folder.write(folder::CONFIG, &settings::config(&plan, &addresses))?;
    // Nothing of the real environment: a demo must not meet somebody's accounts.
    let environment = Environment::default();
    let loaded = Config::load(&path, &environment).map_err(DaemonError::from)?;
    let account = loaded.config.account_names().into_iter().next();
    let account = account.ok_or_else(|| Failure::new("the demo's configuration has no account"))?;
    let handle = sandbox.handle();
    // They set out now, not when the sandbox opened.
    for cast in &plan.cast {
        handle.create_on(&cast.label, cast.journey, cast.carrier);
    }
    let daemon = Daemon::start(path, environment, loaded, signals).await?;
    let stage = Stage {
        folder,
        account,
        store: daemon.store().clone(),
        sandbox: handle,
        receiver: receiver.handle(),
        callbacks,
        sandbox_url,
        receiver_url,
        health_url: daemon.http_addr().map(|addr| format!("http://{addr}/healthz")),
        plan,
    };
    Ok((stage, Servers { sandbox, receiver, daemon }))
}

fn receiver(secret: &str, watch: mpsc::UnboundedSender<Delivery>) -> Result<ReceiverOptions, Failure> {
    Ok(ReceiverOptions {
        secrets: vec![SigningSecret::parse(secret)?],
        answer: Answer::status(200),
        // The book keeps what is needed of them.
        keep: 1,
        watch: Some(watch),
        ..ReceiverOptions::default()
    })
}

fn sandbox(plan: &Plan, api_key: &str) -> SandboxOptions {
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

impl Stage {
    /// What the API has to say of each parcel in the end.
    pub fn truths(&self) -> Result<Vec<Truth>, Failure> {
        let truth = |(label, parcel): (crate::domain::label::LabelId, crate::sandbox::Parcel)| {
            let answer: Value = serde_json::from_slice(&parcel.answer(parcel.ends_after()))?;
            Ok(Truth { label: label.to_string(), answer })
        };
        self.sandbox.parcels().into_iter().map(truth).collect()
    }
}
