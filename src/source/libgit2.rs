//! The process-wide settings of libgit2 and the registration of our transport. All unsafe code of this stage is here.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use git2::{ConfigLevel, Error};

use super::transport;

/// libgit2 maps whole packs unless told otherwise (measured: 163 MB resident after reading one of 161 MB; 11 MB with these).
const MAPPED_LIMIT: usize = 8 << 20;
const MAPPED_WINDOW: usize = 1 << 20;
/// Objects in one pack. libgit2 keeps about a hundred bytes of each while it indexes; a pack of a single commit has one per file and directory.
const MAX_PACK_OBJECTS: usize = 1_000_000;
/// The largest block that libgit2 may allocate, at least. A pack can claim any size for an object, and one that others are deltas of is
/// inflated whole while the pack is indexed: a few kilobytes would otherwise cost gigabytes. Blobs that are nobody's base are streamed,
/// whatever their size.
const LEAST_BOUND: usize = 128 << 20;
static BOUND: AtomicUsize = AtomicUsize::new(LEAST_BOUND);

/// Sets libgit2 up, once per process; later calls return the first result. `max_file_bytes`: what is built is inflated whole too; the bound
/// on one allocation is twice that, the highest that any caller named.
pub(super) fn prepare(max_file_bytes: u64) -> Result<(), Error> {
    BOUND.fetch_max(usize::try_from(max_file_bytes.saturating_mul(2)).unwrap_or(usize::MAX), Ordering::Relaxed);
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    DONE.get_or_init(|| set_up().map_err(|e| e.message().to_owned())).clone().map_err(|message| Error::from_str(&message))
}

fn set_up() -> Result<(), Error> {
    // No object is read twice in a build, so a cache only costs memory.
    git2::opts::enable_caching(false);
    // SAFETY: these change libgit2's globals, which must not happen while another thread uses them. The crate reaches libgit2 only
    // through this stage, every way into the stage calls `prepare` first, and the OnceLock lets one thread in.
    unsafe {
        bound_allocations()?;
        option(libgit2_sys::GIT_OPT_SET_PACK_MAX_OBJECTS as c_int, MAX_PACK_OBJECTS)?;
        git2::opts::set_mwindow_size(MAPPED_WINDOW)?;
        git2::opts::set_mwindow_mapped_limit(MAPPED_LIMIT)?;
        // The configuration of the host's users (url.insteadOf, proxies) must not change what a job fetches.
        for level in [ConfigLevel::ProgramData, ConfigLevel::System, ConfigLevel::XDG, ConfigLevel::Global] {
            git2::opts::set_search_path(level, "")?;
        }
        // The check protects against hooks and commands in a foreign repository's configuration. Nothing here runs either.
        git2::opts::set_verify_owner_validation(false)?;
        for scheme in ["http", "https"] {
            git2::transport::register(scheme, transport::open)?;
        }
    }
    Ok(())
}

/// libgit2's `git_allocator` (git2/sys/alloc.h).
#[repr(C)]
#[derive(Clone, Copy)]
struct Allocator {
    malloc: extern "C" fn(usize, *const c_char, c_int) -> *mut c_void,
    realloc: extern "C" fn(*mut c_void, usize, *const c_char, c_int) -> *mut c_void,
    free: extern "C" fn(*mut c_void),
}

unsafe extern "C" {
    fn git_stdalloc_init_allocator(allocator: *mut Allocator) -> c_int;
}

static STANDARD: OnceLock<Allocator> = OnceLock::new();

extern "C" fn bounded_malloc(size: usize, file: *const c_char, line: c_int) -> *mut c_void {
    match STANDARD.get() {
        Some(standard) if size <= BOUND.load(Ordering::Relaxed) => (standard.malloc)(size, file, line),
        _ => std::ptr::null_mut(),
    }
}

extern "C" fn bounded_realloc(block: *mut c_void, size: usize, file: *const c_char, line: c_int) -> *mut c_void {
    match STANDARD.get() {
        Some(standard) if size <= BOUND.load(Ordering::Relaxed) => (standard.realloc)(block, size, file, line),
        _ => std::ptr::null_mut(),
    }
}

/// Puts a bound in front of libgit2's own allocator. Blocks of before stay valid: they are freed by the same function.
///
/// # Safety
/// No other thread may be inside libgit2.
unsafe fn bound_allocations() -> Result<(), Error> {
    let mut standard = std::mem::MaybeUninit::<Allocator>::uninit();
    // SAFETY: the function fills all three fields of the structure that it is handed, whose layout is libgit2's.
    let standard = unsafe {
        if git_stdalloc_init_allocator(standard.as_mut_ptr()) != 0 {
            return Err(Error::from_str("libgit2 has no standard allocator"));
        }
        standard.assume_init()
    };
    let standard = *STANDARD.get_or_init(|| standard);
    let mut bounded = Allocator { malloc: bounded_malloc, realloc: bounded_realloc, free: standard.free };
    // SAFETY: libgit2 copies the structure; the functions live as long as the process.
    let code =
        unsafe { libgit2_sys::git_libgit2_opts(libgit2_sys::GIT_OPT_SET_ALLOCATOR as c_int, std::ptr::from_mut(&mut bounded)) };
    if code == 0 { Ok(()) } else { Err(Error::last_error(code)) }
}

/// # Safety
/// `key` must be an option that takes one `size_t`, and no other thread may be inside libgit2.
unsafe fn option(key: c_int, value: usize) -> Result<(), Error> {
    // SAFETY: by the caller's promise.
    let code = unsafe { libgit2_sys::git_libgit2_opts(key, value) };
    if code == 0 { Ok(()) } else { Err(Error::last_error(code)) }
}
