//! A request through gate and engine allocates nothing once its connection is warm (design §12: counts, never times).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own rows")]

use std::alloc::System;

use cap::Cap;

#[path = "counts/world.rs"]
mod world;

/// Counts every byte that is ever given out. This file has one test, so that nobody else asks for any meanwhile.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

const REQUESTS: usize = 1_000;

#[test]
fn a_warm_request_allocates_nothing_at_any_number_of_rules() {
    let mut taken = Vec::with_capacity(3);
    for size in [10, 1_000, 100_000] {
        let mut world = world::World::new(size);
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
