//! PURE: how large a build's files and its image may be, and what is said of those that are larger.

use crate::protocol::{Code, Failure};

/// `CONTEXT_MAX`. `bytes`: all files of the build together; `max` 0: no limit.
pub fn context_within(bytes: u64, max: u64) -> Result<(), Failure> {
    within(max, bytes).map_err(|(has, may)| {
        Failure::new(
            Code::ContextTooLarge,
            format!("The files of the build have {has} together, more than the {may} of CONTEXT_MAX."),
            "Leave out by .dockerignore what the build does not need, or have CONTEXT_MAX raised.",
        )
    })
}

/// `IMAGE_MAX`. `bytes`: the image; `max` 0: no limit.
pub fn image_within(bytes: u64, max: u64) -> Result<(), Failure> {
    within(max, bytes).map_err(|(has, may)| {
        Failure::new(
            Code::ImageTooLarge,
            format!("The image has {has}, more than the {may} of IMAGE_MAX."),
            "Make it smaller (a smaller base image, a build in several stages), or have IMAGE_MAX raised.",
        )
    })
}

/// Both sizes in words.
fn within(max: u64, bytes: u64) -> Result<(), (String, String)> {
    let shown = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    if max == 0 || bytes <= max { Ok(()) } else { Err((shown(bytes), shown(max))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_above_a_limit_is_told_with_its_size_the_limit_and_the_key() {
        let failure = image_within(3 << 20, 2 << 20).unwrap_err();
        assert_eq!(failure.code, Code::ImageTooLarge);
        assert!(failure.cause.contains("3.0 MiB") && failure.cause.contains("2.0 MiB of IMAGE_MAX"), "{failure}");
        let failure = context_within(3 << 20, 1 << 20).unwrap_err();
        assert!(failure.cause.contains("3.0 MiB") && failure.cause.contains("1.0 MiB of CONTEXT_MAX"), "{failure}");
    }

    #[test]
    fn what_is_just_as_large_passes_and_zero_limits_nothing() {
        assert_eq!(image_within(2 << 20, 2 << 20), Ok(()));
        assert_eq!(context_within(u64::MAX, 0), Ok(()));
    }
}
