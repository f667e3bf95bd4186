//! job_to_image
