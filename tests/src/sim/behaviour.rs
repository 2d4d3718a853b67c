//! What a simulated application does of its own will, drawn from its seed: a mix of all calls of the interface.
//!
//! Owner: a node. Invariant: choices depend on the seed and on what the application has seen, on nothing else.

use super::application::{Application, Context};
use isis_protocol::event::{Kind, Refused};
use isis_protocol::random::Random;
use isis_protocol::time::{MICROSECOND, MILLISECOND};
use isis_protocol::{JoinOptions, TotalOrder};

/// How an application behaves. Weights are relative to each other.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The groups to be in: index of the name, options.
    pub groups: Vec<(u8, JoinOptions)>,
    /// Mean time between two actions, nanoseconds.
    pub pause_ns: u64,
    /// Weights of FIFO, causal, total and global multicasts.
    pub kinds: [u64; 4],
    /// Of 100 multicasts, so many are safe.
    pub safe_percent: u64,
    /// Of 100 ABCASTs of a process that is in several groups, so many go to all of them.
    pub multi_percent: u64,
    /// Of 100 deliveries, so many are answered at once by an action.
    pub react_percent: u64,
    /// Bytes in a fragment (`Config::fragment`).
    pub fragment: usize,
    /// A message has at least so many bytes.
    pub least: usize,
    /// Now and then a message is up to so long.
    pub large: usize,
    /// Of 1000 actions, so many are a leave (and a join later).
    pub leave_permille: u64,
    /// Of 1000 actions, so many are a close.
    pub close_permille: u64,
    /// Of 100 joins, so many are as a client.
    pub client_percent: u64,
    /// Of 100 processes, so many ask for the other total order than the plan says; the group's creator decides.
    pub contrary_percent: u64,
    /// How many messages at most: keeps a run short.
    pub budget: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Behaviour {
    random: Random,
    profile: Profile,
    /// When it acts next, of its own; virtual time.
    pub next_ns: u64,
    /// Sends nothing more, and leaves nothing.
    pub quiet: bool,
    /// A multicast that was refused for now: member, kind, safe, length.
    refused: Option<(usize, (Kind, bool), usize)>,
    /// Rejoin these names at this time.
    away: Vec<(u8, u64)>,
    /// Names that it joined once.
    started: bool,
    /// It asks for the other total order.
    contrary: bool,
}

impl Behaviour {
    /// A behaviour that begins at `start_ns`.
    pub fn new(seed: u64, profile: Profile, start_ns: u64) -> Behaviour {
        let random = Random::new(seed);
        let contrary = Random::new(!seed).below(100) < profile.contrary_percent;
        let (quiet, refused, away, started) = (false, None, Vec::new(), false);
        Behaviour { random, profile, next_ns: start_ns, quiet, refused, away, started, contrary }
    }

    /// Nothing is waiting to be tried again.
    pub fn settled(&self, app: &Application) -> bool {
        self.started
            && self.refused.is_none()
            && self.away.is_empty()
            && self
                .profile
                .groups
                .iter()
                .all(|(name, _)| app.members.iter().any(|m| m.name == *name && (m.active() || (m.client && !m.left))))
    }

    /// Does what it wants to do now.
    pub fn act(&mut self, app: &mut Application, ctx: &mut Context<'_>) {
        let time = ctx.time;
        if app.closing {
            self.next_ns = u64::MAX;
            return;
        }
        if !self.started {
            self.started = true;
            for (name, _) in &self.profile.groups {
                self.away.push((*name, time + self.random.below(5 * MILLISECOND)));
            }
        }
        // A group that ended under its clients.
        for (name, _) in &self.profile.groups {
            let mut joins = app.members.iter().filter(|m| m.name == *name).peekable();
            let away = joins.peek().is_none() || self.away.iter().any(|(it, _)| it == name);
            if !away && joins.all(|m| m.left) {
                self.away.push((*name, time));
            }
        }
        self.come_back(app, ctx);
        for member in 0..app.members.len() {
            if app.members[member].hands_over() {
                let len = 1 + self.random.below(app.state_len as u64) as usize;
                app.hand_over(ctx, member, len);
            }
        }
        let stirred = std::mem::take(&mut app.stirred);
        self.retry(app, ctx);
        let due = self.next_ns <= time;
        let reacts = stirred && self.random.below(100) < self.profile.react_percent;
        if (due || reacts) && !self.quiet {
            self.one_action(app, ctx);
        }
        if due {
            let pause = self.profile.pause_ns;
            self.next_ns = time + 1 + self.random.below(pause * 2);
        }
        for (_, when) in &self.away {
            self.next_ns = self.next_ns.min((*when).max(time + 100 * MICROSECOND));
        }
        if app.members.iter().any(|m| m.hands_over()) {
            self.next_ns = self.next_ns.min(time + 200 * MICROSECOND);
        }
    }

    /// Joins what is to be joined now.
    fn come_back(&mut self, app: &mut Application, ctx: &mut Context<'_>) {
        let mut later = Vec::new();
        for (name, when) in std::mem::take(&mut self.away) {
            let still_there = app.members.iter().any(|m| m.name == name && !m.left);
            let mut options = self.profile.groups.iter().find(|g| g.0 == name).map(|g| g.1.clone()).unwrap_or_default();
            let percent = self.profile.client_percent;
            options.client = percent > 0 && self.random.below(100) < percent;
            if self.contrary {
                options.total_order = match options.total_order {
                    TotalOrder::Sequencer => TotalOrder::Priority,
                    TotalOrder::Priority => TotalOrder::Sequencer,
                };
            }
            if when > ctx.time || still_there || app.join(ctx, name, &options).is_err() {
                later.push((name, when.max(ctx.time + MILLISECOND)));
            }
        }
        self.away = later;
    }

    fn retry(&mut self, app: &mut Application, ctx: &mut Context<'_>) {
        let Some((member, how, len)) = self.refused.take() else { return };
        if app.members[member].active() && app.multicast(ctx, member, how, len, false) == Err(Refused::WouldBlock) {
            self.refused = Some((member, how, len));
            self.next_ns = self.next_ns.min(ctx.time + MILLISECOND);
        }
    }

    /// Leaves the first of its groups that it is in, and comes back later.
    pub fn rejoin(&mut self, app: &mut Application, ctx: &mut Context<'_>) {
        let active = (0..app.members.len()).find(|&member| app.members[member].active());
        if let Some(member) = active
            && !self.quiet
        {
            self.go_away(app, ctx, member);
        }
    }

    fn go_away(&mut self, app: &mut Application, ctx: &mut Context<'_>, member: usize) {
        if app.leave(ctx, member).is_ok() {
            let when = ctx.time + self.random.below(300 * MILLISECOND);
            self.away.push((app.members[member].name, when));
        }
    }

    /// A last multicast of each kind in each group and a flush, to show that the groups work.
    pub fn last_words(&mut self, app: &mut Application, ctx: &mut Context<'_>) {
        for member in 0..app.members.len() {
            if !app.members[member].active() {
                continue;
            }
            for how in [(Kind::Fifo, false), (Kind::Causal, true), (Kind::Total, false), (Kind::Total, true)] {
                if app.multicast(ctx, member, how, 20, false) == Err(Refused::WouldBlock) {
                    self.refused = Some((member, how, 20));
                    break;
                }
            }
            let _ = app.flush(ctx, member);
        }
        if self.profile.multi_percent > 0 {
            self.multicast_groups(app, ctx, false, 20);
        }
    }

    /// The members through which an ABCAST may go to several groups.
    fn several(app: &Application) -> Vec<usize> {
        let fits = |it: &super::application::Member| it.active() && !it.client && !it.sending_view;
        (0..app.members.len()).filter(|&member| fits(&app.members[member])).collect()
    }

    /// An ABCAST to all groups that take one. Whether there are several.
    fn multicast_groups(&mut self, app: &mut Application, ctx: &mut Context<'_>, safe: bool, len: usize) -> bool {
        let members = Behaviour::several(app);
        if members.len() > 1 && app.multicast_groups(ctx, &members, safe, len) == Err(Refused::WouldBlock) {
            self.next_ns = self.next_ns.min(ctx.time + MILLISECOND);
        }
        members.len() > 1
    }

    fn length(&mut self) -> usize {
        let fragment = self.profile.fragment as u64;
        let len = match self.random.below(40) {
            0..=3 => self.random.below(16),
            4..=29 => 12 + self.random.below(100),
            30..=35 => self.random.below(fragment + 1),
            36..=37 => fragment - 8 + self.random.below(17),
            38 => self.random.below(4 * fragment),
            _ => self.random.below(self.profile.large as u64 + 1),
        };
        (len as usize).max(self.profile.least)
    }

    fn kind(&mut self) -> (Kind, bool) {
        let kinds = [Kind::Fifo, Kind::Causal, Kind::Total, Kind::Global];
        let mut left = self.random.below(self.profile.kinds.iter().sum());
        let mut chosen = Kind::Fifo;
        for (kind, weight) in kinds.iter().zip(self.profile.kinds) {
            if left < weight {
                chosen = *kind;
                break;
            }
            left -= weight;
        }
        (chosen, chosen != Kind::Global && self.random.below(100) < self.profile.safe_percent)
    }

    fn one_action(&mut self, app: &mut Application, ctx: &mut Context<'_>) {
        if app.members.is_empty() {
            return;
        }
        let member = self.random.below(app.members.len() as u64) as usize;
        if !app.members[member].active() {
            return;
        }
        let dice = self.random.below(1000);
        if dice < self.profile.leave_permille {
            self.go_away(app, ctx, member);
        } else if dice < self.profile.leave_permille + self.profile.close_permille {
            app.close(ctx);
        } else if self.profile.budget > 0 {
            self.talk(app, ctx, member);
        }
    }

    /// Leaves the first group that it is in, because the plan says so.
    pub fn leave_something(&mut self, app: &mut Application, ctx: &mut Context<'_>) {
        if let Some(member) = app.members.iter().position(super::application::Member::active) {
            self.go_away(app, ctx, member);
        }
    }

    /// A message of some sort, or a few in one go.
    fn talk(&mut self, app: &mut Application, ctx: &mut Context<'_>, member: usize) {
        match self.random.below(20) {
            0 => {
                let _ = app.flush(ctx, member);
            }
            1 => {
                let len = self.random.below(self.profile.fragment as u64) as usize;
                let _ = app.claim_and_abort(ctx, member, len);
            }
            2..=3 => {
                let ranks = app.members[member].ids.len() as u64;
                if ranks == 0 {
                    return;
                }
                let rank = self.random.below(ranks) as usize;
                let len = self.length().min(self.profile.fragment * 3);
                if app.members[member].view.as_ref().is_some_and(|v| usize::from(v.rank) != rank) {
                    let _ = app.send_to(ctx, member, rank, len);
                }
            }
            4 => {
                let len = 12 + self.length().min(self.profile.fragment * 2);
                let _ = app.reply(ctx, member, len);
            }
            dice => {
                let burst = if dice == 5 { 1 + self.random.below(12) } else { 1 };
                for _ in 0..burst {
                    if self.refused.is_some() || self.profile.budget == 0 {
                        break;
                    }
                    self.profile.budget -= 1;
                    let (mut how, len) = (self.kind(), self.length());
                    let several = self.profile.multi_percent > 0
                        && how.0 == Kind::Total
                        && !app.members[member].client
                        && self.random.below(100) < self.profile.multi_percent;
                    if several && self.multicast_groups(app, ctx, how.1, len) {
                        continue;
                    }
                    let mut claim = len <= self.profile.fragment && self.random.below(3) == 0;
                    if app.members[member].client {
                        claim = false;
                        how.0 = if how.0 == Kind::Global { Kind::Total } else { how.0 };
                    }
                    if app.multicast(ctx, member, how, len, claim) == Err(Refused::WouldBlock) {
                        self.refused = Some((member, how, len));
                        self.next_ns = self.next_ns.min(ctx.time + MILLISECOND);
                    }
                }
            }
        }
    }
}
