//! Who is compared with whom, and what that needs.

/// A rival: a program in `bench/rivals`.
#[derive(Debug)]
pub struct Rival {
    /// Its name, that of the program and that of the feature that builds it.
    pub name: &'static str,
    /// What has to be installed.
    pub needs: &'static str,
}

/// A rival's transport, and what of ours is set against it.
#[derive(Debug)]
pub struct Contest {
    /// The rival.
    pub rival: &'static str,
    /// Its transport.
    pub transport: &'static str,
    /// The order that it promises.
    pub promises: &'static str,
    /// Options of ours, for equal conditions.
    pub ours: &'static [&'static str],
    /// The rival's messages go through shared memory, and so do ours. One daemon for all members is tried both ways: it
    /// hands messages over in shared memory, and orders them through a socket.
    pub shared_memory: bool,
    /// The largest message that it is tried with.
    pub most: usize,
}

impl Contest {
    /// What ours go through.
    pub fn our_transport(&self) -> &'static str {
        if self.shared_memory { "shared-memory" } else { "udp" }
    }
}

/// All rivals.
pub const RIVALS: [Rival; 5] = [
    Rival {
        name: "aeron",
        needs: "CMake 3.30 or later (`pip install cmake`; CMAKE=/path/to/cmake), and of Debian: clang libclang-dev make g++ \
            uuid-dev libbsd-dev",
    },
    Rival { name: "corosync", needs: "of Debian: corosync libcpg-dev; to be root; no other Corosync on this host" },
    Rival { name: "iceoryx2", needs: "a C compiler and libclang (of Debian: gcc libc6-dev libclang-dev)" },
    Rival { name: "norm", needs: "of Debian: libnorm-dev" },
    Rival { name: "raw", needs: "nothing but the machine" },
];

/// All contests.
pub const CONTESTS: [Contest; 10] = [
    Contest {
        rival: "aeron",
        transport: "udp-64k",
        promises: "FIFO per sender",
        ours: &[],
        shared_memory: false,
        most: 1 << 20,
    },
    Contest {
        rival: "aeron",
        transport: "udp-1408",
        promises: "FIFO per sender",
        ours: &["datagram_local=1400"],
        shared_memory: false,
        most: 1 << 20,
    },
    Contest {
        rival: "aeron",
        transport: "ipc",
        promises: "FIFO per sender",
        ours: &[],
        shared_memory: true,
        most: 64 << 10,
    },
    Contest {
        rival: "corosync",
        transport: "one-daemon",
        promises: "total order",
        ours: &[],
        shared_memory: false,
        most: 1_000_000,
    },
    Contest {
        rival: "corosync",
        transport: "one-daemon",
        promises: "total order",
        ours: &[],
        shared_memory: true,
        most: 1_000_000,
    },
    Contest {
        rival: "iceoryx2",
        transport: "shared-memory",
        promises: "FIFO per sender",
        ours: &[],
        shared_memory: true,
        most: 1 << 20,
    },
    Contest {
        rival: "norm",
        transport: "udp-60k",
        promises: "FIFO per sender",
        ours: &[],
        shared_memory: false,
        most: 1 << 20,
    },
    Contest {
        rival: "norm",
        transport: "udp-1400",
        promises: "FIFO per sender",
        ours: &["datagram_local=1400"],
        shared_memory: false,
        most: 1 << 20,
    },
    Contest {
        rival: "raw",
        transport: "ring",
        promises: "FIFO per sender",
        ours: &[],
        shared_memory: true,
        most: 64 << 10,
    },
    Contest {
        rival: "raw",
        transport: "udp-multicast",
        promises: "nothing",
        ours: &[],
        shared_memory: false,
        most: 65_000,
    },
];
