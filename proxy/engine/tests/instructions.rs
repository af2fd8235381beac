//! How many instructions a request takes through gate and engine, and that it doesn't depend on the number of rules.
//!
//! Counted by callgrind, which runs this very program again; where it isn't there the counts aren't held, and that is said.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own rows")]

use std::env;
use std::io::ErrorKind;
use std::process::Command;

#[path = "counts/world.rs"]
mod world;

/// What may be counted, and how many instructions it may take in the build that tests use; a release build takes less.
const COUNTED: [(&str, u64); 2] = [("requests", 9_500), ("decisions", 1_500)];
/// How much more the largest table may take, in percent: paths get longer by some digits.
const MOST_GROWTH: u64 = 10;
const SIZES: [u32; 2] = [10, 10_000];
const ROUNDS: u64 = 2_000;

/// Gate and engine, counted: not a test of its own.
#[test]
#[ignore = "run by the other test, under callgrind"]
fn requests() {
    run(world::World::request);
}

/// The engine alone, likewise.
#[test]
#[ignore = "run by the other test, under callgrind"]
fn decisions() {
    run(world::World::decide);
}

fn run(each: fn(&mut world::World)) {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let (Some(size), Some(rounds)) = (number("COUNTED_RULES"), number("COUNTED_ROUNDS")) else {
        return;
    };
    let mut world = world::World::new(size);
    world.request();
    counted_rounds(&mut world, rounds, each);
}

/// All that callgrind looks at.
#[inline(never)]
fn counted_rounds(world: &mut world::World, rounds: u32, each: fn(&mut world::World)) {
    for _ in 0..rounds {
        each(world);
    }
}

#[test]
fn requests_and_decisions_take_few_instructions_at_any_number_of_rules() {
    for (counted, most) in COUNTED {
        let mut each = Vec::new();
        for size in SIZES {
            let Some(all) = instructions(counted, size) else { return };
            each.push(all / ROUNDS);
        }
        eprintln!("instructions of {counted} at {SIZES:?} rules: {each:?}");
        let (least, dearest) = (each[0], *each.iter().max().unwrap());
        assert!((100..=most).contains(&dearest), "{counted}: {each:?}");
        assert!(
            dearest <= least + least * MOST_GROWTH / 100,
            "{counted} grow with rules: {each:?}"
        );
    }
}

/// The instructions of all rounds; none without valgrind.
fn instructions(counted: &str, size: u32) -> Option<u64> {
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(["--collect-atstart=no", "--toggle-collect=*counted_rounds*"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", counted, "--ignored", "--test-threads=1"])
        .env("COUNTED_RULES", size.to_string())
        .env("COUNTED_ROUNDS", ROUNDS.to_string())
        .output();
    let output = match run {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!(
                "COUNT NOT HELD: valgrind isn't on this machine (the package `valgrind` gives it)"
            );
            return None;
        }
        other => other.unwrap(),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let collected =
        said.lines().find_map(|line| line.split_once("Collected : ")).map(|(_, rest)| rest);
    Some(
        collected
            .unwrap_or_else(|| panic!("callgrind counted nothing: {said}"))
            .trim()
            .parse()
            .unwrap(),
    )
}
