//! A node over stand-ins: what the runtime itself promises, in both modes.

use crate::fake::{ME, Script, Shared, pair};
use crate::{CommandName, Mode, Node, NodeError, NodeEvent, Options, WaitStrategy};
use isis_protocol::{GroupHandle, Instant, JoinOptions, Kind, MessageId, ProcessId, Refused, SendOptions};
use isis_transport::SiteEvent;
use std::os::fd::AsFd;
use std::time::{Duration, Instant as WallInstant};

const SECOND: u64 = 1_000_000_000;
const FIFO: SendOptions = SendOptions { kind: Kind::Fifo, safe: false, entry: 3 };

fn open(mode: Mode, change: impl FnOnce(&mut Options)) -> (Node, Shared) {
    let mut options = Options { mode, command_ring: 4096, event_ring: 4096, group_backlog: 1024, ..Options::new() };
    change(&mut options);
    let (machine, port, shared) = pair();
    (Node::over(options, machine, port).expect("a node"), shared)
}

/// In both modes, with each wait strategy.
fn everywhere(test: impl Fn(Node, Shared)) {
    for mode in [Mode::Inline, Mode::Threaded] {
        for wait in [WaitStrategy::Spin, WaitStrategy::Yield, WaitStrategy::Block] {
            let (node, shared) = open(mode, |options| options.wait = wait);
            test(node, shared);
        }
    }
}

fn next(node: &mut Node) -> NodeEvent {
    assert!(node.wait(Some(10 * SECOND)).expect("no error"), "an event was due");
    node.poll_event().expect("no error").expect("wait said so")
}

fn quiet(node: &mut Node) {
    assert!(!node.wait(Some(SECOND / 100)).expect("no error"), "unexpected {:?}", node.poll_event());
}

/// Joins a group and reads the two events that come with it.
fn join(node: &mut Node) -> GroupHandle {
    let group = node.join("quotes", JoinOptions::default()).expect("joins");
    let mut seen = 0;
    while seen < 2 {
        match next(node) {
            NodeEvent::View { group: of, .. } => assert_eq!(of, group),
            NodeEvent::SystemJoined { .. } => (),
            other => panic!("unexpected {other:?}"),
        }
        seen += 1;
    }
    group
}

fn bytes(node: &Node, event: &NodeEvent) -> Vec<u8> {
    match event {
        NodeEvent::Message(message) => node.payload(message).to_vec(),
        other => panic!("wanted a message, got {other:?}"),
    }
}

#[test]
fn a_message_comes_back_with_its_bytes_and_fields() {
    everywhere(|mut node, shared| {
        assert_eq!(node.rank(GroupHandle(1)), None);
        let group = join(&mut node);
        assert_eq!((node.process(), node.rank(group)), (Some(ME), Some(0)));
        assert_eq!(node.view(group).expect("a view").members.len(), 1);
        assert_eq!(shared.get().joined_groups, [7], "the group's multicasts are received");
        for len in [0, 5, 1000, 50_000] {
            let data = vec![len as u8; len];
            node.multicast(group, FIFO, &data).expect("taken");
            let event = next(&mut node);
            assert_eq!(bytes(&node, &event), data);
            let NodeEvent::Message(message) = event else { panic!("a message") };
            assert_eq!((message.group, message.entry, message.kind), (group, 3, Kind::Fifo));
            assert_eq!(message.payload.len(), len);
        }
        node.send(group, ME, 8, b"to you").expect("taken");
        let event = next(&mut node);
        assert_eq!(bytes(&node, &event), b"to you");
        let to = MessageId { number: 77, ..MessageId::default() };
        node.reply(group, to, b"answer").expect("taken");
        match next(&mut node) {
            NodeEvent::Message(message) => assert_eq!((message.kind, message.answers), (Kind::Reply, Some(to))),
            other => panic!("unexpected {other:?}"),
        }
        let flush = node.flush(group).expect("taken");
        assert!(matches!(next(&mut node), NodeEvent::Flushed { flush: done, .. } if done == flush));
        quiet(&mut node);
    });
}

#[test]
fn claims_are_written_in_place() {
    everywhere(|mut node, _| {
        let group = join(&mut node);
        assert!(matches!(node.commit(group, FIFO), Err(NodeError::BadClaim)));
        for round in 1..4_u8 {
            node.claim(group, 24).expect("claimed");
            let place = node.claimed(group).expect("open");
            assert_eq!((place.as_ptr() as usize % 8, place.len()), (0, 24));
            place.fill(round);
            node.commit(group, FIFO).expect("committed");
            let event = next(&mut node);
            assert_eq!(bytes(&node, &event), [round; 24]);
        }
        node.claim(group, 8).expect("claimed");
        node.abort(group).expect("aborted");
        assert!(matches!(node.abort(group), Err(NodeError::BadClaim)));
        quiet(&mut node);
    });
}

#[test]
fn calls_say_at_once_what_can_be_known_at_once() {
    let (mut node, _) = open(Mode::Threaded, |options| options.max_message = 100);
    assert!(matches!(node.multicast(GroupHandle(1), FIFO, b"x"), Err(NodeError::NotMember)));
    let early = node.join("quotes", JoinOptions::default()).expect("joins");
    assert!(matches!(node.multicast(early, FIFO, b"x"), Err(NodeError::NotMember)), "the first view was not seen");
    while !matches!(next(&mut node), NodeEvent::View { .. }) {}
    assert!(matches!(node.multicast(early, FIFO, &[0; 101]), Err(NodeError::TooLong)));
    let unicast = SendOptions { kind: Kind::Unicast, ..FIFO };
    assert!(matches!(node.multicast(early, unicast, b"x"), Err(NodeError::BadKind)));
    node.leave(early).expect("leaves");
    assert!(matches!(node.multicast(early, FIFO, b"x"), Err(NodeError::NotMember)));
    while !matches!(next(&mut node), NodeEvent::Left { .. }) {}
    assert!(matches!(node.leave(early), Err(NodeError::NotMember)));
    assert!(node.view(early).is_none());
}

/// A client sends without a view, hears of each multicast by its ticket, and has neither claims nor GBCASTs.
#[test]
fn a_client_is_told_what_is_completed() {
    everywhere(|mut node, _| {
        let group = node.join("quotes", JoinOptions { client: true, ..JoinOptions::default() }).expect("joins");
        if node.mode() == Mode::Threaded {
            assert!(matches!(node.multicast(group, FIFO, b"x"), Err(NodeError::NotMember)), "not registered");
        }
        // The system is joined at the same time.
        let mut seen = [next(&mut node), next(&mut node)];
        seen.sort_by_key(|event| matches!(event, NodeEvent::Registered { .. }));
        assert!(matches!(seen[0], NodeEvent::SystemJoined { .. }));
        assert!(matches!(seen[1], NodeEvent::Registered { group: of, .. } if of == group));
        assert!(node.view(group).is_none());
        if node.mode() == Mode::Threaded {
            assert!(matches!(node.claim(group, 8), Err(NodeError::NotMember)));
            let global = SendOptions { kind: Kind::Global, ..FIFO };
            assert!(matches!(node.multicast(group, global, b"x"), Err(NodeError::BadKind)));
        }
        let sent: Vec<u64> = (0..5).map(|_| node.multicast(group, FIFO, b"x").expect("taken")).collect();
        for ticket in sent {
            assert!(matches!(next(&mut node), NodeEvent::Completed { ticket: done, .. } if done == ticket));
        }
        node.multicast(group, FIFO, b"the last member dies").expect("taken");
        assert!(matches!(next(&mut node), NodeEvent::GroupEnded { group: of } if of == group));
        if node.mode() == Mode::Threaded {
            assert!(matches!(node.multicast(group, FIFO, b"x"), Err(NodeError::NotMember)));
        }
    });
}

#[test]
fn what_only_the_core_knows_comes_as_an_event() {
    let (mut node, _) = open(Mode::Threaded, |_| ());
    let group = join(&mut node);
    node.multicast(group, FIFO, b"refuse").expect("taken");
    match next(&mut node) {
        NodeEvent::Refused { group: of, command, reason, .. } => {
            assert_eq!((of, command, reason), (group, CommandName::Multicast, Refused::Ended));
        }
        other => panic!("unexpected {other:?}"),
    }
    let other = node.join("refused", JoinOptions::default()).expect("taken");
    assert!(matches!(next(&mut node), NodeEvent::Refused { command: CommandName::Join, .. }));
    assert!(matches!(next(&mut node), NodeEvent::Left { group } if group == other));
}

#[test]
fn a_full_window_blocks_its_group_only_and_writable_follows() {
    let (mut node, shared) = open(Mode::Threaded, |_| ());
    let group = join(&mut node);
    shared.get().window = 0;
    let mut taken = 0_u32;
    while node.multicast(group, FIFO, &taken.to_le_bytes()).is_ok() {
        taken += 1;
        assert!(taken < 1000, "a backlog of 1 KiB holds fewer");
    }
    assert!(taken >= 1024 / 68, "{taken} is less than the backlog");
    quiet(&mut node);
    let other = node.join("other", JoinOptions::default()).expect("the ring is free");
    while !matches!(next(&mut node), NodeEvent::View { .. }) {}
    node.send(other, ME, 1, b"past").expect("another group's lane is free");
    loop {
        let event = next(&mut node);
        if matches!(event, NodeEvent::Message(_)) {
            assert_eq!(bytes(&node, &event), b"past");
            break;
        }
    }
    shared.get().window = usize::MAX;
    shared.make_readable();
    let (mut seen, mut writable) = (0_u32, false);
    while seen < taken || !writable {
        let event = next(&mut node);
        match &event {
            NodeEvent::Writable { group: of } => {
                assert_eq!(*of, group);
                writable = true;
            }
            _ => {
                assert_eq!(bytes(&node, &event), seen.to_le_bytes(), "in the order of the calls");
                seen += 1;
            }
        }
    }
    node.multicast(group, FIFO, b"again").expect("there is room");
}

#[test]
fn close_needs_no_room_and_waits_for_what_was_sent_before_until_the_linger_is_over() {
    for opens in [true, false] {
        let (mut node, shared) = open(Mode::Threaded, |options| options.linger_ns = SECOND / 5);
        let group = join(&mut node);
        shared.get().window = 0;
        let mut taken = 0;
        while node.multicast(group, FIFO, b"early").is_ok() {
            taken += 1;
        }
        node.close().expect("closes");
        quiet(&mut node);
        if opens {
            shared.get().window = usize::MAX;
            shared.make_readable();
        }
        let mut seen = 0;
        loop {
            match next(&mut node) {
                NodeEvent::Message(_) => seen += 1,
                NodeEvent::Closed => break,
                NodeEvent::Writable { .. } => (),
                other => panic!("unexpected {other:?}"),
            }
        }
        assert_eq!(seen, if opens { taken } else { 0 });
    }
}

#[test]
fn an_application_that_does_not_read_stops_the_core_from_consuming() {
    let (mut node, shared) = open(Mode::Threaded, |options| options.group_backlog = 1 << 20);
    let group = join(&mut node);
    let mut sent = 0_u32;
    let until = WallInstant::now() + Duration::from_millis(300);
    while WallInstant::now() < until {
        match node.multicast(group, FIFO, &sent.to_le_bytes()) {
            Ok(_) => sent += 1,
            Err(NodeError::WouldBlock) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
    let polled = shared.get().polled;
    assert!(polled < 4096 / 64 + 10, "{polled} events were polled for a ring of 4 KiB");
    let mut seen = 0_u32;
    while seen < sent {
        let event = next(&mut node);
        if let NodeEvent::Message(_) = event {
            assert_eq!(bytes(&node, &event), seen.to_le_bytes());
            seen += 1;
        }
    }
}

#[test]
fn a_panic_of_the_core_thread_poisons_the_node_and_peers_hear_of_it() {
    let (mut node, shared) = open(Mode::Threaded, |_| ());
    let group = join(&mut node);
    node.multicast(group, FIFO, b"before").expect("taken");
    node.multicast(group, FIFO, b"panic").expect("taken");
    loop {
        match next(&mut node) {
            NodeEvent::Message(_) => (),
            NodeEvent::Poisoned => break,
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(shared.get().farewells, 1);
    assert!(matches!(node.poll_event(), Err(NodeError::Poisoned)));
    assert!(matches!(node.multicast(group, FIFO, b"x"), Err(NodeError::Poisoned)));
    assert!(matches!(node.wait(None), Err(NodeError::Poisoned)));
}

#[test]
fn a_caller_may_poison_a_node() {
    everywhere(|mut node, shared| {
        join(&mut node);
        node.poison();
        assert_eq!(shared.get().farewells, 1);
        assert!(node.fd().as_fd().try_clone_to_owned().is_ok());
        assert!(node.wait_prepare().expect("one event is left"));
        assert!(matches!(node.poll_event(), Ok(Some(NodeEvent::Poisoned))));
        assert!(matches!(node.poll_event(), Err(NodeError::Poisoned)));
    });
}

#[test]
fn closing_and_dropping_leave_no_thread_behind() {
    everywhere(|mut node, shared| {
        let group = join(&mut node);
        node.multicast(group, FIFO, b"last words").expect("taken");
        node.close().expect("closes");
        assert_eq!(
            {
                let event = next(&mut node);
                bytes(&node, &event)
            },
            b"last words"
        );
        assert!(matches!(next(&mut node), NodeEvent::Closed));
        assert!(!node.wait(None).expect("no error"), "nothing will ever come");
        assert!(matches!(node.multicast(group, FIFO, b"x"), Err(NodeError::Ended)));
        drop(node);
        assert!(shared.get().farewells >= 1);
    });
    everywhere(|mut node, shared| {
        join(&mut node);
        drop(node);
        assert_eq!(shared.get().farewells, 1, "a drop is a crash that the site hears of");
    });
}

/// An application's own event loop: sleeps on the descriptor only when `wait_prepare` said so.
fn poll_like_an_event_loop(node: &mut Node) -> NodeEvent {
    let end = WallInstant::now() + Duration::from_secs(10);
    loop {
        node.turn().expect("no error");
        if let Some(event) = node.poll_event().expect("no error") {
            return event;
        }
        assert!(WallInstant::now() < end, "a wake-up was lost");
        if !node.wait_prepare().expect("no error") {
            let mut wanted = [rustix::event::PollFd::from_borrowed_fd(node.fd(), rustix::event::PollFlags::IN)];
            rustix::event::poll(&mut wanted, Some(&crate::clock::timespec(10 * SECOND))).expect("poll");
        }
    }
}

#[test]
fn the_descriptor_covers_commands_sockets_and_timers() {
    everywhere(|mut node, shared| {
        let group = node.join("quotes", JoinOptions::default()).expect("joins");
        while !matches!(poll_like_an_event_loop(&mut node), NodeEvent::View { .. }) {}
        for number in 0..200_u32 {
            node.multicast(group, FIFO, &number.to_le_bytes()).expect("taken");
            loop {
                let event = poll_like_an_event_loop(&mut node);
                if matches!(event, NodeEvent::Message(_)) {
                    assert_eq!(bytes(&node, &event), number.to_le_bytes());
                    break;
                }
            }
        }
        // A timer of the core, 20 ms from now, is noticed without anything else happening.
        shared.get().timeout = Some(crate::clock::now() + SECOND / 50);
        shared.make_readable();
        let started = WallInstant::now();
        while !shared.get().calls.contains(&"timeout".to_owned()) {
            assert!(started.elapsed() < Duration::from_secs(5), "the timer was missed");
            node.turn().expect("no error");
            let _ = node.poll_event().expect("no error");
            if !node.wait_prepare().expect("no error") {
                let mut wanted = [rustix::event::PollFd::from_borrowed_fd(node.fd(), rustix::event::PollFlags::IN)];
                // Threaded: the timer is the core thread's business, and the application is not woken by it.
                rustix::event::poll(&mut wanted, Some(&crate::clock::timespec(SECOND / 20))).expect("poll");
            }
        }
    });
}

#[test]
fn what_the_site_says_reaches_the_core() {
    everywhere(|mut node, shared| {
        shared.get().locked = 2;
        let found = SiteEvent::PeerFound {
            nonce: 9,
            address: isis_wire::Address { port: 77, ..Default::default() },
            system: 0,
            uid: 0,
            pid: 0,
        };
        shared.get().site_events.extend([found, SiteEvent::PeerDied { nonce: 9 }]);
        shared.make_readable();
        let group = join(&mut node);
        let calls = shared.get().calls.clone();
        assert_eq!(calls, ["peer 77", "death 9", "Granted"], "the locked record was asked again");
        node.state_block(group, 4, &[0; 3000], true).expect("taken");
        let started = WallInstant::now();
        while shared.get().calls.last().map(String::as_str) != Some("state 4 3000 true") {
            assert!(started.elapsed() < Duration::from_secs(5));
            node.turn().expect("no error");
        }
    });
}

#[test]
fn senders_keep_their_own_order() {
    const MESSAGES: u32 = 2000;
    let (mut node, _) = open(Mode::Threaded, |_| ());
    let group = join(&mut node);
    let writers: Vec<_> = (0..3_u32)
        .map(|writer| {
            let mut sender = node.open_sender(group).expect("a sender");
            std::thread::spawn(move || {
                for number in 0..MESSAGES {
                    let mut data = writer.to_le_bytes().to_vec();
                    data.extend(number.to_le_bytes());
                    while let Err(error) = sender.multicast(FIFO, &data) {
                        assert!(matches!(error, NodeError::WouldBlock), "{error}");
                        std::thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let mut next_of = [0_u32; 3];
    while next_of.iter().any(|count| *count < MESSAGES) {
        let event = next(&mut node);
        let data = bytes(&node, &event);
        let (writer, number) = data.split_at(4);
        let writer = u32::from_le_bytes(writer.try_into().expect("four bytes")) as usize;
        assert_eq!(number, next_of[writer].to_le_bytes());
        next_of[writer] += 1;
    }
    writers.into_iter().for_each(|writer| writer.join().expect("ends"));
    let mut late = node.open_sender(group).expect("a sender");
    drop(node);
    assert!(matches!(late.multicast(FIFO, b"x"), Err(NodeError::Ended)));
}

#[test]
fn counters_of_all_layers_are_there() {
    everywhere(|mut node, _| {
        join(&mut node);
        let counters = node.counters();
        let value = |name: &str| counters.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        assert_eq!(value("fake_groups"), Some(1));
        assert_eq!(value("port_received"), Some(0));
        assert!(value("loop_turns") > Some(0) && value("loop_events") >= Some(2));
    });
}

#[test]
fn an_unknown_process_is_refused_once_the_system_is_known() {
    let (mut node, _) = open(Mode::Inline, |_| ());
    let group = join(&mut node);
    node.send(group, ProcessId(1), 0, b"x").expect("no system view was seen: the core decides");
}

#[test]
fn an_idle_wait_lasts_as_long_as_it_was_asked_to() {
    everywhere(|mut node, shared| {
        join(&mut node);
        shared.get().timeout = Some(Instant(u64::MAX));
        let started = WallInstant::now();
        assert!(!node.wait(Some(SECOND / 20)).expect("no error"));
        assert!(started.elapsed() >= Duration::from_millis(50));
    });
}

fn ticket(event: &NodeEvent) -> u64 {
    match event {
        NodeEvent::Message(message) => message.ticket,
        other => panic!("wanted a message, got {other:?}"),
    }
}

#[test]
fn a_message_comes_back_with_the_ticket_of_its_call() {
    everywhere(|mut node, _| {
        let group = join(&mut node);
        let mut given = Vec::new();
        for round in 0..20_u64 {
            let sent = match round % 4 {
                0 => node.send(group, ME, 8, b"to you"),
                1 => node.claim(group, 8).and_then(|()| node.commit(group, FIFO)),
                _ => node.multicast(group, FIFO, b"to all"),
            };
            let sent = sent.expect("taken");
            assert!(sent != 0 && !given.contains(&sent), "{sent} after {given:?}");
            given.push(sent);
            assert_eq!(ticket(&next(&mut node)), sent);
        }
    });
}

#[test]
fn tickets_of_two_producers_are_told_apart() {
    let (mut node, _) = open(Mode::Threaded, |_| ());
    let group = join(&mut node);
    let mut sender = node.open_sender(group).expect("a sender");
    let (mut given, mut came) = (Vec::new(), Vec::new());
    for _ in 0..50 {
        given.push(sender.multicast(FIFO, b"theirs").expect("taken"));
        came.push(ticket(&next(&mut node)));
        given.push(node.multicast(group, FIFO, b"ours").expect("taken"));
        came.push(ticket(&next(&mut node)));
    }
    assert_eq!(given, came);
    given.sort_unstable();
    given.dedup();
    assert_eq!(given.len(), 100);
}

#[test]
fn a_stalled_process_has_no_sends() {
    let (mut node, shared) = open(Mode::Threaded, |_| ());
    let group = join(&mut node);
    let mut sender = node.open_sender(group).expect("a sender");
    shared.get().stalled = true;
    shared.make_readable();
    let begin = WallInstant::now();
    // What is sent before the thread has seen the stall is accepted, and waits: few enough to leave room in the backlog.
    let accepted = (0..3).filter(|_| node.multicast(group, FIFO, b"late").is_ok()).count();
    // The second look comes after what the thread did about the first.
    while shared.get().stalls_seen < 2 {
        assert!(begin.elapsed() < Duration::from_secs(10), "the thread does not look");
        shared.make_readable();
        std::thread::yield_now();
    }
    assert!(matches!(node.multicast(group, FIFO, b"x"), Err(NodeError::WouldBlock)));
    assert!(matches!(node.send(group, ME, 1, b"x"), Err(NodeError::WouldBlock)));
    assert!(matches!(node.claim(group, 8), Err(NodeError::WouldBlock)));
    assert!(matches!(sender.multicast(FIFO, b"x"), Err(NodeError::WouldBlock)));
    let flush = node.flush(group).expect("a flush may wait for the end of the stall");
    shared.get().stalled = false;
    shared.make_readable();
    let (mut came, mut writable, mut flushed) = (0, 0, false);
    while came < accepted || writable == 0 || !flushed {
        match next(&mut node) {
            NodeEvent::Message(_) => came += 1,
            NodeEvent::Writable { group: of } => {
                assert_eq!(of, group);
                writable += 1;
            }
            NodeEvent::Flushed { flush: done, .. } => flushed = done == flush,
            other => panic!("unexpected {other:?}"),
        }
    }
    node.multicast(group, FIFO, b"again").expect("no longer stalled");
    let event = next(&mut node);
    assert_eq!(bytes(&node, &event), b"again");
}

/// Sending view: what was sent for one view is not put off to the next one; the application hears of it.
#[test]
fn a_message_for_a_view_that_is_over_is_refused() {
    let (mut node, shared) = open(Mode::Threaded, |_| ());
    let options = JoinOptions { sending_view: true, ..JoinOptions::default() };
    let group = node.join("quotes", options).expect("joins");
    while !matches!(next(&mut node), NodeEvent::View { .. }) {}
    let told = |event: NodeEvent| matches!(event, NodeEvent::View { .. } | NodeEvent::SystemJoined { .. });
    shared.get().window = 1;
    node.multicast(group, FIFO, b"in view 1").expect("taken");
    let late = node.multicast(group, FIFO, b"waits").expect("taken");
    // The core thread has taken the first, and the window is used up; it opens only behind the next view.
    loop {
        let event = next(&mut node);
        if matches!(event, NodeEvent::Message(_)) {
            assert_eq!(bytes(&node, &event), b"in view 1");
            break;
        }
        assert!(told(event));
    }
    shared.get().next_view = true;
    shared.make_readable();
    loop {
        match next(&mut node) {
            NodeEvent::Message(message) => assert_ne!(message.ticket, late, "delivered in another view"),
            NodeEvent::Refused { command, reason, number, .. } => {
                assert_eq!((command, reason, number), (CommandName::Multicast, Refused::WouldBlock, late));
                break;
            }
            event => assert!(told(event)),
        }
    }
    while !matches!(node.view(group), Some(view) if view.number == 2) {
        assert!(told(next(&mut node)));
    }
    shared.get().window = 1;
    node.multicast(group, FIFO, b"in view 2").expect("taken");
    let event = next(&mut node);
    assert_eq!(bytes(&node, &event), b"in view 2");
}

/// Sending view, inline: waiting for an event does not take it out of the core, for which the application is told of a view
/// when it polls it.
#[test]
fn waiting_takes_no_event() {
    let (mut node, shared) = open(Mode::Inline, |_| ());
    node.join("quotes", JoinOptions::default()).expect("joins");
    for polled in 0..2 {
        for _ in 0..2 {
            assert!(node.wait(Some(10 * SECOND)).expect("no error"));
            assert!(node.wait_prepare().expect("no error"), "there is something to poll");
            assert_eq!(shared.get().polled, polled);
        }
        assert!(node.poll_event().expect("no error").is_some());
    }
    assert_eq!(shared.get().polled, 2);
}

/// What the core asks of the site is done, soon.
fn asks_the_site(ask: fn(&mut Script), done: fn(&Script) -> bool) {
    everywhere(|mut node, shared| {
        join(&mut node);
        ask(&mut shared.get());
        shared.make_readable();
        let begin = WallInstant::now();
        while !done(&shared.get()) {
            assert!(begin.elapsed() < Duration::from_secs(10));
            node.wait(Some(SECOND / 1000)).expect("no error");
        }
    });
}

#[test]
fn a_kill_that_the_core_asks_for_goes_to_the_site() {
    asks_the_site(|core| core.kills.push_back(99), |core| core.killed == [99]);
}

/// A process that died before it was met here is looked up by the site, if the core asks for it.
#[test]
fn a_watch_that_the_core_asks_for_goes_to_the_site() {
    asks_the_site(|core| core.watches.push_back(77), |core| core.watched == [77]);
}

#[test]
fn a_second_join_of_a_group_says_so() {
    assert!(matches!(NodeError::from(Refused::AlreadyMember), NodeError::AlreadyMember));
    let (mut node, _) = open(Mode::Inline, |_| ());
    join(&mut node);
    assert!(matches!(node.join("twice", JoinOptions::default()), Err(NodeError::AlreadyMember)));
}

/// A message to several groups shows the ticket that the call gave for each; what only the core knows is told for each.
#[test]
fn a_message_to_several_groups_has_a_ticket_in_each() {
    const TOTAL: SendOptions = SendOptions { kind: Kind::Total, ..FIFO };
    everywhere(|mut node, shared| {
        let (first, second) = (join(&mut node), join(&mut node));
        node.multicast(second, FIFO, b"alone").expect("taken");
        next(&mut node);
        let groups = [first, second];
        let tickets = node.multicast_groups(&groups, TOTAL, b"both").expect("taken");
        assert_eq!(tickets.len(), 2);
        for (group, ticket) in groups.into_iter().zip(tickets) {
            let NodeEvent::Message(message) = next(&mut node) else { panic!("a message") };
            assert_eq!((message.group, message.ticket, node.payload(&message)), (group, ticket, &b"both"[..]));
        }
        for (bad, options) in [(&groups[..], FIFO), (&[], TOTAL), (&[first, second, first], TOTAL)] {
            assert!(matches!(node.multicast_groups(bad, options, b"x"), Err(NodeError::BadKind)));
        }
        let stranger = [first, GroupHandle(77)];
        assert!(matches!(node.multicast_groups(&stranger, TOTAL, b"x"), Err(NodeError::NotMember)));
        if node.mode() == Mode::Threaded {
            shared.get().window = 1;
            node.multicast_groups(&groups, TOTAL, b"waits").expect("taken");
            node.multicast(second, FIFO, b"behind it").expect("taken");
            shared.get().window = 9;
            node.multicast(first, FIFO, b"last").expect("taken");
            let seen: Vec<Vec<u8>> = (0..4)
                .map(|_| {
                    let event = next(&mut node);
                    bytes(&node, &event)
                })
                .collect();
            assert_eq!(seen[..2], [b"waits", b"waits"]);
            assert!(seen[2..].contains(&b"behind it".to_vec()) && seen[2..].contains(&b"last".to_vec()));
            let tickets = node.multicast_groups(&groups, TOTAL, b"refuse").expect("taken");
            for (group, ticket) in groups.into_iter().zip(tickets) {
                match next(&mut node) {
                    NodeEvent::Refused { group: of, command, reason, number } => {
                        assert_eq!((of, command, reason), (group, CommandName::Multicast, Refused::Ended));
                        assert_eq!(number, ticket);
                    }
                    other => panic!("unexpected {other:?}"),
                }
            }
        }
    });
}
