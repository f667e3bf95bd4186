//! The files of this repository, as the documents name them.

use std::fs;
use std::path::{Path, PathBuf};

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file, by its path from the root.
pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Every file below a folder whose name ends so, sorted, by its path from the root.
pub fn files_below(folder: &str, ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path: PathBuf = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path.strip_prefix(root()).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

/// The text of all Rust files below these folders, in one.
pub fn rust_below(folders: &[&str]) -> String {
    folders.iter().flat_map(|folder| files_below(folder, ".rs")).map(|path| read(&path)).collect()
}

/// The folders of the product's own code, in whichever crates it lies.
pub fn product() -> Vec<&'static str> {
    ["src", "crates"].into_iter().filter(|folder| root().join(folder).is_dir()).collect()
}

/// Every file of the product whose name ends so.
pub fn product_files(ending: &str) -> Vec<String> {
    product().into_iter().flat_map(|folder| files_below(folder, ending)).collect()
}
