//! `trackpost demo`: the newcomer's first minute.
//!
//! Sandbox, daemon and verifying receiver run in this process, on real sockets, with a real database and a
//! configuration as anybody would write it; only the parcels' days pass in seconds. In the end what happened to the
//! parcels is held against what the receiver was told.
//!
//! All of it runs on one task: nothing is spawned here, and when this returns, it is over.

mod book;
mod folder;
mod plan;
mod screen;
mod settings;
mod stage;
mod summary;
mod track;
mod trouble;
mod verdict;

use std::future::pending;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use tokio::sync::watch;

use super::Failure;
use super::args;
use crate::clock::{self, Stopwatch};
use crate::daemon::{Signals, told_to_stop};
use crate::domain::label::LabelState;
use crate::store::progress::LabelProgress;
use book::Book;
use screen::Screen;
use stage::Stage;
use summary::Summary;
use trouble::Trouble;
use verdict::Verdict;

/// The picture is drawn anew, and the daemon's work looked at, so often.
const FRAME: Duration = Duration::from_millis(100);
/// How much longer than planned it may take.
const PATIENCE: Duration = Duration::from_secs(40);

pub async fn run(what: &args::Demo) -> Result<ExitCode, Failure> {
    let watch = Stopwatch::start();
    let mut screen = Screen::new(what.json);
    let signals = Signals::new()?;
    let (mut stage, servers) = stage::set(what, signals).await?;
    screen.say(&intro(&stage, what.seconds))?;
    let (stop, stopped) = watch::channel(false);
    let mut sandbox = pin!(servers.sandbox.serve(pending()));
    let mut receiver = pin!(servers.receiver.serve(pending()));
    let mut daemon = pin!(servers.daemon.run(stopped));
    let patience = Duration::from_secs(u64::from(what.seconds)) + PATIENCE;
    let told = told_to_stop()?;
    let played = tokio::select! {
        biased;
        () = told => return Err(Failure::new("the demo was interrupted")),
        played = play(&mut stage, &mut screen, watch, patience) => played,
        served = &mut sandbox => return Err(ended("the sandbox", served.err())),
        served = &mut receiver => return Err(ended("the receiver", served.err())),
        ran = &mut daemon => return match ran {
            Ok(()) => Err(ended("the daemon", None)),
            Err(error) => Err(error.into()),
        },
    };
    let _ = stop.send(true);
    // What is under way still needs somebody to talk to. If the play broke off, the daemon may know better why.
    tokio::select! {
        ran = &mut daemon => ran?,
        served = &mut sandbox => return Err(ended("the sandbox", served.err())),
        served = &mut receiver => return Err(ended("the receiver", served.err())),
    }
    let mut played = played?;
    // What came while it drained counts as well: nothing should have.
    while let Ok(callback) = stage.callbacks.try_recv() {
        played.book.enter(&callback);
    }
    finish(stage, &mut screen, played, watch, what.json)
}

fn ended(who: &str, error: Option<std::io::Error>) -> Failure {
    let why = error.map(|error| format!(": {error}")).unwrap_or_default();
    Failure::new(format!("{who} ended by itself{why}"))
}

fn intro(stage: &Stage, seconds: u32) -> String {
    let health = stage.health_url.as_deref().map(|url| format!(", its health at {url}")).unwrap_or_default();
    let found = (0..stage.plan.cast.len()).filter(|index| settings::is_discovered(*index)).count();
    let found = match found {
        0 => String::new(),
        found => format!(",\nwhich finds {found} of the labels by itself in the account's list"),
    };
    format!(
        "{} parcels travel for days in about {seconds} s: a fake ShipStation at {}\n\
         is polled by the real daemon{health}{found},\n\
         which posts signed callbacks to two subscribers at {}, where they are verified.\n",
        stage.plan.cast.len(),
        stage.sandbox_url,
        stage.receiver_url,
    )
}

/// How the play went.
struct Played {
    book: Book,
    owed: Vec<crate::store::progress::Owed>,
    /// What had not come to its end when patience did.
    unfinished: Option<String>,
}

/// Watches until every parcel is at its end and every message delivered, or until patience ends.
async fn play(
    stage: &mut Stage,
    screen: &mut Screen,
    watch: Stopwatch,
    patience: Duration,
) -> Result<Played, Failure> {
    let began = watch.elapsed();
    let (mut book, mut trouble) = (Book::default(), Trouble::new());
    let unfinished = loop {
        clock::sleep(FRAME).await;
        let passed = watch.elapsed();
        while let Ok(callback) = stage.callbacks.try_recv() {
            for news in book.enter(&callback) {
                screen.news(passed, &news)?;
            }
        }
        let progress = stage.store.progress().await?;
        if let Some(told) = trouble.step(stage, &progress, book.refused, passed.saturating_sub(began)).await?
        {
            screen.note(passed, &told)?;
        }
        screen.draw(&stage.plan, &book)?;
        let pending = stage.store.pending_deliveries().await?;
        match remaining(stage, &progress, pending) {
            // What the last look at the outbox said was delivered lies in the channel.
            None if trouble.is_over() && stage.callbacks.is_empty() => break None,
            remaining if passed >= patience => break remaining.or(Some("the receiver".to_owned())),
            _ => {}
        }
    };
    let owed = stage.store.owed().await?;
    Ok(Played { book, owed, unfinished })
}

/// What is still to be done, in words.
fn remaining(stage: &Stage, progress: &[LabelProgress], pending: u64) -> Option<String> {
    if progress.len() < stage.plan.cast.len() || !stage.sandbox.all_ended() {
        return Some("the parcels are on their way".to_owned());
    }
    let on_the_way: Vec<&str> = progress
        .iter()
        .filter(|label| label.goes_on || label.state != LabelState::Finished)
        .map(|label| label.label_id.as_str())
        .collect();
    if let [first, ..] = on_the_way[..] {
        return Some(format!("{} labels are not finished, {first} among them", on_the_way.len()));
    }
    (pending > 0).then(|| format!("{pending} callbacks are not delivered"))
}

fn finish(
    mut stage: Stage,
    screen: &mut Screen,
    played: Played,
    watch: Stopwatch,
    json: bool,
) -> Result<ExitCode, Failure> {
    let Played { book, owed, unfinished } = played;
    let verdict = verdict::judge(&stage.truths()?, &owed, &book, &stage.receiver.verdict());
    let failure = unfinished.map(|what| format!("time is up: {what}")).or_else(|| broken(&verdict));
    if failure.is_some() {
        stage.folder.keep();
    }
    let summary = Summary::new(&stage, &book, &verdict, watch.elapsed().as_secs_f64(), failure);
    if json {
        super::output::json_lines(&[&summary])?;
    } else {
        let end = if summary.failure.is_none() { "Every parcel is at its end.\n" } else { "" };
        screen.say(&format!("\n{end}{}", summary.text(&stage, &verdict)))?;
    }
    match summary.failure {
        None => Ok(ExitCode::SUCCESS),
        Some(failure) => {
            let folder = stage.folder.path().display();
            Err(Failure::new(failure).hint(format!("database and configuration were kept in {folder}")))
        }
    }
}

fn broken(verdict: &Verdict) -> Option<String> {
    let (missed, duplicated) = (verdict.missed.len(), verdict.duplicated.len());
    let (disordered, unsigned) = (verdict.disordered.len(), verdict.unsigned);
    (!verdict.is_clean()).then(|| {
        format!(
            "{missed} missed, {duplicated} duplicated, {disordered} out of order, {unsigned} badly signed"
        )
    })
}
