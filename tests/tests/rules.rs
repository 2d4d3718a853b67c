//! The numbered rules of the protocol. Each answers a schedule that breaks a protocol without it: the story below. A story
//! passes on the engine and fails, in the way that is named, when its rule is taken out (a planted bug); both are tested.

use isis_protocol::JoinOptions;
use isis_protocol::event::Kind;
use isis_protocol::id::{GroupId, Nonce, SystemId};
use isis_protocol::time::{MILLISECOND, SECOND};
use isis_tests::mutants::{self, Mutant, shows};
use isis_tests::scenario::{Scenario, finals_in, in_stream, message, message_packet};
use isis_tests::sim::network::{Packet, Verdict};
use isis_wire::founding::Ballot;
use isis_wire::message::Message;
use isis_wire::packet::{self, DataHeader, PacketKind};
use std::cell::Cell;
use std::rc::Rc;

/// The packet carries bytes of a stream: whether of the system group, and the rank.
fn data(packet: &Packet) -> Option<(bool, u16)> {
    let packet = packet::Packet::parse(&packet.bytes).ok()?;
    if packet.header.kind != PacketKind::Data {
        return None;
    }
    let (data, _, _) = DataHeader::parse(packet.body).ok()?;
    Some((packet.header.group == GroupId::SYSTEM, data.rank))
}

/// Every rule that the engine follows has a planted bug that takes it out.
#[test]
fn every_rule_can_be_taken_out() {
    let mut rules: Vec<u8> = mutants::ALL.iter().filter_map(|planted| planted.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    assert_eq!(rules, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
}

/// R1. The oldest of three, who orders ABCASTs, fills its whole window with ABCASTs at one go. They can be delivered, and so
/// leave the window, only after the record that orders them: it must go out although the window is full.
#[test]
fn r1_a_full_window_does_not_stop_control() {
    shows(1, Mutant::WindowStopsControl, "waited in vain: the window's last message", || {
        let mut s = Scenario::configured(&[3], |config| config.window = 16 << 10);
        let [a, b, c] = s.start_all();
        s.form_group(&[a, b, c]);
        let mut last = s.multicast(a, Kind::Total, false, 100);
        while let Ok(key) = s.try_multicast(a, Kind::Total, false, 100) {
            last = key;
        }
        s.until("the window's last message", |s| s.has(a, last) && s.has(b, last) && s.has(c, last));
        s.finish();
    });
}

/// Two groups of two, with one process in both. It multicasts to both, says the final priority, which does not come through to
/// the first group, and dies. The second group has delivered the message: the first has to ask it.
fn a_final_that_only_one_group_has() {
    let mut s = Scenario::new(&[3]);
    let [a, b, c] = s.start_all();
    s.form(0, 0, &[a, c]);
    s.form(1, 0, &[b, c]);
    let to = s.place(a);
    s.intercept(
        move |packet| if packet.to == to && !finals_in(packet).is_empty() { Verdict::Drop } else { Verdict::Pass },
    );
    let keys = s.multicast_groups(c, &[0, 1], false);
    s.until("the second group has it", |s| s.has(b, keys[1]));
    assert!(!s.has(a, keys[0]), "the schedule is another one:\n{}", s.text());
    s.crash(c);
    s.until("the views of the rest", |s| s.view_is(a, &[a]) && s.view_is(b, &[b]));
    s.finish();
}

/// R2. The view change of the first group asks what the second knows.
#[test]
fn r2_a_view_change_settles_what_is_undecided() {
    shows(2, Mutant::NeverSettles, "property 17", a_final_that_only_one_group_has);
}

/// R2. It asks all processes of the groups: the proposer itself is one, and knows nothing.
#[test]
fn r2_all_processes_of_the_groups_are_asked() {
    shows(2, Mutant::SettlesByFirst, "property 17", a_final_that_only_one_group_has);
}

/// R2. The final priority of a message to two groups comes to one member of the second behind a gap, where it is not read: the
/// only other member lacks it, and has what belongs into the gap. (Two domains, so that messages do not wait for each other.)
/// The sender dies. The one that has it does not hear of its group's view change and gets the missing bytes: it may still
/// learn of the final, and must not say that there is none.
#[test]
fn r2_who_may_still_learn_of_a_final_does_not_answer() {
    shows(2, Mutant::AnswersUnfrozen, "property 17", || {
        let mut s = Scenario::new(&[4]);
        let [a, b, c, d] = s.start_all();
        s.form(0, 0, &[a, c]);
        s.form(1, 1, &[d, b, c]);
        let (first, second, sender, third) = (s.place(a), s.place(b), s.place(c), s.place(d));
        let (held_up, repaired) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
        let (is_held_up, is_repaired) = (Rc::clone(&held_up), Rc::clone(&repaired));
        let came = Rc::new(Cell::new(false));
        let comes = Rc::clone(&came);
        s.intercept(move |packet| {
            let finals = finals_in(packet);
            let lost = match message(packet) {
                Some((false, Message::Prepare { .. })) => packet.to == second,
                _ if packet.from == sender && packet.to == first && is_held_up.get() => in_stream(packet),
                _ if packet.from == third && packet.to == second => !is_repaired.get() && finals.contains(&1),
                _ if packet.to == second => finals.contains(&1),
                _ if packet.to == first || packet.to == third => finals.contains(&2),
                _ => false,
            };
            comes.set(comes.get() || (!lost && packet.to == second && finals.contains(&2)));
            if lost { Verdict::Drop } else { Verdict::Pass }
        });
        s.multicast_groups(c, &[0, 1], false);
        s.pass(MILLISECOND / 100);
        held_up.set(true);
        let keys = s.multicast_groups(c, &[0, 1], false);
        s.until("the third has the first message", |s| s.delivered(d).len() == 1);
        held_up.set(false);
        s.until("the final comes to the second", |_| came.get());
        s.pass(MILLISECOND);
        s.crash(c);
        s.until("the rest is a system", |s| [a, b, d].iter().all(|&n| s.system_is(n, &[a, b, d])));
        s.pass(50 * MILLISECOND);
        repaired.set(true);
        s.pass(50 * MILLISECOND);
        s.mend();
        s.until("the views of the rest", |s| s.view_is(a, &[a]) && s.view_is(b, &[d, b]));
        assert!(s.has(b, keys[1]), "the schedule is another one:\n{}", s.text());
        s.finish();
    });
}

/// R2. A fourth process joins the first group while the proposal of the second is under way: the sender is frozen in the first
/// when it knows the highest one. It says the final in both groups, as one step, or in none.
#[test]
fn r2_a_final_is_said_in_all_groups_at_once() {
    shows(2, Mutant::FinalByGroup, "property 22", || {
        let mut s = Scenario::new(&[4]);
        let [a, b, c, d] = s.start_all();
        s.form(0, 0, &[a, c]);
        s.form(1, 0, &[b, c]);
        let (from, to) = (s.place(b), s.place(c));
        let late = Rc::new(Cell::new(true));
        let is_late = Rc::clone(&late);
        s.intercept(move |packet| match message(packet) {
            Some((false, Message::Accept { .. })) if packet.to == to => Verdict::Hold,
            _ if is_late.get() && packet.from == from && packet.to == to && in_stream(packet) => Verdict::Drop,
            _ => Verdict::Pass,
        });
        let keys = s.multicast_groups(c, &[0, 1], false);
        s.pass(20 * MILLISECOND);
        s.join(d);
        s.until("the sender is frozen in the first group", |s| s.world.network.held() > 0);
        late.set(false);
        s.pass(50 * MILLISECOND);
        s.mend();
        s.until("the view of three", |s| s.view_is(a, &[a, c, d]) && s.view_is(d, &[a, c, d]));
        s.pass(SECOND);
        assert!(!s.has(d, keys[0]) || s.has(a, keys[0]));
        s.finish();
    });
}

/// R3. The youngest multicasts a message of many windows and at once asks to leave. The message is still being appended when
/// the others hear of the wish: the leave waits, and everybody delivers the message.
#[test]
fn r3_a_leave_waits_for_earlier_sends() {
    shows(3, Mutant::LeavesBeforeSends, "property 22", || {
        let mut s = Scenario::configured(&[3], |config| config.window = 16 << 10);
        let [a, b, c] = s.start_all();
        s.form_group(&[a, b, c]);
        s.multicast(c, Kind::Fifo, false, 200_000);
        s.leave(c).expect("a member may leave");
        s.until("the view of those who stay", |s| s.view_is(a, &[a, b]) && s.view_is(b, &[a, b]));
        s.finish();
    });
}

/// Three processes in two groups. The first asks in one, the second answers in the other one, and the question is late at
/// the third. Whether the answer has come to the third by then.
fn question_and_answer(s: &mut Scenario, domain: u32) -> bool {
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    let options = JoinOptions { wants_state: true, domain, ..JoinOptions::default() };
    for (count, node) in [a, b, c].into_iter().enumerate() {
        s.join_as(node, 1, &options);
        let present = &[a, b, c][..=count];
        s.until("the second group is formed", |s| present.iter().all(|&n| s.view_is(n, present)));
    }
    let to = s.place(c);
    s.intercept(move |packet| match data(packet) {
        Some((false, 0)) if packet.to == to => Verdict::Hold,
        _ => Verdict::Pass,
    });
    let ask = s.call(a, |app, ctx| app.multicast(ctx, 0, (Kind::Causal, false), 50, false));
    let question = ask.expect("a member may multicast");
    s.until("the question is with the second", |s| s.has(b, question));
    let answer = s.multicast(b, Kind::Causal, false, 50);
    s.pass(50 * MILLISECOND);
    let early = s.has(c, answer);
    s.mend();
    s.until("everybody has both", |s| [a, b, c].iter().all(|&n| s.has(n, question) && s.has(n, answer)));
    early
}

/// R4. An answer is in another group than its question, which is late at one process of both. The answer waits until the
/// question is delivered everywhere.
#[test]
fn r4_an_answer_in_another_group_waits_for_its_question() {
    shows(4, Mutant::CausalWithinGroupOnly, "property 12", || {
        let mut s = Scenario::new(&[3]);
        question_and_answer(&mut s, 0);
        s.finish();
    });
}

/// R4. A message to two groups comes through one of them, and who has it multicasts in a third group. A member of that one
/// gets the message through the other, where its final priority is late: the answer waits.
#[test]
fn r4_an_answer_waits_for_all_groups_of_a_message_to_several() {
    shows(4, Mutant::ForgetsOtherGroups, "property 12", || {
        let mut s = Scenario::new(&[3]);
        let [a, b, c] = s.start_all();
        s.form(0, 0, &[c, a]);
        s.form(1, 0, &[c, b]);
        s.form(2, 0, &[a, b]);
        let to = s.place(a);
        s.intercept(move |packet| {
            let late = packet.to == to && !finals_in(packet).is_empty();
            if late { Verdict::Drop } else { Verdict::Pass }
        });
        let keys = s.multicast_groups(c, &[0, 1], false);
        s.until("it is there through one group", |s| s.has(b, keys[1]));
        let answer = s.multicast(b, Kind::Causal, false, 50);
        s.pass(50 * MILLISECOND);
        assert!(!s.has(a, keys[0]), "the schedule is another one:\n{}", s.text());
        s.mend();
        s.until("all is there", |s| s.has(a, keys[0]) && s.has(a, answer));
        s.finish();
    });
}

/// R4. Groups of different domains know nothing of each other, and nothing waits.
#[test]
fn r4_domains_do_not_wait_for_each_other() {
    let mut s = Scenario::new(&[3]);
    assert!(question_and_answer(&mut s, 7), "the answer is there before the question");
    s.finish();
}

/// R5. A fourth process joins. The second member has promised, and with that has said where its stream ends, when its
/// application multicasts (the ACCEPT is still under way). The message belongs to the next view: what was appended to the old
/// stream would lie beyond the cut, and be lost.
#[test]
fn r5_a_promised_member_appends_nothing() {
    shows(5, Mutant::AppendsWhileFrozen, "property 23", || {
        let mut s = Scenario::new(&[4]);
        let [a, b, c, d] = s.start_all();
        s.form_group(&[a, b, c]);
        let to = s.place(b);
        s.intercept(move |packet| match message(packet) {
            Some((false, Message::Accept { .. })) if packet.to == to => Verdict::Hold,
            _ => Verdict::Pass,
        });
        s.join(d);
        s.until("the ACCEPT for b is under way", |s| s.world.network.held() > 0);
        s.multicast(b, Kind::Causal, false, 100);
        s.mend();
        s.until("the view of four", |s| [a, b, c, d].iter().all(|&n| s.view_is(n, &[a, b, c, d])));
        s.finish();
    });
}

/// R5. A fourth process joins; the first two have promised, the third never hears of it and multicasts a safe message. The
/// two store it, and do not report it: it lies beyond what they promised. So the third cannot take it for stable, does not
/// deliver it, and dies; the view without it comes without the message.
#[test]
fn r5_the_row_of_a_promised_member_is_frozen() {
    shows(5, Mutant::FrozenRowMoves, "property 16", || {
        let mut s = Scenario::new(&[4]);
        let [a, b, c, d] = s.start_all();
        s.form_group(&[a, b, c]);
        let to = s.place(c);
        let promised = Rc::new(Cell::new(false));
        let seen = Rc::clone(&promised);
        s.intercept(move |packet| match message(packet) {
            Some((false, Message::Prepare { .. })) if packet.to == to => Verdict::Drop,
            Some((false, Message::Promised { .. })) => {
                seen.set(true);
                Verdict::Pass
            }
            _ => Verdict::Pass,
        });
        s.join(d);
        s.until("the second has promised", |_| promised.get());
        s.multicast(c, Kind::Fifo, true, 100);
        s.pass(20 * MILLISECOND);
        s.crash(c);
        s.until("the view of the rest", |s| [a, b, d].iter().all(|&n| s.view_is(n, &[a, b, d])));
        s.finish();
    });
}

/// R6. A fourth process joins. The oldest decides the view of four, installs it, and dies before its DECIDE reaches anybody.
/// All others have accepted: whoever takes over has to decide the same view of four, the dead one in it, and the view
/// without the dead one comes after it.
#[test]
fn r6_an_accepted_value_is_proposed_again() {
    shows(6, Mutant::ProposesAfresh, "property 4", || {
        let mut s = Scenario::new(&[4]);
        let [a, b, c, d] = s.start_all();
        s.form_group(&[a, b, c]);
        let from = s.place(a);
        s.intercept(move |packet| match message(packet) {
            Some((false, Message::Decide { .. })) if packet.from == from => Verdict::Drop,
            _ => Verdict::Pass,
        });
        s.join(d);
        s.until("a has the view of four", |s| s.view_is(a, &[a, b, c, d]));
        s.crash(a);
        s.until("the view of the rest", |s| s.view_is(b, &[b, c, d]) && s.view_is(c, &[b, c, d]));
        s.finish();
    });
}

/// R7. The oldest orders ABCASTs and is in the middle of a long message of its own, stopped by its window because the fourth
/// hears nothing. Between the fragments it orders the third's ABCAST before the second's (neither of the two had the other's
/// when it sent: causality leaves the order open). The second delivers both; the third misses the orders; the oldest dies. The long message is void, the orders in the middle of it are not: the third gets them
/// with the view change and delivers in the same order as the second.
#[test]
fn r7_orders_inside_an_unfinished_message_count() {
    shows(7, Mutant::UnfinishedHidesControl, "property 13", || {
        let mut s = Scenario::configured(&[4], |config| config.window = 16 << 10);
        let [a, b, c, d] = s.start_all();
        s.form_group(&[a, b, c, d]);
        let (second, third, fourth) = (s.place(b), s.place(c), s.place(d));
        let early = Rc::new(Cell::new(true));
        let second_is_deaf = Rc::clone(&early);
        let deaf = Rc::new(Cell::new(false));
        let third_is_deaf = Rc::clone(&deaf);
        let mut accepting = false;
        s.intercept(move |packet| {
            accepting |= matches!(message(packet), Some((false, Message::Accept { .. })));
            let lost = match data(packet) {
                Some((false, rank)) => {
                    packet.to == fourth
                        || packet.to == third && rank == 0 && third_is_deaf.get()
                        || packet.to == second && rank == 2 && second_is_deaf.get()
                }
                _ => false,
            };
            if lost && !accepting { Verdict::Drop } else { Verdict::Pass }
        });
        let long = s.multicast(a, Kind::Fifo, false, 60_000);
        s.pass(5 * MILLISECOND);
        deaf.set(true);
        let first = s.multicast(c, Kind::Total, false, 50);
        s.pass(2 * MILLISECOND);
        let second = s.multicast(b, Kind::Total, false, 50);
        s.pass(2 * MILLISECOND);
        early.set(false);
        s.until("the second delivers both", |s| s.has(b, first) && s.has(b, second));
        assert!(!s.has(c, first) && !s.has(b, long), "the schedule is another one:\n{}", s.text());
        s.crash(a);
        s.until("the view of the rest", |s| [b, c, d].iter().all(|&n| s.view_is(n, &[b, c, d])));
        s.finish();
    });
}

/// R8. On three sites: the third hears nothing of what the oldest multicasts in the system group (a directory operation). A
/// fourth process starts; the first two sites decide the next system view, with the third in it and with the operation before
/// its cut. When the third can hear again the others are long in the new view, and must still have the old one's bytes.
#[test]
fn r8_the_past_is_answered_for() {
    shows(8, Mutant::ForgetsOldView, "waited in vain: the third has the view too", || {
        let mut s = Scenario::new(&[2, 1, 1]);
        let (a, b, c) = (s.admit(0), s.admit(2), s.admit(3));
        s.until("the system of three", |s| [a, b, c].iter().all(|&n| s.system_is(n, &[a, b, c])));
        s.pass(100 * MILLISECOND);
        let deaf = s.place(c);
        s.intercept(move |packet| match data(packet) {
            Some((true, _)) if packet.to == deaf => Verdict::Drop,
            _ => Verdict::Pass,
        });
        s.join(a);
        s.pass(5 * MILLISECOND);
        let d = s.start(1);
        s.until("the system of four", |s| s.system_is(a, &[a, b, c, d]) && s.system_is(b, &[a, b, c, d]));
        s.pass(50 * MILLISECOND);
        assert!(s.system_is(c, &[a, b, c]), "the schedule is another one:\n{}", s.text());
        s.mend();
        s.until("the third has the view too", |s| s.system_is(c, &[a, b, c, d]));
        s.finish();
    });
}

/// R8. Four sites; the fourth is parted, and the first decides the view without it. Only the fourth, which is back, hears of
/// the decision before the first one dies: the two that are left are no quorum of the four, but of the three. Whoever is
/// evicted tells the others why.
#[test]
fn r8_the_evicted_tell_the_decision() {
    shows(8, Mutant::EvictedFallsSilent, "waited in vain: the two go on", || {
        let mut s = Scenario::new(&[1, 1, 1, 1]);
        let [a, b, c, d] = s.start_all();
        s.form_group(&[a, b, c]);
        // Long enough to know how long silences are.
        s.pass(SECOND);
        let (from, back) = (s.place(a), s.place(d));
        s.intercept(move |packet| match message(packet) {
            Some((true, Message::Decide { .. })) if packet.from == from && packet.to != back => Verdict::Drop,
            _ => Verdict::Pass,
        });
        s.part(&[3]);
        s.until("the first has decided", |s| s.system_is(a, &[a, b, c]));
        s.world.network.unblock_all();
        s.until("the fourth is evicted", |s| !s.world.nodes[d].alive());
        s.crash_site(0);
        s.until("the two go on", |s| s.view_is(b, &[b, c]) && s.view_is(c, &[b, c]));
        s.finish();
    });
}

/// R9. Three sites, one member of a group on each; the third is parted. Both sides suspect each other, and only the system
/// view says who has failed: the two have a next view, the third has none, and is evicted when it is back.
#[test]
fn r9_groups_exclude_whom_the_system_excludes() {
    shows(9, Mutant::GroupSuspects, "property 4", || {
        let mut s = Scenario::new(&[1, 1, 1]);
        let [a, b, c] = s.start_all();
        s.form_group(&[a, b, c]);
        // Long enough to know how long silences are.
        s.pass(SECOND);
        s.part(&[2]);
        s.until("the view of the majority", |s| s.view_is(a, &[a, b]) && s.view_is(b, &[a, b]));
        s.pass(3 * SECOND);
        s.finish();
    });
}

/// R10. Four places on one site. A fourth process starts; the oldest proposes the system view of four, has everybody's
/// promise, and nobody gets its ACCEPT. Alone it is not its site: it decides nothing, and dies. The rest decide another view
/// in its place.
#[test]
fn r10_one_process_is_not_its_site() {
    shows(10, Mutant::OneVotesForSite, "property 4", || {
        let mut s = Scenario::new(&[4]);
        let [a, b, c] = s.start_all();
        s.form_group(&[a, b, c]);
        let from = s.place(a);
        let proposed = Rc::new(Cell::new(false));
        let seen = Rc::clone(&proposed);
        s.intercept(move |packet| match message(packet) {
            Some((true, Message::Accept { .. } | Message::Decide { .. })) if packet.from == from => {
                seen.set(true);
                Verdict::Drop
            }
            _ => Verdict::Pass,
        });
        s.start(3);
        s.until("a asks to accept", |_| proposed.get());
        s.pass(10 * MILLISECOND);
        s.crash(a);
        s.until("the view of the rest", |s| s.view_is(b, &[b, c]) && s.view_is(c, &[b, c]));
        s.finish();
    });
}

/// R11. A system of one process; two others, on two more sites, ask to be admitted, and both are heard of in time for the same
/// view (an attempt for a fourth process that does not answer is under way). Both die before they learn that they
/// are in. One new site beside one old one: the oldest goes on. Two beside one: it would have lost its quorum to sites that
/// never had the view.
#[test]
fn r11_no_more_new_sites_than_old_ones() {
    shows(11, Mutant::AdmitsAllSites, "waited in vain: the oldest goes on", || {
        let mut s = Scenario::new(&[2, 1, 1]);
        let a = s.start(0);
        s.until("a system of one", |s| s.app(a).system_view.is_some());
        s.join(a);
        s.until("a group of one", |s| s.view_is(a, &[a]));
        let asked = Rc::new(Cell::new(false));
        let seen = Rc::clone(&asked);
        s.intercept(move |packet| match message(packet) {
            Some((true, Message::Join { .. })) if packet.from == 1 => {
                seen.set(true);
                Verdict::Pass
            }
            Some((true, Message::JoinerReady { .. })) if packet.from == 1 => Verdict::Drop,
            Some((true, Message::Decide { .. })) => Verdict::Drop,
            _ => Verdict::Pass,
        });
        let silent = s.start(1);
        s.until("the one that does not answer asks", |_| asked.get());
        s.start(2);
        s.start(3);
        s.until("somebody is admitted", |s| s.app(a).system_view.as_ref().is_some_and(|v| v.members.len() > 1));
        s.crash_site(1);
        s.crash_site(2);
        s.crash(silent);
        s.until("the oldest goes on", |s| s.system_is(a, &[a]));
        s.finish();
    });
}

/// R12. Four sites start while they are parted in halves. Neither half is a majority of four: nobody founds anything before
/// the halves meet.
#[test]
fn r12_no_system_without_a_majority_of_the_expected_sites() {
    shows(12, Mutant::FoundsAlone, "property 20", || {
        let mut s = Scenario::configured(&[1, 1, 1, 1], |config| config.expected_sites = 4);
        s.part(&[2, 3]);
        let nodes: Vec<usize> = (0..4).map(|place| s.start(place)).collect();
        for &node in &nodes {
            s.join(node);
        }
        s.pass(5 * SECOND);
        s.mend();
        s.pass(5 * SECOND);
        s.finish();
    });
}

/// R12. The first two of three sites accept a system; the second's answer is under way when its host dies, and comes up again
/// while the first is parted. The second site remembers what it accepted: it and the third close that founding with the same
/// system, find it dead, and found the next one. What the first decides when the answer arrives is the same.
#[test]
fn r12_a_site_remembers_what_it_accepted() {
    shows(12, Mutant::ForgetsPledge, "founding 1 is", || {
        let mut s = Scenario::configured(&[1, 1, 1], |config| config.expected_sites = 3);
        let held = Rc::new(Cell::new(0));
        let seen = Rc::clone(&held);
        s.intercept(move |packet| match message(packet) {
            Some((true, Message::FoundingAccepted { .. })) if packet.from == 1 => {
                seen.set(seen.get() + 1);
                Verdict::Hold
            }
            Some((true, Message::FoundingAccept { .. })) if packet.from == 1 => Verdict::Drop,
            _ => Verdict::Pass,
        });
        // The first is the only one that may found: the second hears of nobody else yet.
        let a = s.world.start(0, &[1], None);
        s.world.start(1, &[], None);
        s.until("the second has accepted", |_| held.get() > 0);
        s.world.network.interceptor = None;
        s.crash_site(1);
        s.part(&[0]);
        let (b, c) = (s.start(1), s.start(2));
        s.until("a system of the two", |s| s.system_is(b, &[b, c]) || s.system_is(b, &[c, b]));
        s.release();
        s.pass(SECOND);
        assert!(s.app(a).system_view.is_none(), "the first is alone:\n{}", s.text());
        s.join(b);
        s.until("a group", |s| s.view_is(b, &[b]));
        s.finish_safe();
    });
}

/// R12. Two of three sites are in a system, the third one is not up. The process of the second dies and starts again: the first
/// has no majority any more, and none of the system's sites can come back into it. It gives the system up as soon as the
/// second says that nobody lives there, and the two found the next one. Nothing of this takes the third site.
#[test]
fn r12_a_system_that_is_lost_for_good_is_followed_by_another() {
    let mut s = Scenario::configured(&[1, 1, 1], |config| config.expected_sites = 3);
    let (a, b) = (s.start(0), s.start(1));
    s.until("the first system", |s| [a, b].iter().all(|&n| s.app(n).system_view.is_some()));
    s.join(a);
    s.until("a group", |s| s.view_is(a, &[a]));
    s.crash(b);
    let b = s.start(1);
    s.until("the first stalls", |s| s.app(a).stalled || !s.world.nodes[a].alive());
    s.until("the first gives its system up", |s| !s.world.nodes[a].alive());
    let a = s.start(0);
    s.until("the second system", |s| [a, b].iter().all(|&n| s.app(n).system_view.is_some()));
    let c = s.start(2);
    s.until("the third joins", |s| {
        [a, b, c].iter().all(|&n| s.app(n).system_view.as_ref().is_some_and(|v| v.members.len() == 3))
    });
    s.join(c);
    s.until("a group", |s| s.view_is(c, &[c]));
    s.finish();
}

/// R12. The third of three sites hears of the first founding's number and system from a founder of the second one, before it
/// hears the decision itself, which lists its process. The process enters all the same.
#[test]
fn r12_the_number_of_a_founding_may_be_heard_before_its_list() {
    let mut s = Scenario::configured(&[1, 1, 1], |config| config.expected_sites = 3);
    s.intercept(|packet| match message(packet) {
        Some((true, Message::Founded { .. } | Message::PledgeRefused { .. })) if packet.to == 2 => Verdict::Drop,
        _ => Verdict::Pass,
    });
    let all @ [a, b, c] = [0, 1, 2].map(|place| s.start(place));
    s.until("a system of the other two", |s| [a, b].iter().all(|&n| s.app(n).system_view.is_some()));
    assert_eq!(s.app(a).system_view.as_ref().map(|view| view.members.len()), Some(3), "{}", s.text());

    let founding = s.world.sites[0].disk.foundation.clone();
    let stranger = Nonce(7);
    let header = packet::Header {
        kind: PacketKind::Message,
        birth: stranger.birth(),
        system: SystemId::default(),
        group: GroupId::SYSTEM,
        view: 0,
    };
    let ballot = Ballot { founding: 2, counter: 1, founder: stranger };
    let next = Message::Pledge { ballot, expected: 3, previous: founding.system, free: Vec::new() };
    s.world.inject(0, 2, message_packet(&header, &next));
    s.until("the third knows the number", |s| s.world.sites[2].disk.decided == 1);
    assert!(s.world.sites[2].disk.foundation.members.is_empty() && s.app(c).system_view.is_none(), "{}", s.text());

    s.world.network.interceptor = None;
    s.until("the third enters", |s| all.iter().all(|&n| s.app(n).system_view.is_some()));
    s.form_group(&all);
    s.finish();
}

/// R13. Two systems, founded apart, hear of each other, but no wish to be admitted gets through. Neither gives way before the
/// other one has admitted it. When wishes get through, the younger one does.
#[test]
fn r13_a_system_gives_way_only_once_admitted() {
    shows(13, Mutant::GivesWayUnadmitted, "gave way without being admitted", || {
        let mut s = Scenario::new(&[1, 1]);
        s.part(&[1]);
        let [a, b] = s.start_all();
        s.join(a);
        s.join(b);
        s.until("a group on each side", |s| s.view_is(a, &[a]) && s.view_is(b, &[b]));
        let met = Rc::new(Cell::new(false));
        let seen = Rc::clone(&met);
        s.intercept(move |packet| match message(packet) {
            Some((true, Message::Join { .. })) => Verdict::Drop,
            Some((true, Message::Found { .. })) => {
                seen.set(true);
                Verdict::Pass
            }
            _ => Verdict::Pass,
        });
        s.world.network.unblock_all();
        s.until("the systems hear of each other", |_| met.get());
        s.pass(5 * SECOND);
        let alive = |s: &Scenario| [a, b].iter().filter(|&&n| s.world.nodes[n].alive()).count();
        assert_eq!(alive(&s), 2, "gave way without being admitted:\n{}", s.text());
        s.mend();
        s.until("the younger gives way", |s| alive(s) == 1);
        s.finish();
    });
}

/// R14. One of three hosts dies and its process starts again, at the same address, before anybody missed it. The new one talks
/// all the time; that is no sign of life of the old one: the old one is excluded, and the new one admitted.
#[test]
fn r14_a_new_incarnation_is_not_the_old_one() {
    shows(14, Mutant::TrustsAddress, "waited in vain: the new incarnation is in", || {
        let mut s = Scenario::new(&[1, 1, 1]);
        let [a, b, c] = s.start_all();
        s.form_group(&[a, b, c]);
        s.crash_site(2);
        let again = s.start(2);
        s.until("the new incarnation is in", |s| s.system_is(a, &[a, b, again]) && s.system_is(again, &[a, b, again]));
        s.finish();
    });
}

/// R15. Whoever made a group dies; the second member has the group's state. The group lives on in the directory, and a third
/// process that joins the name comes into it, and does not found another one.
#[test]
fn r15_a_group_ends_with_its_last_entry() {
    shows(15, Mutant::EndsWithFounder, "property 21", || {
        let mut s = Scenario::new(&[3]);
        let [a, b, c] = s.start_all();
        s.form_group(&[a, b]);
        s.crash(a);
        s.until("the second is alone", |s| s.view_is(b, &[b]));
        s.join(c);
        s.until("the third has a view", |s| s.view(c).is_some());
        s.finish();
    });
}
