//! `isis-model`: searches all models and says how many states they have; ends with an error if one is not as expected.
//!
//! Arguments: `--big` (the large bounds as well: minutes, and up to 8 GiB), `--paths` (show the counterexamples), names or
//! beginnings of names of cases.

use isis_model::cases;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (options, names): (Vec<String>, Vec<String>) = arguments.into_iter().partition(|a| a.starts_with("--"));
    if let Some(unknown) = options.iter().find(|option| !matches!(option.as_str(), "--big" | "--paths")) {
        let _ = writeln!(std::io::stderr(), "no option {unknown}; there are --big and --paths");
        return ExitCode::from(2);
    }
    let has = |option: &str| options.iter().any(|given| given == option);
    let mut out = std::io::stdout();
    let (mut searched, mut wrong) = (0, 0);
    for case in cases::all() {
        let wanted = names.is_empty() || names.iter().any(|name| case.name.starts_with(name.as_str()));
        if !wanted || (case.big && !has("--big")) {
            continue;
        }
        let report = case.run();
        searched += 1;
        let result = match (case.objection(&report), case.violates) {
            (Some(objection), _) => {
                wrong += 1;
                format!("WRONG: {objection}\n{report}")
            }
            (None, Some(property)) if has("--paths") => format!("violates \"{property}\", as it should\n{report}"),
            (None, Some(property)) => {
                let steps = report.counterexample(property).map_or(0, <[String]>::len);
                format!("violates \"{property}\" in {steps} steps, as it should ({} states)", report.states)
            }
            (None, None) => {
                format!(
                    "holds in all {} states, depth {}, {:.1} s",
                    report.states,
                    report.depth,
                    report.took.as_secs_f64()
                )
            }
        };
        if writeln!(out, "{}: {result}", case.name).is_err() {
            return ExitCode::FAILURE;
        }
    }
    let _ = writeln!(out, "{searched} searches, {wrong} wrong");
    if searched == 0 || wrong > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
