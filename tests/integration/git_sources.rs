//! git_sources
