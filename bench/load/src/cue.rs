//! The lines by which the driver and we keep step.

use std::io::{self, BufRead as _, Write as _};

use serde_json::{Value, json};

/// Says that everything is warm, and waits for the word to begin.
pub(crate) fn ready() -> io::Result<()> {
    say(&json!({ "ready": true }))?;
    wait()
}

/// Prints the report, and waits until whoever reads it has looked at the connections that are still open.
pub(crate) fn finished(report: &Value) -> io::Result<()> {
    say(report)?;
    wait()
}

/// One line.
pub(crate) fn say(line: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Nothing else runs on this thread meanwhile, which is meant: a waiting client costs nothing.
fn wait() -> io::Result<()> {
    io::stdin().lock().read_line(&mut String::new()).map(drop)
}
