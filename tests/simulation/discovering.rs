//! The simulated discoverer: the loop of `workers::discoverer` with the same decisions, over the database in memory.

use jiff::{SignedDuration, Timestamp};
use trackpost::domain::label::LabelId;
use trackpost::domain::polling::account_status::AccountChange;
use trackpost::domain::polling::discovery::{LIST_REFUSAL_GRACE, ListPage, Walker, account_signal};
use trackpost::domain::polling::rate_limiter::{AllowedRequest, RequestKind};
use trackpost::domain::time::{earlier, later};
use trackpost::domain::tracking::reading::Reading;
use trackpost::store::accounts::AccountRecord;

use super::daemon::{Daemon, Job};
use super::script::Moment;
use super::world::{Arrival, Crash, World};

/// A request for the list in flight.
pub struct Listing {
    pub id: u64,
    allowed: AllowedRequest,
    /// The answer and the real time at which it arrives; `None` until the API has the request.
    pub reply: Option<(Result<ListPage, Reading>, Timestamp)>,
}

pub struct Discoverer {
    walker: Walker,
    pub listing: Option<Listing>,
    /// Real time of the next step.
    pub wake: Timestamp,
}

impl Discoverer {
    pub fn new(world: &World) -> Option<Self> {
        let discover = world.account.discover;
        let walker = Walker::new(discover, world.db.discovery);
        discover.enabled.then_some(Self { walker, listing: None, wake: world.now })
    }

    /// Real time of the next event.
    pub fn next(&self) -> Timestamp {
        match &self.listing {
            Some(listing) => listing.reply.as_ref().map_or(Timestamp::MAX, |(_, ends)| *ends),
            None => self.wake,
        }
    }
}

impl Daemon {
    pub fn discoverer_step(&mut self, world: &mut World) -> Result<(), Crash> {
        if self.discoverer.as_ref().is_none_or(|discoverer| discoverer.next() > world.now) {
            return Ok(());
        }
        let Some(mut discoverer) = self.discoverer.take() else { return Ok(()) };
        let done = match discoverer.listing.take() {
            Some(Listing { allowed, reply: Some((answer, _)), .. }) => {
                self.list_answered(world, &mut discoverer.walker, allowed, answer)
            }
            _ => self.start_listing(world, &mut discoverer),
        };
        let at = done?;
        discoverer.wake = world.real(at).max(world.now);
        self.discoverer = Some(discoverer);
        Ok(())
    }

    /// Sends the request that is due. Returns when there is more to do.
    fn start_listing(&mut self, world: &mut World, discoverer: &mut Discoverer) -> Result<Timestamp, Crash> {
        let now = world.wall();
        let request = match discoverer.walker.next_request(now) {
            Ok(request) => request,
            Err(at) => return Ok(at),
        };
        let probing = self.limiter.state.probing();
        let is_probe = probing && self.next_due.is_none_or(|due| due > now);
        let kind = if is_probe { RequestKind::Poll } else { RequestKind::Other };
        let allowed = match self.acquire(world, kind)? {
            Ok(allowed) => allowed,
            // The worker tries more often.
            Err(None) if probing => return Ok(later(now, SignedDuration::from_secs(10))),
            Err(free_at) => {
                return Ok(free_at.unwrap_or_else(|| later(now, SignedDuration::from_millis(500))));
            }
        };
        if world.db.discovery.position.is_none() && !request.voided_only {
            world.checks.limits.listed(request.created_from);
        }
        let id = world.next_id();
        world.send(id, Arrival::List(request));
        discoverer.listing = Some(Listing { id, allowed, reply: None });
        world.reached(Moment::PollSent)?;
        Ok(now)
    }

    fn list_answered(
        &mut self,
        world: &mut World,
        walker: &mut Walker,
        allowed: AllowedRequest,
        answer: Result<ListPage, Reading>,
    ) -> Result<Timestamp, Crash> {
        let now = world.wall();
        self.limiter.set_skew(self.skew, now);
        self.limiter.end_request(allowed.sent_at, now);
        let recently =
            self.limiter.state.last_success_at.is_some_and(|at| at > earlier(now, LIST_REFUSAL_GRACE));
        if let Some(signal) = account_signal(answer.as_ref().err(), allowed.probe, recently) {
            let seen = self.limiter.observe(None, &signal, allowed, now);
            self.came_back |= seen.change == Some(AccountChange::CameBack);
            if seen.changed {
                let (state, subscribers) = (self.limiter.state.clone(), &world.policy.subscribers);
                let record = AccountRecord::new(&world.account.name, state, seen.change, subscribers, now);
                self.write(world, Job::Account(Box::new(record)));
            }
        }
        let clock = self.clock(world);
        let (ended, adaptive_limit) = (self.limiter.take_ended(), self.limiter.take_changed_limit());
        world.commit_now(|db| db.count(&ended, adaptive_limit, clock))?;
        match answer {
            Ok(page) => {
                let page = walker.take(page, self.limiter.allowed(now), now);
                world.reached(Moment::PageRead)?;
                let progress = walker.progress();
                let (account, ids) = (world.account.name.clone(), world.api.ids.clone());
                let number = |id: &LabelId| ids.iter().position(|known| known == id).expect("it is known");
                let row = |id: &LabelId| number(id) as i64 + 1;
                world.commit_now(|db| db.write_discovered(&page, progress, &account, row, now))?;
                world.follow_discovery();
                self.wake = world.now;
            }
            Err(reading) => drop(walker.fail(&reading, now)),
        }
        Ok(walker.paused_until().unwrap_or(now))
    }
}
