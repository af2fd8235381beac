//! A request through gate and engine allocates nothing once its connection is warm, and a table takes little (design §12:
//! counts, never times).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own rows")]

use std::alloc::System;

use cap::Cap;

#[path = "counts/world.rs"]
mod world;

/// Counts every byte that is ever given out. This file has one test, so that nobody else asks for any meanwhile.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

const REQUESTS: usize = 1_000;
/// Of a table, for each rule with a route of its own: 1,400 they were when each name and path had memory of its own.
const MOST_BYTES_A_RULE: usize = 144;

#[test]
fn a_warm_request_allocates_nothing_at_any_number_of_rules() {
    let mut taken = Vec::with_capacity(3);
    for size in [10, 1_000, 100_000] {
        let before = ALLOCATOR.allocated();
        let mut world = world::World::new(size);
        let each = (ALLOCATOR.allocated() - before) / size as usize;
        eprintln!("bytes a rule of {size}: {each}");
        assert!(size < 1_000 || each <= MOST_BYTES_A_RULE, "{each} bytes a rule of {size}");
        for _ in 0..10 {
            world.request();
        }
        let before = ALLOCATOR.total_allocated();
        for _ in 0..REQUESTS {
            world.request();
        }
        taken.push(ALLOCATOR.total_allocated() - before);
    }
    assert_eq!(taken, [0, 0, 0], "bytes for {REQUESTS} requests at 10, 1,000 and 100,000 rules");
}
