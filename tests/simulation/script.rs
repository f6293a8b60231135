//! Scripts: the parcels of a run, and the faults and changes from outside, one after another.

use proptest::collection::vec;
use proptest::prelude::*;
use trackpost::domain::delivery::attempt::Stage;
use trackpost::domain::delivery::outcome::Outcome;

/// A run. The same script gives the same run.
#[derive(Clone, Debug)]
pub struct Script {
    /// JourneyKind and carrier of each parcel, by number.
    pub parcels: Vec<(usize, usize)>,
    /// Labels that only the list has. If there are none, discovery is off.
    pub listed: Vec<Listed>,
    /// Hours from the start of the month until the run begins.
    pub begins_in: u32,
    pub requests_per_minute: u32,
    /// 0: unlimited.
    pub requests_per_month: u64,
    pub max_in_flight: u32,
    /// Deliveries that a courier holds in memory.
    pub memory: usize,
    /// Seconds before each action.
    pub steps: Vec<(u32, Action)>,
    /// Seed of jitter, latencies and shares.
    pub noise: u64,
}

/// A label that discovery finds. Seconds of real time.
#[derive(Clone, Copy, Debug)]
pub struct Listed {
    pub parcel: (usize, usize),
    /// `created_at`, after the begin of the run.
    pub created: i32,
    /// Time until the list has it.
    pub late: u32,
    /// Time in creation after that.
    pub making: u32,
    /// Time until it is voided after that.
    pub voided: Option<u32>,
}

#[derive(Clone, Debug)]
pub enum Action {
    /// The API behaves so for some seconds, for a percentage of the requests.
    Api {
        mode: ApiMode,
        percent: u8,
        seconds: u32,
    },
    /// The receiver of a subscriber behaves so for some seconds.
    Receiver {
        subscriber: usize,
        mode: ReceiverMode,
        seconds: u32,
    },
    /// The API refuses one label.
    RefuseLabel {
        label: usize,
        seconds: u32,
    },
    /// The list of a label changes.
    List {
        label: usize,
        change: ListChange,
    },
    /// The daemon dies at the next such moment, and starts again after some seconds.
    CrashAt {
        moment: Moment,
        down: u32,
    },
    /// The clock jumps while the daemon is dead, too.
    CrashAndJump {
        down: u32,
        jump: i32,
    },
    /// A clean stop.
    Stop {
        down: u32,
    },
    /// The next commit fails: nothing of it is written, and the daemon exits.
    StoreFails {
        down: u32,
    },
    /// Commits take this many seconds.
    SlowStore {
        takes: u32,
        seconds: u32,
    },
    /// The wall clock jumps by this many seconds.
    Jump(i32),
    Remove {
        label: usize,
    },
    Register {
        label: usize,
    },
    PollNow {
        label: usize,
    },
    /// The URL of a subscriber changes.
    Move {
        subscriber: usize,
    },
    Disable {
        subscriber: usize,
    },
    Enable {
        subscriber: usize,
    },
    Pause {
        subscriber: usize,
    },
    Resume {
        subscriber: usize,
    },
}

/// A moment at which the daemon may die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Now,
    PollSent,
    PageRead,
    AnswerRead,
    Reserving,
    BeforeCommit,
    AfterCommit,
    AttemptSent,
    AttemptAnswered,
}

#[derive(Clone, Debug)]
pub enum ApiMode {
    ServerError,
    Garbled,
    Unauthorized,
    WrongEndpoint,
    /// Every label gets the same refusal.
    Refuses,
    Throttles(Option<u32>),
    /// The limit of one carrier.
    CarrierThrottles {
        named: bool,
        seconds: u32,
    },
    Hangs,
    NoConnection,
    /// This machine has no descriptor.
    Shortage,
    /// Answers after this many seconds.
    Late(u32),
}

#[derive(Clone, Debug)]
pub enum ReceiverMode {
    Fails {
        outcome: Outcome,
        seconds: u32,
    },
    Throttles {
        status: u16,
        seconds: u32,
    },
    /// Refuses every second label.
    RefusesSome,
    /// Accepts, but the answer does not arrive.
    AcceptsAndResets,
    Slow(u32),
    Flaky,
}

#[derive(Clone, Debug)]
pub enum ListChange {
    /// Leaves out an older event.
    Without(usize),
    /// Shows only the newest events.
    Newest(usize),
    Empty,
    Reversed,
    /// Empty texts for nulls, all capitals, another order of keys.
    Spelled,
    /// Revises an event for ever.
    Revise(usize),
    Restore,
}

/// Number of subscribers.
pub const SUBSCRIBERS: usize = 3;

fn any_api_mode() -> impl Strategy<Value = ApiMode> {
    prop_oneof![
        Just(ApiMode::ServerError),
        Just(ApiMode::Garbled),
        Just(ApiMode::Unauthorized),
        Just(ApiMode::WrongEndpoint),
        Just(ApiMode::Refuses),
        proptest::option::of(0_u32..7_200).prop_map(ApiMode::Throttles),
        (any::<bool>(), 0_u32..7_200)
            .prop_map(|(named, seconds)| ApiMode::CarrierThrottles { named, seconds }),
        Just(ApiMode::Hangs),
        Just(ApiMode::NoConnection),
        Just(ApiMode::Shortage),
        (1_u32..40).prop_map(ApiMode::Late),
    ]
}

fn any_receiver_mode() -> impl Strategy<Value = ReceiverMode> {
    let failure = prop_oneof![
        prop_oneof![Just(302_u16), Just(400), Just(410), Just(500), Just(503)]
            .prop_map(|status| Outcome::ErrorStatus { status }),
        Just(Outcome::NameUnknown),
        Just(Outcome::ConnectionRefused),
        Just(Outcome::Tls),
        Just(Outcome::Reset),
        Just(Outcome::Unreadable),
        prop::sample::select(Stage::ALL.to_vec()).prop_map(|stage| Outcome::TimedOut { stage }),
    ];
    let throttle = prop_oneof![Just(429_u16), Just(503), Just(500)];
    prop_oneof![
        3 => (failure, 0_u32..15).prop_map(|(outcome, seconds)| ReceiverMode::Fails { outcome, seconds }),
        2 => (throttle, prop_oneof![0_u32..120, 0_u32..86_400])
            .prop_map(|(status, seconds)| ReceiverMode::Throttles { status, seconds }),
        1 => Just(ReceiverMode::RefusesSome),
        2 => Just(ReceiverMode::AcceptsAndResets),
        1 => (1_u32..25).prop_map(ReceiverMode::Slow),
        1 => Just(ReceiverMode::Flaky),
    ]
}

fn any_list_change() -> impl Strategy<Value = ListChange> {
    prop_oneof![
        (1_usize..6).prop_map(ListChange::Without),
        (1_usize..4).prop_map(ListChange::Newest),
        Just(ListChange::Empty),
        Just(ListChange::Reversed),
        Just(ListChange::Spelled),
        (0_usize..6).prop_map(ListChange::Revise),
        Just(ListChange::Restore),
    ]
}

fn any_span() -> impl Strategy<Value = u32> {
    prop_oneof![3 => 0_u32..90, 3 => 0_u32..3_600, 2 => 0_u32..100_000]
}

fn any_jump() -> impl Strategy<Value = i32> {
    prop_oneof![-30_i32..30, -4_000_i32..4_000, -200_000_i32..200_000, -4_000_000_i32..4_000_000]
}

fn any_moment() -> impl Strategy<Value = Moment> {
    prop_oneof![
        Just(Moment::Now),
        Just(Moment::PollSent),
        Just(Moment::PageRead),
        Just(Moment::AnswerRead),
        Just(Moment::Reserving),
        Just(Moment::BeforeCommit),
        Just(Moment::AfterCommit),
        Just(Moment::AttemptSent),
        Just(Moment::AttemptAnswered),
    ]
}

fn any_action(labels: usize) -> impl Strategy<Value = Action> {
    let (label, subscriber) = (0..labels, 0..SUBSCRIBERS);
    let down = || 0_u32..600;
    prop_oneof![
        6 => (any_api_mode(), prop_oneof![Just(100_u8), 5_u8..100], any_span())
            .prop_map(|(mode, percent, seconds)| Action::Api { mode, percent, seconds }),
        6 => (subscriber.clone(), any_receiver_mode(), any_span())
            .prop_map(|(subscriber, mode, seconds)| Action::Receiver { subscriber, mode, seconds }),
        1 => (label.clone(), prop_oneof![any_span(), 300_000_u32..600_000])
            .prop_map(|(label, seconds)| Action::RefuseLabel { label, seconds }),
        5 => (label.clone(), any_list_change()).prop_map(|(label, change)| Action::List { label, change }),
        6 => (any_moment(), down()).prop_map(|(moment, down)| Action::CrashAt { moment, down }),
        1 => (down(), any_jump()).prop_map(|(down, jump)| Action::CrashAndJump { down, jump }),
        1 => down().prop_map(|down| Action::Stop { down }),
        2 => down().prop_map(|down| Action::StoreFails { down }),
        1 => (1_u32..20, any_span()).prop_map(|(takes, seconds)| Action::SlowStore { takes, seconds }),
        3 => any_jump().prop_map(Action::Jump),
        1 => label.clone().prop_map(|label| Action::Remove { label }),
        1 => label.clone().prop_map(|label| Action::Register { label }),
        1 => label.prop_map(|label| Action::PollNow { label }),
        1 => subscriber.clone().prop_map(|subscriber| Action::Move { subscriber }),
        1 => subscriber.clone().prop_map(|subscriber| Action::Disable { subscriber }),
        1 => subscriber.clone().prop_map(|subscriber| Action::Enable { subscriber }),
        1 => subscriber.clone().prop_map(|subscriber| Action::Pause { subscriber }),
        1 => subscriber.prop_map(|subscriber| Action::Resume { subscriber }),
    ]
}

fn any_listed() -> impl Strategy<Value = Listed> {
    // Within `lookback`, and later.
    let created = prop_oneof![-1_000_000_i32..0, 0_i32..20_000, 0_i32..1_000_000];
    let making = prop_oneof![Just(0_u32), 0_u32..20_000];
    let voided = proptest::option::weighted(0.2, 0_u32..200_000);
    let parcel = (0_usize..6, 0_usize..3);
    (parcel, created, 0_u32..840, making, voided).prop_map(|(parcel, created, late, making, voided)| Listed {
        parcel,
        created,
        late,
        making,
        voided,
    })
}

pub fn any_script() -> impl Strategy<Value = Script> {
    let parcels = vec((0_usize..6, 0_usize..3), 1..7);
    let listed = prop_oneof![Just(Vec::new()), vec(any_listed(), 1..5)];
    let memory = prop_oneof![Just(1_000_usize), 1_usize..8];
    let month = prop_oneof![3 => Just(0_u64), 1 => 20_u64..200, 1 => 200_u64..5_000];
    let begins_in = prop_oneof![Just(33_u32), 0_u32..720];
    let account = (prop_oneof![Just(160_u32), 2_u32..12], month, begins_in);
    let settings = (parcels, listed, account, 1_u32..9, memory, any::<u64>());
    settings.prop_flat_map(|(parcels, listed, account, max_in_flight, memory, noise)| {
        let (requests_per_minute, requests_per_month, begins_in) = account;
        vec((any_span(), any_action(parcels.len())), 0..40).prop_map(move |steps| Script {
            parcels: parcels.clone(),
            listed: listed.clone(),
            begins_in,
            requests_per_minute,
            requests_per_month,
            max_in_flight,
            memory,
            steps,
            noise,
        })
    })
}
