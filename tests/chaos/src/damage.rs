//! Damage to frames: flipped bits and cut ends.
//!
//! A kernel drops most of it by its own checksums, so half of the damaged frames are made whole again for the kernel:
//! lengths and the IP checksum fit, and the UDP checksum is left out, which IPv4 allows. Those reach the engine.

use isis_protocol::random::Random;
use std::ops::Range;

const ETHERNET: usize = 14;

/// Where the payload of an unfragmented UDP datagram over IPv4 lies in a frame.
fn udp_payload(frame: &[u8]) -> Option<Range<usize>> {
    let ip = frame.get(ETHERNET..)?;
    let header = usize::from(ip.first()? & 15) * 4;
    let plain = frame.get(12..14)? == [8, 0] && ip[0] >> 4 == 4 && *ip.get(9)? == 17;
    let fragment = u16::from_be_bytes([*ip.get(6)?, *ip.get(7)?]) & 0x3fff != 0;
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    let payload = ETHERNET + header + 8..ETHERNET + total;
    (plain && !fragment && payload.start <= payload.end && payload.end <= frame.len()).then_some(payload)
}

/// Flips one to four bits.
pub fn corrupt(random: &mut Random, frame: &mut [u8]) {
    let payload = udp_payload(frame).filter(|payload| !payload.is_empty() && random.below(2) == 0);
    let range = payload.clone().unwrap_or(ETHERNET..frame.len());
    for _ in 0..=random.below(4) {
        let byte = range.start + random.below(range.len() as u64) as usize;
        frame[byte] ^= 1 << random.below(8);
    }
    if let Some(payload) = payload {
        frame[payload.start - 2..payload.start].fill(0);
    }
}

/// Cuts the end off.
pub fn truncate(random: &mut Random, frame: &mut Vec<u8>) {
    let payload = udp_payload(frame).filter(|payload| !payload.is_empty() && random.below(2) == 0);
    let range = payload.clone().unwrap_or(ETHERNET..frame.len());
    frame.truncate(range.start + random.below(range.len() as u64) as usize);
    if let Some(payload) = payload {
        let length = |from: usize| (frame.len() - from) as u16;
        let (total, datagram) = (length(ETHERNET), length(payload.start - 8));
        frame[ETHERNET + 2..ETHERNET + 4].copy_from_slice(&total.to_be_bytes());
        frame[payload.start - 4..payload.start - 2].copy_from_slice(&datagram.to_be_bytes());
        frame[payload.start - 2..payload.start].fill(0);
        frame[ETHERNET + 10..ETHERNET + 12].fill(0);
        let sum = checksum(&frame[ETHERNET..payload.start - 8]);
        frame[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum.to_be_bytes());
    }
}

/// The Internet checksum of a header.
fn checksum(header: &[u8]) -> u16 {
    let sum: u32 = header.as_chunks::<2>().0.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A datagram of 20 bytes with right lengths and header checksum.
    fn frame() -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend_from_slice(&[8, 0, 0x45, 0, 0, 48, 0, 1, 0x40, 0, 64, 17, 0, 0, 10, 78, 0, 1, 10, 78, 0, 2]);
        frame.extend_from_slice(&[0x1b, 0x58, 0x1b, 0x59, 0, 28, 0xab, 0xcd]);
        frame.extend_from_slice(&[7; 20]);
        let sum = checksum(&frame[ETHERNET..ETHERNET + 20]);
        frame[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    #[test]
    fn damage_always_damages_and_half_of_it_passes_the_kernels_checks() {
        let mut random = Random::new(1);
        let (mut passing, mut cut) = (0, 0);
        for _ in 0..1000 {
            let mut bits = frame();
            corrupt(&mut random, &mut bits);
            assert_eq!(bits.len(), frame().len());
            passing += u32::from(bits[40..42] == [0, 0] && bits[..40] == frame()[..40]);
            let mut short = frame();
            truncate(&mut random, &mut short);
            assert!(short.len() < frame().len());
            if let Some(payload) = udp_payload(&short) {
                assert_eq!(payload.end, short.len());
                assert_eq!(checksum(&short[ETHERNET..ETHERNET + 20]), 0, "the header's checksum fits");
                cut += 1;
            }
        }
        assert!((350..650).contains(&passing) && (350..650).contains(&cut), "{passing} and {cut} of 1000");
    }

    #[test]
    fn only_whole_datagrams_over_ipv4_have_a_payload() {
        assert_eq!(udp_payload(&frame()), Some(42..62));
        for (place, value) in [(12, 9), (14, 0x65), (20, 0x20), (23, 6), (16, 9)] {
            let mut other = frame();
            other[place] = value;
            assert_eq!(udp_payload(&other), None, "byte {place}");
        }
        assert_eq!(udp_payload(&frame()[..50]), None);
        assert_eq!(udp_payload(&[]), None);
    }
}
