//! The change from one view to the next: a join and a flush under crashes, false suspicions and a network that loses,
//! repeats, delays and reorders.
//!
//! The model has one view, 2 to 4 members, each on a site of its own (for sites of several processes see [`crate::vote`]),
//! a joiner, and two messages: *a*, FIFO, of rank 0, and *b*, SAFE, of rank 1. Both are one position in their streams.
//!
//! **The network** is the set of all that was ever sent. A message that is not taken is lost or late, one that is taken
//! twice was repeated. So the messages need no place in the state: a PREPARE is there when its attempt is, a PROMISE when it
//! is recorded in the attempt, and so on.
//!
//! **Suspicion** is arbitrary: a proposer may go on with any quorum of the answers, as if it suspected all others, and
//! anybody may propose at any time. A process that answered and is dead since may or may not be known dead.
//!
//! | Action | In `engine/protocol` |
//! |---|---|
//! | [`Action::Send`] | `Group::multicast`, `append_whole`: not while frozen (R5) |
//! | [`Action::Receive`] | `plane/receive.rs`, repairs included; FIFO is delivered at once, unless frozen |
//! | [`Action::DeliverSafe`] | `plane/deliver.rs`: when every member's row shows it |
//! | [`Action::Start`] | `Group::start_attempt`, with the own promise |
//! | [`Action::Prepare`] | `Group::on_prepare`, `may_answer`, `promise` |
//! | [`Action::Form`] | `Group::prepared`, `form_value`, `fresh_value`; which joiners answered is part of it |
//! | [`Action::Accept`] | `Group::on_accept`, `begin_fetch`, `accept_if_fetched` |
//! | [`Action::Decide`] | `Group::drive_proposer` with a quorum of ACCEPTED |
//! | [`Action::Learn`] | `Group::decide`, `install`; `Fate::Evicted` |
//! | [`Action::Crash`] | |
//!
//! Simplified: an attempt's joiners answer at the moment the value is formed; a repeated PREPARE gets the same answer again;
//! the rows of a member reach the others as soon as it may show them; nobody leaves.
//!
//! The group's quorum differs from the system's: all members of the group that the system view has. [`Quorum::Group`] is the
//! model of that: one member is excluded by the next system view, dead or alive, and each member installs that view at some
//! time. Attempts name the system view, and older or newer ones are not answered (R9). What R9 says about joiners and about
//! the order of the two sequences of views is beyond this model: one group view depends on two system views here. (That one
//! value is decided follows from less: the quorums of later system views are parts of those of earlier ones. What breaks is
//! shown by [`Rules::GroupSuspects`].)

mod finish;
mod rules;
mod state;

pub use rules::Rules;
pub use state::{Action, Attempt, Member, Promise, State, Value};

use stateright::{Model, Property};

/// The most members.
pub const MEMBERS: usize = 4;
/// Message *a*, FIFO, of rank 0.
pub const A: u8 = 1;
/// Message *b*, SAFE, of rank 1.
pub const B: u8 = 2;

/// Who has to answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quorum {
    /// The system group: more than half of the members, or half with rank 0.
    System,
    /// An ordinary group: the members that the system view has. The next system view lacks this member.
    Group {
        /// Its rank.
        excluded: usize,
    },
}

/// The model with its bounds.
#[derive(Clone, Debug)]
pub struct Agreement {
    /// How many members the view has, 2 to [`MEMBERS`].
    pub members: usize,
    /// How many attempts there may be. That a change can complete is shown with one more.
    pub attempts: usize,
    /// How many processes may crash.
    pub crashes: u8,
    /// Somebody wants to join.
    pub joiner: bool,
    /// Message *b* is sent.
    pub safe: bool,
    /// Whose answers decide.
    pub quorum: Quorum,
    /// What is taken out.
    pub rules: Rules,
}

impl Agreement {
    /// The bounds that every test searches.
    pub fn small() -> Agreement {
        Agreement {
            members: 3,
            attempts: 2,
            crashes: 1,
            joiner: true,
            safe: true,
            quorum: Quorum::System,
            rules: Rules::AsWritten,
        }
    }

    /// What the report calls it.
    pub fn name(&self) -> String {
        let quorum = match self.quorum {
            Quorum::System => "system view",
            Quorum::Group { .. } => "group view",
        };
        format!(
            "{quorum}: {} members{}, {} message{}, {} attempts, {} crash(es), {:?}",
            self.members,
            if self.joiner { " and a joiner" } else { "" },
            1 + u8::from(self.safe),
            if self.safe { "s" } else { "" },
            self.attempts,
            self.crashes,
            self.rules,
        )
    }
}

/// All values that were decided are one.
pub const ONE_VALUE: &str = "one value per view";
/// Who goes to the next view has delivered what its cut says, no more and no less.
pub const SYNCHRONY: &str = "survivors delivered the cut";
/// What anybody delivered as safe, every survivor did.
pub const SAFE: &str = "safe messages reach all survivors";
/// Nobody installs a view that lacks it.
pub const SELF_INCLUSION: &str = "self inclusion";
/// Undisturbed, those that are up get to the next view, if they are a quorum.
pub const COMPLETES: &str = "a change can complete";

impl Model for Agreement {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        state.actions(self, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        next.apply(self, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(ONE_VALUE, |_, s: &State| s.decided_values().len() <= 1),
            Property::always(SYNCHRONY, |_, s: &State| s.installed_delivered_the_cut()),
            Property::always(SAFE, |_, s: &State| s.safe_reached_survivors()),
            Property::always(SELF_INCLUSION, |_, s: &State| s.installers_are_members()),
            Property::always(COMPLETES, |m: &Agreement, s: &State| s.completes(m)),
            Property::sometimes("a view is decided", |_, s: &State| !s.decided_values().is_empty()),
        ];
        if self.attempts > 1 {
            properties.push(Property::sometimes("a value is proposed again", |_, s: &State| s.proposes_again()));
            properties.push(Property::sometimes("two attempts decide", |_, s: &State| s.decided().count() > 1));
        }
        if self.joiner {
            properties.push(Property::sometimes("a joiner installs", |_, s: &State| s.joined.is_some()));
        }
        if self.quorum == Quorum::System && self.members > 2 {
            properties.push(Property::sometimes("a live member is excluded", |_, s: &State| s.evicts()));
        }
        properties
    }
}
