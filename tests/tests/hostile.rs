//! What a packet says of its sender is not believed. A birth names a member; what the body says beyond that has to fit to
//! that member: its own attempts, its own site's deaths. (What parsers refuse by themselves: `engine/wire/tests/hostile.rs`.)

use isis_protocol::event::Kind;
use isis_protocol::id::{GroupId, ProcessId};
use isis_protocol::time::SECOND;
use isis_tests::scenario::{Scenario, message_packet};
use isis_wire::message::{Attempt, Message};
use isis_wire::packet::{Header, PacketKind};

/// What a process is called in its system.
fn identifier(s: &Scenario, node: usize) -> ProcessId {
    s.app(node).admitted.expect("it is in a system").1
}

/// A message about the system view, with the header that `from` would write.
fn forge(s: &mut Scenario, from: usize, to: usize, message: &Message) {
    let (system, view) = (s.app(from).admitted.expect("it is in a system").0, s.app(from).system_view.clone());
    let view = view.expect("it has a system view").number;
    let (from, to, birth) = (s.place(from), s.place(to), s.world.nodes[from].nonce.birth());
    let header = Header { kind: PacketKind::Message, birth, system, group: GroupId::SYSTEM, view };
    s.world.inject(from, to, message_packet(&header, message));
}

/// Three processes of two sites, the last two of one, in one group.
fn formed() -> (Scenario, [usize; 3]) {
    let mut s = Scenario::new(&[1, 2]);
    let all = s.start_all();
    s.form_group(&all);
    (s, all)
}

/// "That process is dead", said by one of another site: only its own site can know for certain (R10).
#[test]
fn nobody_reports_deaths_of_another_site() {
    let (mut s, [a, b, c]) = formed();
    let dead = vec![identifier(&s, c)];
    forge(&mut s, a, b, &Message::Deaths { dead });
    s.pass(SECOND / 2);
    assert!(s.system_is(a, &[a, b, c]) && s.system_is(b, &[a, b, c]), "{}", s.text());
    s.multicast(c, Kind::Total, true, 100);
    s.finish();

    // The same from a process of its site is news: the message is not ignored for another reason.
    let (mut s, [a, b, c]) = formed();
    let dead = vec![identifier(&s, c)];
    forge(&mut s, b, a, &Message::Deaths { dead });
    s.pass(SECOND / 2);
    assert!(!s.system_is(a, &[a, b, c]), "{}", s.text());
}

/// A PREPARE in another one's name promises nothing and freezes nobody.
#[test]
fn nobody_proposes_in_the_name_of_another() {
    let frozen = |named: usize| {
        let (mut s, [a, b, c]) = formed();
        let proposer = identifier(&s, [a, b, c][named]);
        let view = s.app(b).system_view.clone().expect("it has a system view").number;
        let attempt = Attempt { system_view: view, counter: 9, proposer };
        forge(&mut s, c, b, &Message::Prepare { attempt, joiners: Vec::new() });
        s.pass(SECOND);
        s.app(b).system_view.clone().expect("it has a system view").number > view
    };
    assert!(!frozen(0), "an attempt of a that c sends");
    assert!(frozen(2), "an attempt of c that c sends: the frozen member sees to a next view");
}
