//! The same rules by the `iptables` programs, for kernels without `nf_tables`. Each family is one transaction of its own.

use std::io::{ErrorKind, Write as _};
use std::process::{Command, Stdio};

use super::{RedirectError, Redirection};
use crate::sockets;

const OUTPUT: &str = "POLICYD_OUTPUT";
const PREROUTING: &str = "POLICYD_PREROUTING";
/// Seconds that a program may wait for others that hold the lock.
const LOCK_SECONDS: &str = "5";
/// A program's words in an error.
const MOST_WORDS: usize = 300;

/// One family's programs, and its loopback network.
struct Family {
    iptables: &'static str,
    restore: &'static str,
    save: &'static str,
    loopback: &'static str,
}

static FAMILIES: [Family; 2] = [
    Family {
        iptables: "iptables",
        restore: "iptables-restore",
        save: "iptables-save",
        loopback: "127.0.0.0/8",
    },
    Family {
        iptables: "ip6tables",
        restore: "ip6tables-restore",
        save: "ip6tables-save",
        loopback: "::1/128",
    },
];

/// The hooks, and the chain of ours that hangs on each.
const JUMPS: [(&str, &str); 2] = [("OUTPUT", OUTPUT), ("PREROUTING", PREROUTING)];

/// Those that this machine knows: where IPv6 is missing, nothing goes by it.
fn families() -> &'static [Family] {
    let count = if sockets::has_ipv6() { FAMILIES.len() } else { 1 };
    FAMILIES.get(..count).unwrap_or(&FAMILIES)
}

impl Family {
    /// The rules, as `iptables-save` writes them.
    fn rules(&self, to: Redirection) -> [String; 6] {
        let (uid, outbound, inbound) = (to.uid, to.outbound, to.inbound);
        [
            format!("-A {OUTPUT} -m owner --uid-owner {uid} -j RETURN"),
            format!("-A {OUTPUT} -o lo -j RETURN"),
            format!("-A {OUTPUT} -d {} -j RETURN", self.loopback),
            format!("-A {OUTPUT} -p tcp -j REDIRECT --to-ports {outbound}"),
            format!("-A {PREROUTING} -i lo -j RETURN"),
            format!("-A {PREROUTING} -p tcp -j REDIRECT --to-ports {inbound}"),
        ]
    }

    /// What `iptables-restore --noflush` is given: our chains are emptied and filled again.
    fn script(&self, to: Redirection, jumps: &[String]) -> String {
        let chains = [format!(":{OUTPUT} - [0:0]"), format!(":{PREROUTING} - [0:0]")];
        let rules = self.rules(to);
        let lines = chains.iter().chain(&rules).chain(jumps).map(String::as_str);
        let lines: Vec<_> = std::iter::once("*nat").chain(lines).chain(["COMMIT", ""]).collect();
        lines.join("\n")
    }

    /// Whether a jump to our chain is there.
    fn jumps(&self, hook: &str, chain: &str) -> Result<bool, RedirectError> {
        let words = ["-w", LOCK_SECONDS, "-t", "nat", "-C", hook, "-j", chain];
        Ok(command(self.iptables, &words, "")?.is_ok())
    }
}

/// Runs a program: what it wrote, or what it complained of.
fn command(
    program: &str,
    words: &[&str],
    input: &str,
) -> Result<Result<String, String>, RedirectError> {
    let broken = |problem: std::io::Error| {
        RedirectError::Program(match problem.kind() {
            ErrorKind::NotFound => format!("there is no program `{program}`"),
            _ => format!("{program}: {problem}"),
        })
    };
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(broken)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(broken)?;
    }
    let output = child.wait_with_output().map_err(broken)?;
    if output.status.success() {
        return Ok(Ok(String::from_utf8_lossy(&output.stdout).into_owned()));
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let complaint: String = complaint.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(Err(complaint.chars().take(MOST_WORDS).collect()))
}

fn done(program: &str, words: &[&str], input: &str) -> Result<String, RedirectError> {
    command(program, words, input)?
        .map_err(|complaint| RedirectError::Program(format!("{program}: {complaint}")))
}

pub(super) fn install(redirection: Redirection) -> Result<(), RedirectError> {
    for family in families() {
        let mut jumps = Vec::new();
        for (hook, chain) in JUMPS {
            if !family.jumps(hook, chain)? {
                jumps.push(format!("-A {hook} -j {chain}"));
            }
        }
        let script = family.script(redirection, &jumps);
        done(family.restore, &["-w", LOCK_SECONDS, "--noflush"], &script)?;
    }
    Ok(())
}

pub(super) fn remove() -> Result<(), RedirectError> {
    for family in families() {
        let mut lines = vec!["*nat".to_owned()];
        for (hook, chain) in JUMPS {
            lines.push(format!(":{chain} - [0:0]"));
            if family.jumps(hook, chain)? {
                lines.push(format!("-D {hook} -j {chain}"));
            }
            lines.push(format!("-X {chain}"));
        }
        lines.extend(["COMMIT".to_owned(), String::new()]);
        done(family.restore, &["-w", LOCK_SECONDS, "--noflush"], &lines.join("\n"))?;
    }
    Ok(())
}

pub(super) fn check(redirection: Redirection) -> Result<(), RedirectError> {
    for family in families() {
        let saved = done(family.save, &["-t", "nat"], "")?;
        let ours: Vec<_> = saved
            .lines()
            .map(str::trim_end)
            .filter(|line| {
                line.starts_with(&format!("-A {OUTPUT} "))
                    || line.starts_with(&format!("-A {PREROUTING} "))
            })
            .collect();
        let mut expected = family.rules(redirection).to_vec();
        // Saved chain by chain, in the order of their names or of their making.
        let mut found: Vec<_> = ours.iter().map(ToString::to_string).collect();
        expected.sort_by_key(|line| line.starts_with(&format!("-A {PREROUTING} ")));
        found.sort_by_key(|line| line.starts_with(&format!("-A {PREROUTING} ")));
        let linked = JUMPS.iter().all(|(hook, chain)| {
            let jump = format!("-A {hook} -j {chain}");
            saved.lines().any(|line| line.trim_end() == jump)
        });
        if found != expected || !linked {
            let save = family.save;
            return Err(RedirectError::NotInPlace(format!(
                "the rules that `{save}` shows are others"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_empties_our_chains_and_ends_in_a_commit() {
        let jumps = vec!["-A OUTPUT -j POLICYD_OUTPUT".to_owned()];
        let script = FAMILIES[0].script(Redirection::default(), &jumps);
        assert!(script.starts_with("*nat\n:POLICYD_OUTPUT - [0:0]\n:POLICYD_PREROUTING - [0:0]\n"));
        assert!(script.ends_with("\n-A OUTPUT -j POLICYD_OUTPUT\nCOMMIT\n"));
        assert!(script.contains("--uid-owner 2102 -j RETURN"));
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = command("no-such-program-of-ours", &[], "").unwrap_err();
        assert_eq!(error.to_string(), "there is no program `no-such-program-of-ours`");
    }
}
