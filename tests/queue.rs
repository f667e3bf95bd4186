//! The queue protocol against a real Redis: each rule is a test, each test has a server of its own.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "queue/proxy.rs"]
mod proxy;
#[path = "queue/rig.rs"]
mod rig;

#[path = "queue/adopt.rs"]
mod adopt;
#[path = "queue/bounds.rs"]
mod bounds;
#[path = "queue/claim.rs"]
mod claim;
#[path = "queue/crashes.rs"]
mod crashes;
#[path = "queue/ending.rs"]
mod ending;
#[path = "queue/forgotten.rs"]
mod forgotten;
#[path = "queue/hosts.rs"]
mod hosts;
#[path = "queue/late.rs"]
mod late;
#[path = "queue/older.rs"]
mod older;
#[path = "queue/servers.rs"]
mod servers;
#[path = "queue/standing_in.rs"]
mod standing_in;
#[path = "queue/tls.rs"]
mod tls;
#[path = "queue/trouble.rs"]
mod trouble;
