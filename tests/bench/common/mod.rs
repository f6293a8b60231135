//! Common parts of the benches: a mock of the API and the receiver, the daemon under test, the bare client beside it,
//! and counters of a process.

pub mod bare;
pub mod daemon;
pub mod mock;
pub mod process;
pub mod server;

use std::time::{Duration, Instant};

/// Runs a bench with the numbers among its arguments, or the mock if this process was started as the mock.
pub fn run<F: Future<Output = ()>>(bench: impl FnOnce(Vec<u64>) -> F) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if arguments.first().is_some_and(|argument| argument == mock::SERVE) {
        return runtime.block_on(server::serve(arguments[1].parse().unwrap()));
    }
    // `reqwest` needs a provider even without TLS.
    rustls::crypto::ring::default_provider().install_default().unwrap();
    runtime.block_on(bench(arguments.iter().filter_map(|argument| argument.parse().ok()).collect()));
}

/// Work of a client in some time, and the resources that its process used.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Polls, or deliveries if nothing is polled.
    pub count: u64,
    pub time: Duration,
    pub cpu: Duration,
    /// Bytes written to the disk.
    pub written: u64,
}

impl Figures {
    pub fn rate(&self) -> f64 {
        self.count as f64 / self.time.as_secs_f64()
    }

    pub fn cpu_micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.count as f64
    }

    pub fn written_kib(&self) -> f64 {
        self.written as f64 / 1024.0 / self.count as f64
    }

    /// Rate and CPU time relative to those of `bare`.
    pub fn relative_to(&self, bare: &Self) -> String {
        let (rate, cpu) = (self.rate() / bare.rate(), self.cpu_micros() / bare.cpu_micros());
        format!("{rate:.2} of the rate, {cpu:.1} times the CPU")
    }
}

/// Waits until `condition` holds. Panics after `limit`.
pub async fn until(what: &str, limit: Duration, mut condition: impl AsyncFnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !condition().await {
        assert!(began.elapsed() < limit, "not within {} s: {what}", limit.as_secs());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    began.elapsed()
}
