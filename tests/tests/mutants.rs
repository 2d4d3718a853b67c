//! Planted bugs: the checker catches each of them, by the guarantee that it violates, in seeded runs. Some have a script
//! besides, and those that take a rule out a story each, in `rules`.

use isis_protocol::Handover;
use isis_protocol::event::Kind;
use isis_protocol::time::SECOND;
use isis_tests::checker;
use isis_tests::mutants::{self, Mutant, Planted, Switched};
use isis_tests::scenario::{Scenario, in_stream};
use isis_tests::sim::network::{Packet, Verdict};
use isis_tests::sim::plan::Options;
use isis_tests::sim::run::Run;
use isis_wire::packet::{self, DataHeader};
use std::ops::RangeInclusive;
use std::panic::catch_unwind;

/// Every bug planted against these properties is caught by the property that it names, within [`mutants::SEEDS`] seeds; and
/// each property has one that is. The seed known to show it is tried first; if it no longer does, all are. The seed that
/// shows it does not fail without it.
fn caught(properties: RangeInclusive<u8>) {
    for number in properties.clone() {
        let shown = |p: &&Planted| p.property == number && !mutants::needs_a_story(p);
        assert!(mutants::ALL.iter().any(|p| shown(&p)), "no seed shows a bug against {number}");
    }
    for planted in mutants::ALL.iter().filter(|p| properties.contains(&p.property) && !mutants::needs_a_story(p)) {
        let known = mutants::first_seed(planted);
        let seed = mutants::search(planted, known.into_iter().chain(1..=mutants::SEEDS));
        let seed = seed.unwrap_or_else(|| {
            let name = checker::name(planted.property);
            panic!(
                "{}: {} seeds do not show that {} ({name}) is broken",
                planted.name,
                mutants::SEEDS,
                planted.property
            )
        });
        let calm = Run::execute(seed, &mutants::options());
        assert!(!calm.failed(), "seed {seed} fails without {} too:\n{}", planted.name, calm.text());
    }
}

#[test]
fn bugs_against_1_to_8_are_caught() {
    caught(1..=8);
}

#[test]
fn bugs_against_9_to_14_are_caught() {
    caught(9..=14);
}

#[test]
fn bugs_against_15_to_20_are_caught() {
    caught(15..=20);
}

#[test]
fn bugs_against_21_to_26_are_caught() {
    caught(21..=26);
}

/// Few seeds meet the schedule that this bug needs: a script does, and shows why. Without the bug it passes.
fn caught_by(mutant: Mutant, script: fn()) {
    let planted = mutants::ALL.iter().find(|planted| planted.mutant == mutant).expect("it is listed");
    script();
    let switched = Switched::on(mutant);
    let outcome = catch_unwind(script);
    drop(switched);
    let Err(panic) = outcome else { panic!("the script does not notice {}", planted.name) };
    let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
    assert!(text.contains(&format!("property {} (", planted.property)), "{}:\n{text}", planted.name);
}

/// One multicasts a safe message that nobody else receives, and dies. It must not have delivered it.
fn a_lone_safe_message() {
    let mut s = Scenario::new(&[3]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    let from = s.place(a);
    s.intercept(move |packet| if packet.from == from { Verdict::Drop } else { Verdict::Pass });
    let lone = s.multicast(a, Kind::Fifo, true, 100);
    s.pass(SECOND / 10);
    s.crash(a);
    s.until("the view of the rest", |s| s.view_is(b, &[b, c]) && s.view_is(c, &[b, c]));
    assert!(!s.has(b, lone));
    s.finish();
}

/// One multicasts what only one of the two others receives, and dies. The other one gets it too, before the view without
/// the sender.
fn a_message_that_one_survivor_has() {
    let mut s = Scenario::new(&[3]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    s.drop_packets(c, b, |_| true);
    let lone = s.multicast(c, Kind::Fifo, false, 300);
    s.until("one has it", |s| s.has(a, lone));
    s.crash(c);
    s.until("the view of the rest", |s| s.view_is(a, &[a, b]) && s.view_is(b, &[a, b]));
    s.finish();
}

/// The youngest multicasts an ABCAST that does not reach the member that orders, and dies: the message is delivered at the
/// cut, and before the view.
fn a_message_delivered_at_the_cut() {
    let mut s = Scenario::new(&[3]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    s.drop_packets(c, a, |_| true);
    let last = s.multicast(c, Kind::Total, false, 300);
    s.pass(SECOND / 100);
    s.crash(c);
    s.until("the view of the rest", |s| s.view_is(a, &[a, b]) && s.view_is(b, &[a, b]));
    assert!(s.has(a, last) && s.has(b, last));
    s.finish();
}

/// One multicasts what nobody receives, flushes, and dies: the flush must not have returned.
fn a_flush_of_a_lost_message() {
    let mut s = Scenario::new(&[3]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    let from = s.place(c);
    s.intercept(move |packet| if packet.from == from { Verdict::Drop } else { Verdict::Pass });
    s.multicast(c, Kind::Total, false, 100);
    s.flush(c).expect("a member may flush");
    s.pass(SECOND / 10);
    s.crash(c);
    s.until("the view of the rest", |s| s.view_is(a, &[a, b]) && s.view_is(b, &[a, b]));
    s.multicast(a, Kind::Fifo, false, 100);
    s.finish();
}

/// The two members cannot reach each other's streams, and the client hears of no relay: it tries one and then the other, and
/// both append it.
fn two_relays() {
    let mut s = Scenario::new(&[3]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b]);
    s.become_client(c);
    s.mute_group_and_relays(c);
    let twice = s.multicast(c, Kind::Causal, false, 100);
    s.pass(3 * SECOND);
    s.mend();
    s.until("both have it", |s| s.has(a, twice) && s.has(b, twice));
    s.finish();
}

/// One of three sites is parted, and talks to itself.
fn a_lone_site() {
    let mut s = Scenario::new(&[1, 1, 1]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    s.pass(SECOND);
    s.part(&[2]);
    for _ in 0..16 {
        s.pass(SECOND / 2);
        if !s.app(c).stalled {
            s.multicast(c, Kind::Fifo, false, 100);
        }
    }
    s.finish();
}

#[test]
fn safe_unstable_by_a_script() {
    caught_by(Mutant::SafeUnstable, a_lone_safe_message);
}

#[test]
fn tail_after_view_by_a_script() {
    caught_by(Mutant::TailAfterView, a_message_delivered_at_the_cut);
}

#[test]
fn cut_too_low_by_a_script() {
    caught_by(Mutant::CutTooLow, a_message_that_one_survivor_has);
}

#[test]
fn flush_returns_early_by_a_script() {
    caught_by(Mutant::FlushReturnsEarly, a_flush_of_a_lost_message);
}

#[test]
fn never_stalls_by_a_script() {
    caught_by(Mutant::NeverStalls, a_lone_site);
}

/// The first member delivers a message of the second that the third lacks, and multicasts one that follows it, which all have.
/// It flushes; both die (seed 50037257). The third has to drop what follows a lost message: so the flush may not have returned.
fn a_flush_of_what_follows_a_lost_message() {
    let mut s = Scenario::new(&[3]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    let to = s.place(c);
    s.intercept(move |packet| if packet.to == to && in_stream_of(1, packet) { Verdict::Drop } else { Verdict::Pass });
    let lost = s.multicast(b, Kind::Causal, false, 100);
    s.until("the first has it", |s| s.has(a, lost));
    s.multicast(a, Kind::Causal, false, 100);
    s.flush(a).expect("a member may flush");
    s.pass(SECOND / 5);
    s.crash(b);
    s.crash(a);
    s.mend();
    s.until("the third is alone", |s| s.view_is(c, &[c]));
    assert!(!s.has(c, lost));
    s.finish();
}

/// A message that follows what its sender delivered is dated by a record behind all that was sent at once. As long as the others
/// have the message and not the record they cannot deliver it: a flush may not return, and if the sender dies then, it is lost
/// (seed 148028098).
fn a_flush_of_what_nobody_else_can_date() {
    for dies in [true, false] {
        let mut s = Scenario::new(&[3]);
        let [a, b, c] = s.start_all();
        s.form_group(&[a, b, c]);
        let before = s.multicast(b, Kind::Causal, false, 100);
        s.until("it is everywhere", |s| [a, b, c].iter().all(|&node| s.has(node, before)));
        s.pass(SECOND / 10);
        s.pass_first_packets(a, |packet| in_stream_of(0, packet));
        let dated = s.call(a, |app, ctx| {
            let dated = app.multicast(ctx, 0, (Kind::Causal, false), 100, false).expect("room");
            app.flush(ctx, 0).expect("a member may flush");
            app.multicast(ctx, 0, (Kind::Fifo, false), 150_000, false).expect("room");
            dated
        });
        s.pass(SECOND / 50);
        assert!(!s.has(b, dated) && !s.has(c, dated));
        if dies {
            s.crash(a);
            s.until("a new view", |s| s.view_is(b, &[b, c]) && s.view_is(c, &[b, c]));
        } else {
            s.intercept(|_| Verdict::Pass);
            s.until("it is flushed", |s| s.flushed(a));
            assert!(s.has(b, dated) && s.has(c, dated));
        }
        s.finish();
    }
}

#[test]
fn stable_undated_by_a_script() {
    caught_by(Mutant::StableUndated, a_flush_of_what_nobody_else_can_date);
}

/// Bytes of the stream of the member with this rank, whoever sends them.
fn in_stream_of(rank: u16, packet: &Packet) -> bool {
    in_stream(packet)
        && packet::Packet::parse(&packet.bytes)
            .is_ok_and(|it| DataHeader::parse(it.body).is_ok_and(|(header, ..)| header.rank == rank))
}

/// Two senders, and copies that wait for each other through the windows of two groups: too many steps to write down. Runs in
/// which most ABCASTs go to several groups meet them (`isis-sim --several-groups --mutant starts-apart` finds more).
fn windows_of_several_groups() {
    let options = Options { several_groups: true, ..mutants::options() };
    for seed in 380..420 {
        let report = Run::execute(seed, &options);
        assert!(!report.failed(), "seed {seed}:\n{}", report.text());
    }
}

#[test]
fn starts_apart_by_runs_with_several_groups() {
    caught_by(Mutant::StartsApart, windows_of_several_groups);
}

#[test]
fn flush_forgets_followed_by_a_script() {
    caught_by(Mutant::FlushForgetsFollowed, a_flush_of_what_follows_a_lost_message);
}

/// A client's relay has its message as the only one, and dies. The client asks the other one, who delivers it in its next view.
fn a_lone_relay() {
    let mut s = Scenario::new(&[3]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b]);
    s.become_client(c);
    s.mute_group_and_relays(c);
    let message = s.multicast(c, Kind::Causal, false, 100);
    s.pass(SECOND / 100);
    // Whoever of the two is the relay: the message must not be delivered by it alone.
    let relay = if s.has(b, message) { b } else { a };
    s.crash(relay);
    s.mend();
    let rest = if relay == a { b } else { a };
    s.until("the other one has it", |s| s.has(rest, message));
    s.finish();
}

/// The only member delivers a client's message, and cannot tell the client. A newcomer gets the state; the first one dies.
fn a_joiner_of_a_group_with_a_client() {
    let mut s = Scenario::new(&[3]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a]);
    s.become_client(c);
    s.mute_group_and_relays(c);
    let message = s.multicast(c, Kind::Causal, false, 100);
    s.until("the member has it", |s| s.has(a, message));
    s.mute_relays(c);
    s.join(b);
    s.until("the newcomer has the state", |s| s.view_is(b, &[a, b]));
    s.crash(a);
    s.until("the newcomer is alone", |s| s.view_is(b, &[b]));
    s.finish();
}

/// Somebody says, once, that a datagram to a live process was refused, and for some milliseconds nothing of that one arrives.
fn a_forged_refusal() {
    let mut s = Scenario::new(&[1, 1, 1]);
    let [a, b, c] = s.start_all();
    s.form_group(&[a, b, c]);
    s.pass(SECOND);
    let (from, to) = (s.place(c), s.place(a));
    s.intercept(move |packet| if (packet.from, packet.to) == (from, to) { Verdict::Hold } else { Verdict::Pass });
    s.hint(a, c, &[]);
    s.pass(SECOND / 200);
    s.mend();
    s.pass(SECOND);
    let there = [a, b, c].iter().all(|&n| s.system_is(n, &[a, b, c]));
    assert!(there, "property 21 (membership precision): a process that is up was excluded\n{}", s.text());
    s.finish();
}

#[test]
fn hint_excludes_by_a_script() {
    caught_by(Mutant::HintExcludes, a_forged_refusal);
}

#[test]
fn relays_unsafe_by_a_script() {
    caught_by(Mutant::RelaysUnsafe, a_lone_relay);
}

#[test]
fn joiner_unmarked_by_a_script() {
    caught_by(Mutant::JoinerUnmarked, a_joiner_of_a_group_with_a_client);
}

#[test]
fn delivers_unmarked_by_a_script() {
    caught_by(Mutant::DeliversUnmarked, two_relays);
}

/// The task of ordering moves to the third of four, and neither the second nor the fourth has the record that says so. They do
/// have what the third one ordered then, and all messages: but without the handover that is void, so the third may not deliver a
/// safe one. It and the first die, and the others put the messages into an order of their own.
fn a_safe_abcast_ordered_after_a_handover() {
    let mut s = Scenario::configured(&[4], |config| config.handover = Handover { after: 4, pause_ns: 0 });
    let [a, b, c, d] = s.start_all();
    s.form_group(&[a, b, c, d]);
    s.pass(SECOND / 10);
    let (first, third) = (s.place(a), s.place(c));
    for count in 0..4 {
        if count == 3 {
            s.intercept(move |packet| match packet.from == first && packet.to != third {
                true => Verdict::Drop,
                false => Verdict::Pass,
            });
        }
        s.multicast(c, Kind::Total, false, 100);
        s.pass(SECOND / 1000);
    }
    assert_eq!(s.counter(a, "sequencer_moves"), 1);
    s.multicast(c, Kind::Total, true, 100);
    s.pass(SECOND / 1000);
    s.multicast(b, Kind::Total, true, 100);
    s.pass(SECOND / 20);
    s.crash(a);
    s.crash(c);
    s.mend();
    s.until("the view of the rest", |s| s.view_is(b, &[b, d]) && s.view_is(d, &[b, d]));
    s.finish();
}

#[test]
fn handover_unstable_by_a_script() {
    caught_by(Mutant::HandoverUnstable, a_safe_abcast_ordered_after_a_handover);
}

/// Where no seed is known to show a bug a rule's story does, or a script here.
#[test]
fn what_no_seed_shows_a_story_shows() {
    let (stories, scripts) = ([include_str!("rules.rs"), include_str!("multi.rs")], include_str!("mutants.rs"));
    for planted in mutants::ALL {
        let known = mutants::FIRST_SEEDS.iter().filter(|(name, _)| *name == planted.name).count();
        assert_eq!(known, 1, "{} stands once in the table of first seeds", planted.name);
        if mutants::needs_a_story(planted) {
            let mutant = planted.mutant;
            let shown = match planted.rule {
                Some(rule) => {
                    let story = format!("shows({rule}, Mutant::{mutant:?},");
                    stories.iter().any(|stories| stories.contains(&story))
                }
                None => scripts.contains(&format!("caught_by(Mutant::{mutant:?},")),
            };
            assert!(shown, "{} is shown by nothing", planted.name);
        }
    }
    assert_eq!(mutants::FIRST_SEEDS.len(), mutants::ALL.len());
}

/// Names on the command line are names of one bug each, and the properties that they break exist.
#[test]
fn names_are_good() {
    for planted in mutants::ALL {
        assert_eq!(mutants::by_name(planted.name), Some(planted));
        assert!(checker::PROPERTIES.iter().any(|property| property.number == planted.property));
        assert!(planted.rule.is_none_or(|rule| (1..=15).contains(&rule)));
    }
    assert_eq!(mutants::by_name("no-such-bug"), None);
}
