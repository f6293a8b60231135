//! Effects of the actions of a script on the world.

use jiff::SignedDuration;
use trackpost::domain::messages::subscriber::{Subscriber, SubscriberName};
use trackpost::domain::secret::Hidden;

use super::outside::after;
use super::script::{Action, Moment};
use super::settings::NAMES;
use super::world::{Crash, World};

impl World {
    pub fn act(&mut self, action: &Action) {
        let wall = self.wall();
        let name = |subscriber: &usize| SubscriberName::new(NAMES[*subscriber]);
        match action {
            Action::Api { mode, percent, seconds } => {
                self.api.set_mode(mode.clone(), *percent, after(self.now, *seconds));
            }
            Action::Receiver { subscriber, mode, seconds } => {
                self.receivers.set_mode(NAMES[*subscriber], mode.clone(), after(self.now, *seconds));
            }
            Action::RefuseLabel { label, seconds } => self.api.refuse(*label, after(self.now, *seconds)),
            Action::List { label, change } => {
                self.checks.lists_changed = true;
                self.api.change(*label, change);
            }
            Action::CrashAt { moment: Moment::Now, down } => self.die(Crash { down: *down, jump: 0 }),
            Action::CrashAt { moment, down } => self.crash_at = Some((*moment, *down)),
            Action::CrashAndJump { down, jump } => self.die(Crash { down: *down, jump: *jump }),
            Action::Stop { down } => self.stop(*down),
            Action::StoreFails { down } => self.store_fails = Some(*down),
            Action::SlowStore { takes, seconds } => {
                self.slow_store = (SignedDuration::from_secs((*takes).into()), after(self.now, *seconds));
            }
            Action::Jump(seconds) => self.jump(*seconds),
            Action::Remove { label } => {
                self.db.remove_label(*label as i64 + 1, wall);
                self.wake_poller();
            }
            Action::Register { label } => {
                self.register(*label as i64 + 1);
                self.wake_poller();
            }
            Action::PollNow { label } => {
                self.db.poll_now(*label as i64 + 1, wall);
                self.wake_poller();
            }
            Action::Move { subscriber } => {
                self.moves += 1;
                let url = format!("http://127.0.0.1:2/{}", self.moves);
                self.configure(&name(subscriber), |subscriber| subscriber.url = Hidden::new(url));
            }
            Action::Disable { subscriber } => {
                self.checks.absent.insert(NAMES[*subscriber]);
                self.configure(&name(subscriber), |subscriber| subscriber.enabled = false);
            }
            Action::Enable { subscriber } => {
                self.configure(&name(subscriber), |subscriber| subscriber.enabled = true)
            }
            Action::Pause { subscriber } => {
                self.db.healths.entry(name(subscriber)).or_default().pause(wall);
                self.wake_courier(&name(subscriber));
            }
            Action::Resume { subscriber } => self.resume(&name(subscriber)),
        }
    }

    fn register(&mut self, row: i64) {
        if let Some(wait) = self.db.register_label(row, self.wall()) {
            self.checks.promise(row, self.now, wait);
        }
    }

    fn resume(&mut self, name: &SubscriberName) {
        let now = self.wall();
        self.db.healths.entry(name.clone()).or_default().resume_by_hand(now);
        self.db.reschedule(name, |_, schedule| schedule.resume(now));
        self.checks.released(name);
        self.wake_courier(name);
    }

    fn configure(&mut self, name: &SubscriberName, change: impl FnOnce(&mut Subscriber)) {
        let subscriber = self.policy.subscribers.iter_mut().find(|subscriber| subscriber.name == *name);
        change(subscriber.expect("it is configured"));
        if let Some(mut daemon) = self.daemon.take() {
            daemon.follow_subscribers(self);
            self.daemon = Some(daemon);
        }
    }

    fn wake_poller(&mut self) {
        let now = self.now;
        self.daemon.iter_mut().for_each(|daemon| daemon.wake = now);
    }

    /// Another process changed the table.
    fn wake_courier(&mut self, name: &SubscriberName) {
        let now = self.now;
        let couriers = self.daemon.iter_mut().flat_map(|daemon| &mut daemon.couriers);
        for (_, courier) in couriers.filter(|(known, _)| *known == name) {
            (courier.stale, courier.wake) = (true, now);
        }
    }

    pub(super) fn jump(&mut self, seconds: i32) {
        self.skew += SignedDuration::from_secs(seconds.into());
        self.checks.jumped(seconds, self.now);
        // Waits end within two seconds after a jump.
        let soon = self.now + SignedDuration::from_secs(2);
        if let Some(daemon) = &mut self.daemon {
            daemon.wake = soon;
            daemon.discoverer.iter_mut().for_each(|discoverer| discoverer.wake = soon);
            daemon.couriers.values_mut().for_each(|courier| courier.wake = soon);
        }
    }

    pub(super) fn die(&mut self, crash: Crash) {
        self.daemon = None;
        (self.crash_at, self.store_fails) = (None, None);
        if crash.jump != 0 {
            self.jump(crash.jump);
        }
        self.start_at = Some(after(self.now, crash.down));
    }

    /// A clean stop: all changes in memory are written. Requests in flight are cut off, as after ten seconds.
    fn stop(&mut self, down: u32) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.flush(self);
            let written = self.commit(&mut daemon);
            if written.is_ok() {
                let unused = daemon.limiter.take_reserved();
                self.db.reserved = self.db.reserved.saturating_sub(unused);
            }
        }
        self.die(Crash { down, jump: 0 });
    }

    /// Ends all faults, and lets everything be polled and delivered.
    pub(super) fn heal(&mut self) {
        self.api.heal();
        self.receivers.heal();
        (self.crash_at, self.store_fails) = (None, None);
        self.slow_store.1 = self.now;
        let now = self.wall();
        for row in 1..=self.api.ids.len() as i64 {
            self.register(row);
            self.db.poll_now(row, now);
        }
        self.checks.calm_since(self.now);
        for name in NAMES.map(SubscriberName::new) {
            self.configure(&name, |subscriber| subscriber.enabled = true);
            self.resume(&name);
        }
        self.wake_poller();
    }
}
