//! How the link comes to its connections: it looks for sockets in the directory, and accepts.

use super::super::process_file::{self, Life};
use super::super::socket::{self, SUFFIX as SOCKET};
use super::{Connection, HELLO_NS, RECORDS_PER_CALL, SEND_BUFFER, SiteLink, TOKEN_CONNECTION};
use crate::site::directory::{from_hex, hex};
use crate::system;
use rustix::event::epoll;
use rustix::net::{self, SocketAddrUnix, SocketFlags};
use std::os::fd::{AsFd, OwnedFd};

impl SiteLink {
    /// Connects to every socket in the directory that is not connected yet. Says whether one has to be tried again soon.
    pub(super) fn search(&mut self) -> bool {
        // Before the directory is listed: what changes meanwhile is news to the next search.
        let changed = self.directory.changed().ok();
        if changed.is_some_and(|changed| self.searches.needless(changed)) {
            self.counters.site_searches_spared += 1;
            return false;
        }
        self.counters.site_searches += 1;
        let Ok(names) = self.directory.names(SOCKET) else {
            self.counters.site_errors += 1;
            return false;
        };
        let (mut again, mut all_known) = (false, true);
        for name in names {
            let Some(nonce) = from_hex(&name).filter(|nonce| *nonce != self.own.nonce) else { continue };
            if self.connections.iter().any(|connection| connection.nonce == Some(nonce)) || self.dead.contains(&nonce) {
                continue;
            }
            all_known = false;
            match self.connect(nonce) {
                Ok(()) => {}
                Err(rustix::io::Errno::AGAIN) => again = true,
                Err(rustix::io::Errno::CONNREFUSED) => {
                    if process_file::test(&self.directory, nonce) == Life::Dead {
                        self.remove_files(nonce);
                    }
                }
                Err(rustix::io::Errno::NOENT) => {}
                Err(_) => self.counters.site_errors += 1,
            }
        }
        match changed {
            Some(changed) => self.searches.note(self.now_ns, changed, all_known),
            None => self.searches.forget(),
        }
        again
    }

    pub(super) fn remove_files(&self, nonce: u128) {
        self.directory.remove(&format!("{}{SOCKET}", hex(nonce)));
        process_file::remove_stale(&self.directory, nonce);
    }

    fn connect(&mut self, nonce: u128) -> rustix::io::Result<()> {
        let fd = socket::socket()?;
        let path = self.directory.socket_path(&format!("{}{SOCKET}", hex(nonce)));
        net::connect(&fd, &SocketAddrUnix::new(path.as_path())?)?;
        self.add_connection(fd, Some(nonce));
        Ok(())
    }

    pub(super) fn accept(&mut self) {
        for _ in 0..RECORDS_PER_CALL {
            match net::accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(fd) => self.add_connection(fd, None),
                Err(rustix::io::Errno::AGAIN) => return,
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {}
                Err(_) => {
                    self.counters.site_errors += 1;
                    return;
                }
            }
        }
    }

    fn add_connection(&mut self, fd: OwnedFd, nonce: Option<u128>) {
        let Ok(credentials) = system::peer_credentials(&fd) else {
            self.counters.site_errors += 1;
            return;
        };
        let user = rustix::process::geteuid().as_raw();
        if credentials.uid != user && credentials.uid != 0 {
            self.counters.ignore_foreign_user += 1;
            return;
        }
        let pidfd = socket::pidfd_of(fd.as_fd(), credentials);
        let _ = net::sockopt::set_socket_send_buffer_size(&fd, SEND_BUFFER);
        self.next_number = self.next_number.wrapping_add(1);
        let number = self.next_number;
        let token = epoll::EventData::new_u64(TOKEN_CONNECTION | u64::from(number));
        if epoll::add(&self.epoll, &fd, token, epoll::EventFlags::IN | epoll::EventFlags::RDHUP).is_err()
            || socket::send(fd.as_fd(), &[&self.own.encode()]).is_err()
        {
            let _ = epoll::delete(&self.epoll, &fd);
            self.counters.site_errors += 1;
            return;
        }
        let opened_ns = self.now_ns;
        self.connections.push(Connection { number, fd, nonce, greeted: false, opened_ns, credentials, pidfd });
    }

    pub(super) fn close_silent(&mut self) {
        let late = |c: &Connection, now_ns: u64| !c.greeted && now_ns.saturating_sub(c.opened_ns) > HELLO_NS;
        let numbers: Vec<u32> =
            self.connections.iter().filter(|c| late(c, self.now_ns)).map(|connection| connection.number).collect();
        for number in numbers {
            self.close(number);
        }
    }
}
