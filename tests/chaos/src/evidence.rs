//! What the processes of a run have written: put together in the order of time, and kept when something is wrong.
//!
//! Owner: whoever ran it. Invariant: the merged trace is in the order of the monotonic clock, which all processes of a machine
//! share, whatever their namespaces: a send is written before its call and a delivery after it, so that no message is
//! delivered before it was sent.

use crate::fleet::Fleet;
use isis_tests::checker::{self, Violation};
use isis_tests::journal;
use isis_tests::trace::{Event, Process, Record, Trace};
use std::path::{Path, PathBuf};

/// The traces of all processes, and what the rig did, up to the end of the run; time counts from `begin`. Of a journal that
/// cannot be read nothing comes, and an error.
pub fn merge(traces: &Path, started: usize, rig: Vec<Record>, begin: u64) -> (Trace, Option<String>) {
    let mut records = rig;
    let read = (0..started).try_for_each(|process| {
        let path = Fleet::journal(traces, process);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            // Killed before it began.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        records.extend(journal::read(Process(process as u32), &text)?);
        Ok(())
    });
    records.sort_by_key(|record| record.time);
    if let Some(end) = records.iter().position(|record| record.event == Event::End) {
        records.truncate(end + 1);
    }
    records.iter_mut().for_each(|record| record.time = record.time.saturating_sub(begin));
    (Trace { records, packets: 0 }, read.err())
}

/// Saves the traces of a run that failed, and why it did; `name` says which run. Gives where they are.
pub fn keep(
    traces: &Path,
    trace: &Trace,
    violations: &[Violation],
    wrong: &str,
    name: &str,
) -> Result<PathBuf, String> {
    let kept = std::env::temp_dir().join(format!("isis-failed-{name}-{}", std::process::id()));
    let save = || {
        std::fs::create_dir_all(&kept)?;
        for entry in std::fs::read_dir(traces)? {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "trace")
                && let Some(name) = path.file_name()
            {
                std::fs::copy(&path, kept.join(name))?;
            }
        }
        std::fs::write(kept.join("merged.txt"), trace.text())?;
        let all = checker::report(trace, violations, usize::MAX);
        std::fs::write(kept.join("report.txt"), format!("{wrong}\n{all}"))
    };
    save().map_err(|error: std::io::Error| format!("saving the traces in {}: {error}", kept.display()))?;
    Ok(kept)
}
