//! Names and bytes that no other test of any run uses.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// 20 characters of `[a-z0-9]`, as the producer's ids are.
pub fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_nanos() as u64;
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut number = u128::from(now) << 48 | u128::from(std::process::id() & 0xffff) << 32 | u128::from(count & 0xffff_ffff);
    let mut text = Vec::with_capacity(20);
    for _ in 0..20 {
        text.push(b"abcdefghijklmnopqrstuvwxyz0123456789"[(number % 36) as usize]);
        number /= 36;
    }
    String::from_utf8(text).expect("ASCII")
}

/// Bytes (of ASCII letters, so that they are text too) that compress badly and differ from all others.
pub fn noise(bytes: usize) -> Vec<u8> {
    let mut state =
        unique().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[(state % 64) as usize]
    };
    std::iter::repeat_with(next).take(bytes).collect()
}
