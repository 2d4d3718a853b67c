//! `flood`: service goes on while garbage pours into a member's open port: random bytes, truncated packets, packets of
//! another protocol version, of a foreign system, of nobody, damaged ones, old ones of a real member again (its first
//! stream bytes, an old row, an old request for repair, a view that is over); and what the members really said to each
//! other, from the first question for a system on, recorded and sent again, as often as all the rest, from the addresses
//! that it came from.
//!
//! The old packets are built from what the members tell about themselves, and say nothing that was not so once: an
//! attacker who forges *new* packets is not part of this (packets are not authenticated in this version). Recording takes
//! the capability CAP_NET_RAW; without it that half is left out, and the report says so.

use crate::capture::{Capture, Packet, Replay};
use crate::fleet::Fleet;
use crate::report;
use crate::talk::{KindName, Order, Report};
use crate::throughput::Load;
use clap::Args;
use isis_protocol::{GroupId, SystemId};
use isis_wire::Writer;
use isis_wire::packet::{self, DataHeader, Header, PacketKind};
use isis_wire::row::Row;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

/// The arguments.
#[derive(Args, Clone, Debug)]
pub struct Flood {
    #[command(flatten)]
    load: Load,
    /// Packets a second.
    #[arg(long, default_value_t = 100_000)]
    packets: u64,
    /// Messages a second of each member meanwhile.
    #[arg(long, default_value_t = 5_000)]
    rate: u64,
    /// Seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

/// The counters of which at least one grows with each kind of packet.
const REASONS: [&str; 6] = [
    "ignore_not_ours",
    "ignore_incompatible_version",
    "ignore_bad_checksum",
    "ignore_foreign_system",
    "ignore_unknown_birth",
    "ignore_duplicate_data",
];

/// Runs it.
pub fn run(args: &Flood) -> Result<(), String> {
    let mut fleet = Fleet::new()?;
    // What is recorded, and sent again, is on the loopback interface.
    let load = Load { transport: "udp".to_owned(), ..args.load.clone() };
    let start = load.start(&fleet, args.rate.max(1), false, 0)?;
    let mut system = 0;
    let mut view = None;
    let recording = Capture::start();
    for _ in 0..args.load.members {
        fleet.start(&start)?;
    }
    let wanted = usize::from(args.load.members);
    fleet.until("a view of all members", |_, _, report| {
        match report {
            Report::Admitted { system: id, .. } => system = u128::from_str_radix(id, 16).unwrap_or(0),
            Report::View { group, number, members, .. } if members.len() == wanted => {
                view = Some((*group, *number, members.clone()));
            }
            _ => (),
        }
        view.is_some()
    })?;
    fleet.assemble()?;
    let (group, number, members) = view.ok_or("no view")?;
    let victim = fleet.of_rank(0).ok_or("a rank without a member")?;
    let port = members.first().map(|member| member.2).ok_or("no members")?;
    let forged = members.last().map_or(0, |member| member.1);

    let mut recorded = Vec::new();
    let replay = match recording {
        Ok(recording) => {
            recorded = recording.finish();
            Ok(Replay::open()?)
        }
        Err(why) => Err(why),
    };
    fleet.order_all(&Order::Load)?;
    let recording = replay.as_ref().map_err(Clone::clone).and_then(|_| Capture::start());
    std::thread::sleep(Duration::from_millis(1500));
    if let Ok(recording) = recording {
        recorded.extend(recording.finish());
    }
    // Others may use the loopback as well.
    recorded.retain(|packet| members.iter().any(|member| member.2 == packet.source && member.2 != port));
    recorded.retain(|packet| members.iter().all(|member| member.2 != packet.destination || member.2 == port));
    recorded.iter_mut().for_each(|packet| packet.readdress(port));
    let kinds = kinds(&recorded);
    if replay.is_ok() && recorded.is_empty() {
        return Err("nothing was recorded".to_owned());
    }
    fleet.order_all(&Order::Measure)?;
    std::thread::sleep(Duration::from_secs(2));
    let quiet = rate(&mut fleet)?;
    let before = fleet.counters(victim)?;
    fleet.order_all(&Order::Measure)?;
    let garbage = Garbage { system, group, view: number, birth: forged };
    let old = replay.as_ref().ok().map(|replay| (replay, &recorded[..]));
    let time = Duration::from_secs(args.seconds.clamp(1, 600));
    let (sent, replayed, took) = pour(&garbage, old, port, args.packets, time)?;
    let flooded = rate(&mut fleet)?;
    let after = fleet.counters(victim)?;
    let memory = report::resident(fleet.pid(victim));
    let (checked, _) = fleet.settle(args.load.kind == KindName::Total)?;
    fleet.quit()?;

    let grown: BTreeMap<&String, u64> = after
        .iter()
        .map(|(name, value)| (name, value - before.get(name).unwrap_or(&0).min(value)))
        .filter(|(_, value)| *value > 0)
        .collect();
    let mut text = vec![
        format!("{}, each sending {} a second", args.load.text(), args.rate),
        format!("  {sent} bad packets to the oldest member's port in {took:.1} s = {:.0} a second", sent as f64 / took),
        match &replay {
            Ok(_) => format!("  of these {replayed} were real ones again; {} recorded: {kinds}", recorded.len()),
            Err(why) => format!("  NO REAL PACKETS among them: {why}"),
        },
        format!("  deliveries a second at the slowest member: {quiet:.0} before, {flooded:.0} meanwhile"),
        format!("  memory of the flooded member: {:.1} MiB", memory as f64 / f64::from(1 << 20)),
        format!("  {checked} messages checked at each member: no loss, no repetition, order kept"),
        "  counted by the flooded member meanwhile:".to_owned(),
    ];
    text.extend(grown.iter().map(|(name, value)| format!("    {name} {value}")));
    let value = json!({
        "members": args.load.members, "packets": sent, "replayed": replayed, "recorded": recorded.len(), "packets_per_second": sent as f64 / took,
        "deliveries_per_second_before": quiet, "deliveries_per_second_flooded": flooded, "counters": grown,
        "resident_bytes": memory, "checked": checked,
    });
    report::publish(args.load.json, "flood", &text, value);
    if let Some(reason) = REASONS.iter().find(|reason| grown.iter().all(|(name, _)| name.as_str() != **reason)) {
        return Err(format!("no packet was counted as {reason}"));
    }
    if flooded < quiet / 2.0 {
        return Err("service broke down".to_owned());
    }
    Ok(())
}

/// How many of each kind.
fn kinds(packets: &[Packet]) -> String {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for packet in packets {
        let kind = match packet::Packet::parse(packet.datagram()) {
            Ok(parsed) => format!("{:?}", parsed.header.kind),
            Err(_) => "probes of paths".to_owned(),
        };
        *kinds.entry(kind).or_default() += 1;
    }
    kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
}

/// Deliveries a second at the slowest member.
fn rate(fleet: &mut Fleet) -> Result<f64, String> {
    let measured = fleet.measured()?;
    Ok(measured.iter().map(|m| m.delivered as f64 * 1e9 / m.elapsed_ns as f64).fold(f64::INFINITY, f64::min))
}

struct Garbage {
    system: u128,
    group: u64,
    view: u64,
    birth: u64,
}

impl Garbage {
    fn packet(&self, kind: PacketKind, system: u128, birth: u64, view: u64, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let header = Header { kind, birth, system: SystemId(system), group: GroupId(self.group), view };
        packet::begin(&mut bytes, &header);
        bytes.extend_from_slice(body);
        packet::seal(&mut bytes, &[]);
        bytes
    }

    /// One packet of each sort.
    fn sorts(&self) -> Vec<Vec<u8>> {
        let mut data = Vec::new();
        DataHeader { rank: 2, row_len: 0, asks: false, position: 0 }.write(&mut data);
        data.extend_from_slice(&[0; 64]);
        let mut row = Writer::new();
        row.u8(0);
        Row::zero(3).write(&mut row);
        let mut nak = Writer::new();
        nak.list(&[(0, 0, 64)], |out: &mut Writer, item: &(u64, u64, u64)| {
            for value in [item.0, item.1, item.2] {
                out.varint(value);
            }
        });
        let good = self.packet(PacketKind::Row, self.system, self.birth, self.view, &row.bytes);
        let mut version = good.clone();
        version[2] = version[2].wrapping_add(1);
        let mut damaged = good.clone();
        damaged[40] ^= 4;
        vec![
            good[..30].to_vec(),
            good[..good.len() - 1].to_vec(),
            version,
            damaged,
            self.packet(PacketKind::Row, !self.system, self.birth, self.view, &row.bytes),
            self.packet(PacketKind::Data, self.system, !self.birth, self.view, &data),
            self.packet(PacketKind::Data, self.system, self.birth, self.view, &data),
            self.packet(PacketKind::Nak, self.system, self.birth, self.view, &nak.bytes),
            self.packet(PacketKind::Row, self.system, self.birth, self.view.saturating_sub(1), &row.bytes),
            self.packet(PacketKind::Message, self.system, self.birth, self.view, &[0xff; 40]),
            good,
        ]
    }
}

/// Sends packets at this rate, half of them real ones again; gives how many, how many real ones, and the seconds that it
/// took.
fn pour(
    garbage: &Garbage,
    old: Option<(&Replay, &[Packet])>,
    port: u16,
    packets: u64,
    time: Duration,
) -> Result<(u64, u64, f64), String> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| error.to_string())?;
    socket.connect((Ipv4Addr::LOCALHOST, port)).map_err(|error| error.to_string())?;
    let sorts = garbage.sorts();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = vec![0; 1400];
    let (begin, mut sent, mut replayed) = (Instant::now(), 0_u64, 0_u64);
    while begin.elapsed() < time {
        let due = (begin.elapsed().as_secs_f64() * packets as f64) as u64;
        if sent >= due {
            std::thread::sleep(Duration::from_micros(200));
            continue;
        }
        let batch = (due - sent).min(1000);
        for _ in 0..batch {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            if let Some((replay, packets)) = old.filter(|_| random >> 63 == 0) {
                replay.send(&packets[(random >> 8) as usize % packets.len()]);
                replayed += 1;
                continue;
            }
            let pick = (random % (sorts.len() as u64 + 2)) as usize;
            let bytes = match sorts.get(pick) {
                Some(bytes) => bytes.as_slice(),
                None => {
                    let len = (random >> 20) as usize % noise.len();
                    for (at, byte) in noise[..len].iter_mut().enumerate() {
                        *byte = (random >> (at % 57)) as u8 ^ at as u8;
                    }
                    // Half of the noise begins as a packet does.
                    if pick == sorts.len() && len > 4 {
                        noise[..4].copy_from_slice(&sorts[0][..4]);
                    }
                    &noise[..len]
                }
            };
            // A full buffer at the receiver is no error of the sender's.
            let _ = socket.send(bytes);
        }
        sent += batch;
    }
    Ok((sent, replayed, begin.elapsed().as_secs_f64()))
}
