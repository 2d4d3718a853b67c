//! What is searched: each model as written, and each of its rules taken out.

use crate::agreement::{self, Agreement, Quorum};
use crate::check::{Report, search};
use crate::founding::{self, Founding};
use crate::merge::{self, Beginning, Merge};
use crate::vote::{self, Vote};

/// One search.
pub struct Case {
    /// Which: the model and what is taken out of it, or its bounds.
    pub name: &'static str,
    /// The property of which a counterexample has to be found; `None`: everything holds.
    pub violates: Option<&'static str>,
    /// Takes minutes, or more memory than every machine has.
    pub big: bool,
    run: Box<dyn Fn() -> Report + Send>,
}

impl Case {
    /// Searches.
    pub fn run(&self) -> Report {
        (self.run)()
    }

    /// What is wrong with the result; `None`: it is as expected.
    pub fn objection(&self, report: &Report) -> Option<String> {
        match self.violates {
            None if !report.holds() => Some("does not hold, or not all of it was searched".into()),
            Some(property) if report.counterexample(property).is_none() => {
                Some(format!("no counterexample to \"{property}\" was found"))
            }
            _ => None,
        }
    }
}

fn holds(name: &'static str, run: impl Fn() -> Report + Send + 'static) -> Case {
    Case { name, violates: None, big: false, run: Box::new(run) }
}

fn big(case: Case) -> Case {
    Case { big: true, ..case }
}

fn agreement(name: &'static str, model: Agreement, violates: Option<&'static str>) -> Case {
    Case { violates, ..holds(name, move || search(model.name(), model.clone(), violates)) }
}

fn vote(name: &'static str, model: Vote, violates: Option<&'static str>) -> Case {
    Case { violates, ..holds(name, move || search(model.name(), model.clone(), violates)) }
}

fn founding(name: &'static str, model: Founding, violates: Option<&'static str>) -> Case {
    Case { violates, ..holds(name, move || search(model.name(), model.clone(), violates)) }
}

fn merge(
    name: &'static str,
    beginning: Beginning,
    crashes: u8,
    rules: merge::Rules,
    what: Option<&'static str>,
) -> Case {
    let model = Merge { beginning, crashes, rules };
    Case { violates: what, ..holds(name, move || search(model.name(), model.clone(), what)) }
}

/// All of them.
pub fn all() -> Vec<Case> {
    let mut cases = agreements();
    cases.extend(groups());
    cases.extend(votes());
    cases.extend(foundings());
    cases.extend(merges());
    cases
}

fn agreements() -> Vec<Case> {
    use agreement::{COMPLETES, ONE_VALUE, Rules, SAFE, SELF_INCLUSION, SYNCHRONY};
    let small = Agreement::small;
    let without =
        |name, rules, violates| agreement(name, Agreement { joiner: false, rules, ..small() }, Some(violates));
    vec![
        agreement("change, two members and a joiner", Agreement { members: 2, ..small() }, None),
        agreement("change, one attempt", Agreement { attempts: 1, ..small() }, None),
        agreement("change, one message", Agreement { safe: false, ..small() }, None),
        agreement("change, nobody joins", Agreement { joiner: false, ..small() }, None),
        big(agreement("change, all at once", small(), None)),
        big(agreement("change, four members", Agreement { members: 4, joiner: false, safe: false, ..small() }, None)),
        without("change, ProposesAfresh", Rules::ProposesAfresh, ONE_VALUE),
        without("change, BreaksPromise", Rules::BreaksPromise, ONE_VALUE),
        agreement(
            "change, AnyHalf",
            Agreement { members: 2, joiner: false, rules: Rules::AnyHalf, ..small() },
            Some(ONE_VALUE),
        ),
        without("change, AppendsWhileFrozen", Rules::AppendsWhileFrozen, SYNCHRONY),
        without("change, DeliversWhileFrozen", Rules::DeliversWhileFrozen, SYNCHRONY),
        without("change, CutTooLow", Rules::CutTooLow, SYNCHRONY),
        without("change, FrozenRowMoves", Rules::FrozenRowMoves, SAFE),
        without("change, InstallsForeignView", Rules::InstallsForeignView, SELF_INCLUSION),
        without("change, AcceptsUnfetched", Rules::AcceptsUnfetched, COMPLETES),
        without("change, ForgetsOldView", Rules::ForgetsOldView, COMPLETES),
        without("change, EvictedFallsSilent", Rules::EvictedFallsSilent, COMPLETES),
    ]
}

fn groups() -> Vec<Case> {
    use agreement::{ONE_VALUE, Rules};
    let group =
        |excluded, rules| Agreement { joiner: false, quorum: Quorum::Group { excluded }, rules, ..Agreement::small() };
    vec![
        agreement("group, the oldest is excluded", group(0, Rules::AsWritten), None),
        agreement("group, the youngest is excluded", group(2, Rules::AsWritten), None),
        agreement("group, GroupSuspects", group(2, Rules::GroupSuspects), Some(ONE_VALUE)),
    ]
}

fn votes() -> Vec<Case> {
    use vote::{ONE_VALUE, Rules};
    let sites = [0, 0, 1, 2];
    vec![
        vote("vote, the oldest shares its site", Vote::new(&sites, 2, 2, Rules::AsWritten), None),
        vote("vote, the youngest share a site", Vote::new(&[0, 1, 2, 2], 2, 2, Rules::AsWritten), None),
        vote("vote, two sites", Vote::new(&[0, 1, 0, 1], 2, 2, Rules::AsWritten), None),
        big(vote("vote, three attempts", Vote::new(&sites, 3, 2, Rules::AsWritten), None)),
        big(vote("vote, two sites of two", Vote::new(&[0, 0, 1, 1, 2], 2, 2, Rules::AsWritten), None)),
        vote("vote, LaterDeathsCount", Vote::new(&sites, 2, 2, Rules::LaterDeathsCount), Some(ONE_VALUE)),
        vote("vote, OneVotesForSite", Vote::new(&sites, 2, 2, Rules::OneVotesForSite), Some(ONE_VALUE)),
    ]
}

fn foundings() -> Vec<Case> {
    use founding::{ONE_SYSTEM, Rules};
    let without = |name, rules| founding(name, Founding { crashes: 0, ..Founding::small(rules) }, Some(ONE_SYSTEM));
    let small = || Founding::small(Rules::AsWritten);
    vec![
        founding("founding, three sites", small(), None),
        founding("founding, four sites", Founding { sites: 4, restarts: 1, ..small() }, None),
        big(founding("founding, three attempts", Founding { attempts: 3, ..small() }, None)),
        without("founding, ForgetsPledges", Rules::ForgetsPledges),
        without("founding, AnswersUnwritten", Rules::AnswersUnwritten),
        without("founding, PledgesTimeOut", Rules::PledgesTimeOut),
        without("founding, MajorityOfSeen", Rules::MajorityOfSeen),
        without("founding, SitesNamedByBoot", Rules::SitesNamedByBoot),
        founding(
            "founding, HalfOfExpected",
            Founding { sites: 4, restarts: 0, ..Founding::small(Rules::HalfOfExpected) },
            Some(ONE_SYSTEM),
        ),
    ]
}

fn merges() -> Vec<Case> {
    use Beginning::{BothAlive, OlderStalled, YoungerStalled};
    use merge::{COME_TOGETHER, Rules, SOMEBODY_LEFT};
    vec![
        merge("merge, both alive", BothAlive, 0, Rules::AsWritten, None),
        merge("merge, the older one stalled", OlderStalled, 0, Rules::AsWritten, None),
        merge("merge, the younger one stalled", YoungerStalled, 0, Rules::AsWritten, None),
        merge("merge, GivesWayUnadmitted", OlderStalled, 0, Rules::GivesWayUnadmitted, Some(SOMEBODY_LEFT)),
        merge("merge, BothGiveWay", BothAlive, 0, Rules::BothGiveWay, Some(SOMEBODY_LEFT)),
        merge("merge, StalledStays", OlderStalled, 0, Rules::StalledStays, Some(COME_TOGETHER)),
        merge("merge, JoinsStalled", OlderStalled, 0, Rules::JoinsStalled, Some(COME_TOGETHER)),
        merge("merge, a death at the wrong moment", BothAlive, 1, Rules::AsWritten, Some(SOMEBODY_LEFT)),
    ]
}
