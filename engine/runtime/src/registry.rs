//! What the application's side knows: the events that it has seen, remembered. Alike in both modes.
//!
//! Owner: the [`crate::Node`]. Invariant: it changes only by events that `poll_event` gave, so the getters never run
//! ahead of what the application has been told.

use crate::event::NodeEvent;
use isis_protocol::{GroupHandle, ProcessId, SystemId, View};
use std::collections::HashMap;
use std::sync::Arc;

/// The last known state of everything.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    pub process: Option<ProcessId>,
    pub system: Option<SystemId>,
    pub system_view: Option<Arc<View>>,
    pub groups: HashMap<GroupHandle, (Arc<View>, u16)>,
    /// `Evicted` or `Closed` was seen: no more commands.
    pub ended: bool,
}

impl Registry {
    pub fn note(&mut self, event: &NodeEvent) {
        match event {
            NodeEvent::SystemJoined { system, process } => {
                self.system = Some(*system);
                self.process = Some(*process);
            }
            NodeEvent::SystemView(view) => self.system_view = Some(view.clone()),
            NodeEvent::View { group, view, rank } => {
                self.groups.insert(*group, (view.clone(), *rank));
            }
            NodeEvent::Left { group } | NodeEvent::GroupEnded { group } => {
                self.groups.remove(group);
            }
            NodeEvent::Evicted | NodeEvent::Closed => {
                self.ended = true;
                self.groups.clear();
            }
            _ => (),
        }
    }

    /// Whether a process is in the system, as far as is known (`true` when no system view was seen).
    pub fn may_exist(&self, process: ProcessId) -> bool {
        self.system_view.as_ref().is_none_or(|view| view.members.iter().any(|member| member.process == process))
    }
}
