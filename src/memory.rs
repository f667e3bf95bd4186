//! How the process gives memory back to the system. All that it needs of the C library for that is here.

/// Above so many bytes a piece of memory goes back to the system as soon as it is free, and not when what lies above it is.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const GIVEN_BACK_ABOVE: i32 = 128 * 1024;
/// Heaps of the C library. It would make eight for each core, and keep in each what a large job had needed there.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const HEAPS: i32 = 2;

/// To be called first in the process, before any other thread: what was made already stays as it is.
///
/// Without it glibc raises the first limit by itself with each large piece that is freed (up to 32 MiB), and a job of 4 MiB leaves
/// the worker 40 MB larger for good.
pub fn give_back_what_is_free() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (setting, value) in
        [(libc::M_MMAP_THRESHOLD, GIVEN_BACK_ABOVE), (libc::M_TRIM_THRESHOLD, GIVEN_BACK_ABOVE), (libc::M_ARENA_MAX, HEAPS)]
    {
        // SAFETY: mallopt takes two numbers, and no other thread is there to allocate meanwhile.
        #[allow(unsafe_code)]
        let taken = unsafe { libc::mallopt(setting, value) };
        debug_assert_eq!(taken, 1, "mallopt({setting}, {value})");
    }
}
